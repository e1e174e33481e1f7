"""The commands of the papers' comparisons: which runs they make, what they tell of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import paper_tables
from benchmarks.paper_tables import (
    COMPARISONS,
    REAL,
    half_width,
    learning_systems,
    of_systems,
    run_all,
    steps_of,
    summary,
    table_of,
)
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Output
from synthaug.pipeline.steps.contract import load_steps


class Recorder:
    """Runs nothing; returns the seed as every number, and ten more for real images."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Mapping[str, Output]:
        self.jobs.append(job)
        numbers = {"miou": job.seed, "AP": 2 * job.seed, "fid": None}
        real = {"real": {"miou": 10 + job.seed}}
        metric = {"values": numbers, "controls": real}
        scores: dict[str, Any] = dict.fromkeys(("segmentation", "dap", "fid"), metric)
        return {"score": Output(Folder.at("."), {"scores": scores})}


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_setting_is_a_job_that_asks_for_the_numbers_of_the_table(
    name: str, tmp_path: Path
) -> None:
    comparison = COMPARISONS[name]
    recorder = Recorder()
    run_all(comparison, tmp_path, ["data.root=."], 1, recorder)
    for job in recorder.jobs:
        wanted = {score for score, _ in comparison.columns.values()}
        assert wanted <= set(job.score.settings)
    assert len(recorder.jobs) == len(comparison.settings)
    assert len({job.sha256() for job in recorder.jobs}) == len(recorder.jobs)


def test_no_image_is_made_besides_those_that_are_scored() -> None:
    job = load_job(Path("coco_stuff_weighted"), ["data.root=."])
    steps = set(steps_of(job))
    assert {"ingest", "leaks", "pseudo_label", "train_generator", "score"} <= steps
    assert not {"plan", "synthesize", "verify", "trial", "report"} & steps


def test_refinement_is_compared_on_one_training(tmp_path: Path) -> None:
    """Six runs in one folder; nothing but what is painted and scored depends on the stages."""
    recorder = Recorder()
    run_all(COMPARISONS["lostgan-8"], tmp_path, ["data.root=."], 1, recorder)
    stages = [job.synthesize.refine_stages for job in recorder.jobs]
    assert ([0, 1, 2, 3, 4, 5], 1) == (stages, len({job.output for job in recorder.jobs}))
    assert {256} == {job.generator.config.resolution for job in recorder.jobs}
    names = ("train_detector", "train_generator", "plan", "synthesize", "score")
    for name, step in load_steps(names).items():
        told = {json.dumps(step.settings(job), sort_keys=True) for job in recorder.jobs}
        assert len(told) == (6 if name in ("synthesize", "score") else 1), name


def test_the_ablation_is_the_mean_of_three_runs(tmp_path: Path) -> None:
    recorder = Recorder()
    comparison = COMPARISONS["panoptic-4"]
    finished = run_all(comparison, tmp_path, ["data.root=."], comparison.seeds, recorder)
    assert [0, 0, 0, 1, 1, 1, 2, 2, 2] == [job.seed for job in recorder.jobs]
    systems = [job.generator.system for job in recorder.jobs[:3]]
    assert ["spade", "panoptic", "panoptic"] == systems
    switches = [job.generator.config.panoptic_upsampling for job in recorder.jobs[1:3]]
    assert [False, True] == switches
    table = table_of(comparison, finished)
    assert {"mIoU": [0, 1, 2], "detAP": [0, 2, 4]} == table["SPADE"]
    assert {"mIoU": [10, 11, 12], "detAP": []} == table[REAL]
    assert "| SPADE | 1 ± 2.5 | 2 ± 5 |" in summary(table)
    assert "| real images | 11 ± 2.5 | – |" in summary(table)


def test_intervals_are_students() -> None:
    """Of a table of quantiles: 12.706 for two values, 2.776 for five."""
    assert half_width([0.0, 2.0]) == pytest.approx(12.706, abs=1e-3)
    assert half_width([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.776 * 0.5**0.5, abs=1e-3)


def test_what_is_not_measured_is_a_dash() -> None:
    assert summary({"a": {"IS": [], "FID": [1.5]}}).endswith("| a | – | 1.5 |\n")


def test_semi_supervised_settings_have_one_judge(tmp_path: Path) -> None:
    recorder = Recorder()
    run_all(COMPARISONS["lostgan-5"], tmp_path, ["data.root=."], 1, recorder)
    first, *others = recorder.jobs
    judge = f"{first.output}/checkpoints/detector.safetensors"
    assert [judge] * 3 == [job.score.detector for job in others]


def test_systems_share_all_but_the_generator_and_each_may_have_keys_of_its_own(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    comparison = of_systems("smoke", ["boxes", "spade"], {"spade": ["generator.steps=7"]})
    run_all(comparison, tmp_path, ["generator.steps=5", "detector.steps=3"], 2, recorder)
    told = [(job.generator.system, job.seed, job.generator.training.steps) for job in recorder.jobs]
    assert [("boxes", 0, 5), ("spade", 0, 7), ("boxes", 1, 5), ("spade", 1, 7)] == told
    for boxes, spade in (recorder.jobs[:2], recorder.jobs[2:]):
        assert boxes.output == spade.output
        assert boxes.detector == spade.detector
    assert recorder.jobs[0].output != recorder.jobs[2].output


def test_systems_are_those_of_the_papers_unless_they_are_named() -> None:
    named = {"lostgan", "sg2im", "layout2im", "grid2im", "spade", "panoptic"}
    named |= {"pix2pix", "crn", "sims"}
    assert named <= set(learning_systems())
    assert not {"fill", "copy_paste", "posthoc", "diffusers"} & set(learning_systems())
    with pytest.raises(JobError, match="--systems: there is no 'spad'; did you mean 'spade'"):
        of_systems("smoke", ["spad"], {})
    with pytest.raises(JobError, match="--systems: copy_paste paints no whole images"):
        of_systems("smoke", ["copy_paste"], {})


TINY = (
    "cluster.executor=serial",
    "data.labelled=toy:train?count=8",
    "data.unlabelled=",
    "data.validation=toy:val?count=4",
    "detector.width=4",
    "detector.fpn_channels=8",
    "detector.box_head=8",
    "detector.image_size=32",
    "detector.steps=1",
    "generator.steps=1",
    "score.names=[dap]",
    "score.dap.samples_per_layout=1",
    "score.dap.resamples=2",
    "lostgan:generator.width=2",
    "lostgan:generator.batch=2",
)


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["paper_tables", *words])
    paper_tables.main()


@pytest.mark.timeout(120)
def test_the_command_prints_a_table_and_leaves_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Overrides may come after options; a second call trains nothing and finds the same."""
    words = ("systems", str(tmp_path), "--systems", "boxes,lostgan", "--seeds", "1", *TINY)
    command(monkeypatch, *words)
    printed = capsys.readouterr().out
    table = (tmp_path / "summary.md").read_text()
    assert printed.rstrip().endswith(table.rstrip())
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines()]
    assert ["setting", "real images", "boxes", "lostgan"] == [rows[0], *rows[2:]]
    folders = list((tmp_path / "systems-0" / "steps").iterdir())
    counted = [folder.name.split("-")[0] for folder in folders]
    assert (1, 2) == (counted.count("train_detector"), counted.count("train_generator"))
    with Image.open(tmp_path / "sheet.png") as page:
        pixels = np.asarray(page)
    assert pixels.shape == (18 + 4 * 166, 6 + 4 * 166, 3)
    before = {folder: folder.stat().st_mtime_ns for folder in folders}
    command(monkeypatch, *words)
    assert before == {folder: folder.stat().st_mtime_ns for folder in before}
    assert table == (tmp_path / "summary.md").read_text()


def test_a_wrong_word_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, "systems", str(tmp_path), "--systems", "boxes", "generator.stps=1")
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "generator.stps" in told
    assert 1 == len(told.splitlines())

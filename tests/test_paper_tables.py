"""The commands of the papers' comparisons: which runs they make, what they tell of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.paper_tables import COMPARISONS, compare, summary
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.steps.contract import load_steps


class Recorder:
    """Runs nothing; returns the seed as every number."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Mapping[str, Any]:
        self.jobs.append(job)
        numbers = {"miou": job.seed, "AP": 2 * job.seed, "fid": None}
        return {"scores": {name: {"values": numbers} for name in ("segmentation", "dap", "fid")}}


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_setting_is_a_job_that_asks_for_the_numbers_of_the_table(
    name: str, tmp_path: Path
) -> None:
    comparison = COMPARISONS[name]
    recorder = Recorder()
    compare(comparison, tmp_path, ["data.root=."], 1, recorder)
    for job in recorder.jobs:
        wanted = {score for score, _ in comparison.columns.values()}
        assert wanted <= set(job.score.settings)
    assert len(recorder.jobs) == len(comparison.settings)
    assert len({job.sha256() for job in recorder.jobs}) == len(recorder.jobs)
    assert {(1, False)} == {(job.plan.count, job.verify.enabled) for job in recorder.jobs}


def test_refinement_is_compared_on_one_training(tmp_path: Path) -> None:
    """Six runs in one folder; nothing but what is painted and scored depends on the stages."""
    recorder = Recorder()
    compare(COMPARISONS["lostgan-8"], tmp_path, ["data.root=."], 1, recorder)
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
    table = compare(comparison, tmp_path, ["data.root=."], comparison.seeds, recorder)
    assert [0, 0, 0, 1, 1, 1, 2, 2, 2] == [job.seed for job in recorder.jobs]
    systems = [job.generator.system for job in recorder.jobs[:3]]
    assert ["spade", "panoptic", "panoptic"] == systems
    switches = [job.generator.config.panoptic_upsampling for job in recorder.jobs[1:3]]
    assert [False, True] == switches
    assert {"mIoU": [0, 1, 2], "detAP": [0, 2, 4]} == table["SPADE"]
    assert "| SPADE | 1 ± 1 | 2 ± 2 |" in summary(table)


def test_what_is_not_measured_is_a_dash() -> None:
    assert summary({"a": {"IS": [], "FID": [1.5]}}).endswith("| a | – | 1.5 |\n")


def test_semi_supervised_settings_have_one_judge(tmp_path: Path) -> None:
    recorder = Recorder()
    compare(COMPARISONS["lostgan-5"], tmp_path, ["data.root=."], 1, recorder)
    first, *others = recorder.jobs
    judge = f"{first.output}/checkpoints/detector.safetensors"
    assert [judge] * 3 == [job.score.detector for job in others]

"""The job of the joint training runs, and its benchmark has a control."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import joint_training
from benchmarks.paper_tables import run_all
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Output
from synthaug.pipeline.run import Console, run
from tests import paths

SIZES = (
    *("cluster.executor=serial", "checks=report", "data.labelled=toy:train?count=12"),
    *("data.unlabelled=toy:unlabelled?count=6", "data.validation=toy:val?count=6"),
    *("detector.steps=2", "detector.batch=2", "detector.width=4", "detector.image_size=64"),
    *("generator.steps=2", "generator.batch=2", "generator.width=4", "generator.width_d=4"),
    *("joint.batch=2", "joint.unlabelled_batch=2", "joint.synthetic=1", "joint.synthetic_from=0"),
    *("plan.count=4", "verify.steps=2", "report.samples=2"),
    *("score.cas.steps=2", "score.cas.batch=8", "score.cas.samples_per_layout=1"),
    "score.dap.resamples=2",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_job_runs_to_its_report_and_leaves_both_networks(tmp_path: Path) -> None:
    job = load_job(Path("joint"), SIZES, str(tmp_path / "run"))
    output = run(job, Console(lambda _: None, lambda *_: None))
    checkpoints = set(output.sub("checkpoints").names())
    assert {"generator.safetensors", "joint_detector.safetensors"} <= checkpoints
    assert output.exists("report.html")
    measured = json.loads(output.read_bytes("metrics.json"))
    assert set(measured["joint"]) == {"before", "after"}


def test_the_header_leaves_out_every_lesson() -> None:
    header = (paths.JOBS / "joint.yaml").read_text().partition("defaults")[0]
    for key in joint_training.LESSONS.values():
        assert key in header


def test_arms_differ_in_their_lessons_alone(tmp_path: Path) -> None:
    jobs: list[Job] = []

    def record(job: Job) -> Mapping[str, Output]:
        jobs.append(job)
        values = {"AP50": 0.5 + job.seed, "AP": 0.2, "top1": 0.7, "balanced": 0.6}
        scores = {"dap": {"values": values}, "cas": {"values": values}}
        before = {"AP50": 0.1, "AP": 0.0}
        trained = {"joint": {"before": before, "after": {"AP50": 0.2, "AP": 0.1}}}
        place = Folder.at(".")
        outputs = {"score": {"scores": scores}, "train_generator": trained}
        return {name: Output(place, manifest) for name, manifest in outputs.items()}

    comparison = joint_training.comparison_of(("apart", "joint", "recognition"))
    finished = run_all(comparison, tmp_path, joint_training.SMALL, 2, record)
    lessons = [
        (job.joint.relabel, job.joint.recognition > 0, job.joint.synthetic > 0) for job in jobs
    ]
    assert lessons[:3] == [(False, False, False), (True, True, True), (False, True, False)]
    folders = {(job.seed, job.output) for job in jobs}
    assert len(folders) == 2, "the arms of a seed share its detector"
    text = joint_training.table(finished)
    assert "| apart | 1.000 (0.500, 1.500) |" in text
    assert "detector AP50 after" in text

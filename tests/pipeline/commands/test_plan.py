"""`synthaug plan`: what a job lacks and would make, before any training."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.commands.plan import PAGE, plan
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.run import Console
from tests.paths import JOBS

SMALL = [
    "cluster.executor=serial",
    "data.labelled=toy:train?count=12",
    "data.unlabelled=''",
    "data.validation=toy:val?count=2",
    "plan.count=6",
    "report.samples=2",
]


def job_of(folder: Path, *overrides: str) -> Job:
    return load_job(JOBS / "base.yaml", [*SMALL, *overrides], str(folder / "run"))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def console(told: list[str]) -> Console:
    return Console(told.append, lambda *_: None)


def test_the_plan_is_a_page_and_trains_nothing(
    tmp_path: Path, console: Console, told: list[str]
) -> None:
    lines = plan(job_of(tmp_path), console)
    assert lines[-1] == f"page: {tmp_path}/run/{PAGE}"
    page = (tmp_path / "run" / PAGE).read_text()
    assert page.count("<svg") >= 2 and "balloon" in page
    steps = {path.name.split("-")[0] for path in (tmp_path / "run" / "steps").iterdir()}
    assert steps == {"ingest", "plan"}
    assert [line for line in told if line.startswith("[")] == ["[1/2] ingest", "[2/2] plan"]


def test_a_second_call_goes_on_from_what_is_there(
    tmp_path: Path, console: Console, told: list[str]
) -> None:
    first = plan(job_of(tmp_path), console)
    told.clear()
    assert plan(job_of(tmp_path), console) == first
    assert told == ["[1/2] ingest: finished earlier", "[2/2] plan: finished earlier"]


def test_a_class_that_is_not_there_is_told_before_anything_is_read(
    tmp_path: Path, console: Console, told: list[str]
) -> None:
    job = job_of(tmp_path, "plan.target=counts", "plan.counts={zebra: 3}")
    with pytest.raises(JobError, match=r"^plan\.counts\.zebra: the data has no such class"):
        plan(job, console)
    assert told == ["[1/2] ingest"]

"""What a run shows at the top of its output folder is of this run, and its errors come in time."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import synthaug.pipeline.run as running
from synthaug.pipeline.commands import export, generate, mend, score
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError, RunError, WeakLinkError
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.progress import DONE, EARLIER, RUNNING, WAITING
from synthaug.pipeline.formats.source_files import OUR_FILES
from synthaug.pipeline.run import (
    JOB,
    METRICS,
    STEPS,
    Console,
    _locked,
    check,
    check_links,
    check_output,
    metrics,
    publish,
    run,
    run_some,
)
from synthaug.pipeline.steps import ingest
from synthaug.pipeline.steps.contract import Step, load_steps, read_step
from tests.paths import JOBS


@pytest.mark.parametrize(("step", "file"), [("trial", "trial.md"), ("score", "nearest.jpg")])
def test_a_file_of_an_earlier_run_goes_when_this_one_has_none(
    tmp_path: Path, step: str, file: str
) -> None:
    output, first, second = (
        Folder.at(tmp_path / name).create() for name in ("out", "first", "second")
    )
    first.write_bytes(file, b"earlier")
    output.write_bytes("job.yaml", b"kept")
    published = load_steps()[step].publishes
    publish(published, first, output)
    assert output.read_bytes(file) == b"earlier"
    publish(published, second, output)
    assert output.names() == ["job.yaml"]
    publish(published, second, output)  # nothing there to remove


def test_shards_of_an_earlier_longer_plan_go(tmp_path: Path) -> None:
    output, first, second = (
        Folder.at(tmp_path / name).create() for name in ("out", "first", "second")
    )
    for folder, count in ((first, 2), (second, 1)):
        for number in range(count):
            folder.write_bytes(f"part-{number}.parquet", b"rows")
    published = load_steps()["verify"].publishes
    publish(published, first, output)
    publish(published, second, output)
    assert output.sub("data").names() == ["part-0.parquet"]


def test_a_weak_link_stops_unless_the_job_wants_it_told_only() -> None:
    lines: list[str] = []
    console = Console(lines.append, lambda *_: None)
    holds = Link("detector", "ok", "AP50 0.9")
    named = Link("pseudo-labels", "weak", "no labels")
    broken = Link("generator", "weak", "nothing is recognised", "train longer", stops=True)
    check_links("verify", [holds, named], "stop", console)
    assert lines == ["  weak: pseudo-labels: no labels"]
    with pytest.raises(
        WeakLinkError, match=r"^step verify: generator: nothing is recognised; train"
    ):
        check_links("verify", [broken], "stop", console)
    check_links("verify", [broken], "report", console)
    assert lines[1:] == ["  weak: generator: nothing is recognised; train longer"]


def test_the_states_of_all_steps_are_told(tmp_path: Path) -> None:
    told: list[dict[str, str]] = []
    job = load_job(JOBS / "smoke.yaml", ["cluster.executor=serial"], str(tmp_path / "run"))
    for _ in range(2):
        console = Console(lambda _: None, lambda *_: None, lambda states: told.append(dict(states)))
        run_some(job, console, ("ingest", "leaks"))
    first = [
        {"ingest": RUNNING, "leaks": WAITING},
        {"ingest": DONE, "leaks": WAITING},
        {"ingest": DONE, "leaks": RUNNING},
        {"ingest": DONE, "leaks": DONE},
    ]
    assert first == told[:4]
    assert {"ingest": EARLIER, "leaks": EARLIER} == told[-1]


def test_numbers_of_two_steps_under_one_key_stand_side_by_side(tmp_path: Path) -> None:
    steps = load_steps(("leaks", "copies"))
    results = {"seconds": 1.0, "sha256": "ab"}
    done = {
        "leaks": Output(Folder.at(tmp_path / "leaks-12"), {**results, "pairs": {"leak": 1}}),
        "copies": Output(Folder.at(tmp_path / "copies-34"), {**results, "pairs": {"leak": 2}}),
    }
    content = metrics(load_job(JOBS / "smoke.yaml"), steps, done)
    assert content["leaks"] == {"leaks": {"leak": 1}, "copies": {"leak": 2}}
    assert content["splits_sha256"] == "ab"
    assert content["steps"] == {"leaks": "leaks-12", "copies": "copies-34"}


def test_what_only_the_data_shows_is_said_before_a_step_runs(tmp_path: Path) -> None:
    lines: list[str] = []
    job = load_job(
        JOBS / "smoke.yaml",
        ["self_train.thresholds={zebra: 0.5}", "cluster.executor=serial"],
        str(tmp_path / "run"),
    )
    with pytest.raises(JobError, match=r"^self_train\.thresholds: there is no class 'zebra'"):
        run_some(
            job, Console(lines.append, lambda *_: None), ("ingest", "train_detector", "self_train")
        )
    assert lines == ["[1/3] ingest"]


def test_a_step_that_derives_decides_for_all_but_those_that_see_the_job_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Job] = {}

    def step(name: str, result: dict[str, Any], **parts: Any) -> Step:
        def note(context: Context) -> dict[str, Any]:
            seen[name] = context.job
            return result

        module = ModuleType(name)
        vars(module).update(NEEDS=(), VERSION=1, PUBLISHES=(), settings=lambda job: {}, run=note)
        vars(module).update(parts)
        return read_step(name, module)

    photos = {"images": 192, "shorter": 240, "longer": 320, "objects": [0.05, 0.11, 0.3]}
    steps = {
        "reads": step("reads", {"measured": photos}, AS_ASKED=True, derived=ingest.derived),
        "train_detector": step("train_detector", {}),
        "trial": step("trial", {}),
        "shows": step("shows", {}, AS_ASKED=True),
    }
    monkeypatch.setattr(running, "load_steps", lambda names=(): steps)
    lines: list[str] = []
    folder = tmp_path / "run"
    job = load_job(
        JOBS / "smoke.yaml",
        ["detector.backbone=auto", "detector.steps=0", "cluster.executor=serial"],
        str(folder),
    )
    run_some(job, Console(lines.append, lambda *_: None), tuple(steps))

    assert seen["reads"] == seen["shows"] == job
    decided = seen["train_detector"]
    assert decided == seen["trial"] == load_job(folder / "job.derived.yaml")
    assert decided.detector.config.backbone == "lite0"
    assert decided.detector.training.steps == 1440  # 30 times 192 images, 4 at a time
    assert ["backbone lite0" in line for line in lines].count(True) == 1


@pytest.mark.parametrize("name", ["coco/images/mine.jpg", "data/train.parquet", "job.yaml"])
def test_files_of_others_in_the_output_folder_are_refused_and_stay(
    tmp_path: Path, name: str
) -> None:
    """The step `export` would remove coco/images/mine.jpg as a picture of an earlier run."""
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    top = name.split("/")[0]
    job = load_job(JOBS / "smoke.yaml", ["cluster.executor=serial"], str(tmp_path / "out"))
    console = Console(lambda _: None, lambda *_: None)
    for start in (check, run):
        with pytest.raises(JobError, match=f"out holds '{top}', which no run has made"):
            start(job, console)
    assert mine.read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [top]


def test_an_output_folder_with_other_files_or_of_a_run_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    check_output(str(tmp_path))
    (tmp_path / "coco").mkdir()
    (tmp_path / "steps").mkdir()
    check_output(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "notes.txt", "steps"]


def test_a_run_on_an_object_store_that_failed_at_once_may_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left its job and no step yet."""
    monkeypatch.setattr(Folder, "is_local", property(lambda self: False))
    output = Folder.at(tmp_path)
    with _locked(output):
        output.write_bytes("job.yaml", b"name: x")
    check_output(str(tmp_path))


class Asked(BaseException):
    """A stop, as the command line raises it for SIGTERM."""


@pytest.mark.parametrize(("cause", "raised"), [(Asked(), Asked), (ValueError("b"), RunError)])
def test_a_stop_inside_a_compiled_function_is_a_stop(
    cause: BaseException, raised: type[BaseException], tmp_path: Path
) -> None:
    def run(_: Any) -> Any:
        raise SystemError("returned a result with an exception set") from cause

    step = SimpleNamespace(name="plan", run=run)
    context = SimpleNamespace(folder=Folder.at(tmp_path))
    with pytest.raises(raised):
        running._run_step(step, "key", context, {})  # type: ignore[arg-type]


def test_readers_know_the_folders_that_commands_write() -> None:
    """They pass such a folder by where it lies in a set."""
    written = (
        (JOB, STEPS),
        (export.RECORD, "README.md"),
        (mend.FILE, mend.CHANGES),
        (METRICS, score.PAGE),
        (generate.RECORD, "images"),
    )
    assert written == OUR_FILES

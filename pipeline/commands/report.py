"""`synthaug report`: a run's page again, or one that compares runs.

From what is on disk, finished or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.report import comparison_page as report_compare
from synthaug.pipeline.report import gallery as report_gallery
from synthaug.pipeline.report.comparison_page import ComparedRun
from synthaug.pipeline.report.pictures import full_picture
from synthaug.pipeline.run import step_key
from synthaug.pipeline.steps import report as step
from synthaug.pipeline.steps.contract import load_steps

COMPARISON = "comparison.html"
MOST = 8  # runs side by side that a page has room for
PICTURES, SIDE = 8, 224  # images of each run, the longer side of one in pixels


@dataclass(frozen=True)
class Found:
    """Content of a run folder: its job, and the newest finished output of each step."""

    path: Path
    job: Job
    folders: dict[str, str]
    manifests: dict[str, Json]
    notes: tuple[str, ...] = ()


def report(runs: Sequence[Path], out: Path | None) -> list[str]:
    """Write the page of one run, or the comparison of several.

    Returns the lines for the terminal.
    """
    if not runs:
        raise JobError("RUN: give the output folder of at least one run")
    if len(runs) > MOST:
        raise JobError(
            f"RUN: {len(runs)} runs are too many to compare on one page; give at most {MOST}"
        )
    found = [look(path) for path in runs]
    if len(found) == 1:
        target = out or runs[0] / step.PAGE
        (only,) = found
        page = step.page(_spec(only))
        return [_write(target, page), *only.notes]
    target = out or Path(COMPARISON)
    title = "Comparison"
    if out:
        title = out.stem
    page = report_compare.render([_compared_run(run) for run in found], title)
    lines = [_write(target, page)]
    for run in found:
        for note in run.notes:
            lines.append(f"{run.path}: {note}")
    return lines


def look(path: Path) -> Found:
    """Read what a run folder holds.

    Raises JobError where it is none or has no finished ingest step.

    A step's output counts as the job's own when it is where the job of today would put it. Else the
    newest finished one is taken, and named in the notes, because it may come from other settings or
    another version of synthaug; but never one that is older than what it would be made from: that
    one tells of something else, and the step counts as not done.
    """
    if not (path / "job.yaml").is_file():
        raise JobError(
            f"{path}: not a run folder (it has no job.yaml); give the --output folder of a run"
        )
    job = load_job(path / "job.yaml")
    folders, other = _outputs(path, job)
    if "ingest" not in folders:
        raise JobError(
            f"{path}: its first step, ingest, is not finished, so there is nothing to report; run "
            "the job"
        )
    manifests = {name: Folder.at(folder).read_json(MANIFEST) for name, folder in folders.items()}
    notes = []
    if other:
        notes.append(
            f"Of {', '.join(other)} the newest finished output is used: it was made with other "
            "settings than job.yaml says now, or by another version of synthaug."
        )
    paths = {name: str(folder) for name, folder in folders.items()}
    return Found(path, job, paths, manifests, tuple(notes))


def _outputs(path: Path, job: Job) -> tuple[dict[str, Path], list[str]]:
    """Return the output folder of each step, and the steps of another job.

    Those are the steps whose folder is not the job's own.
    """
    keys: dict[str, str] = {}
    folders: dict[str, Path] = {}
    other: list[str] = []
    outdated: set[str] = set()
    for name, made in load_steps().items():
        if name == "report":
            continue
        keys[name] = step_key(job, made, keys)
        own = path / "steps" / f"{name}-{keys[name]}"
        finished = [p for p in (path / "steps").glob(f"{name}-*") if (p / MANIFEST).is_file()]
        newest = max(finished, key=_finished, default=None)
        needs = made.needs_of(job)
        inputs = [_finished(folders[need]) for need in needs if need in folders]
        if own in finished:
            folders[name] = own
        elif newest and not outdated & set(needs) and _finished(newest) >= max(inputs, default=0):
            folders[name] = newest
            other.append(name)
        elif newest:
            outdated.add(name)
    return folders, other


def _finished(folder: Path) -> int:
    return (folder / MANIFEST).stat().st_mtime_ns


def _spec(found: Found) -> step.Spec:
    return step.Spec(found.job, found.manifests, found.folders, "", found.notes)


def _compared_run(found: Found) -> ComparedRun:
    """Return the column of a run.

    Its images have the same indices as those of the others.
    """
    spec = _spec(found)
    run = spec.run()
    pictures = []
    if run.manifests["synthesize"]["images"] and found.job.report.samples:
        table = spec.table("synthesize")
        scenes = [table[place] for place in report_gallery.spread(len(table), PICTURES)]
        pictures = [full_picture(s, decode(s), table.categories, SIDE) for s in scenes]
    return ComparedRun(
        found.job.report.title or found.job.name, found.path.resolve().name, run, pictures
    )


def _write(target: Path, page: bytes) -> str:
    try:
        Folder.at(target.parent).write_bytes(target.name, page)
    except OSError as err:
        raise JobError(
            f"--out: cannot write {target} ({err.strerror}); give a file in a folder you may write "
            "to"
        ) from err
    return f"{target}, {len(page) / 1e6:.1f} MB"

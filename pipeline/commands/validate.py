"""Say what is in data sets and what is wrong with them, and write them mended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.commands.next_steps import next_step
from synthaug.pipeline.core.errors import DatasetError, JobError, one_line, printable
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.readable import UNREADABLE, check_content
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.formats.reference import open_dataset, parse, split
from synthaug.pipeline.survey.findings import (
    ALL_CROWDS,
    ERROR,
    NO_IMAGE,
    NO_OBJECT,
    WARNING,
    Finding,
    findings,
)
from synthaug.pipeline.survey.record import record, state
from synthaug.pipeline.survey.tally import Tally, tally
from synthaug.pipeline.survey.text import finding_lines, set_lines
from synthaug.pipeline.survey.workers import num_workers

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Request:
    """Words of the command line."""

    datasets: tuple[str, ...]
    root: str = "."
    strict: bool = False
    json: str = ""  # file
    html: str = ""  # file
    fix: str = ""  # folder

    def __post_init__(self) -> None:
        if self.fix and len(self.datasets) > 1:
            raise JobError("--fix: mends one data set at a time; name one")
        if self.fix and Path(self.fix).exists():
            raise JobError(f"--fix: {self.fix} is there already; name a folder that is not")


class WarningsError(DatasetError):
    """There are warnings, and --strict was asked for."""

    exit_code = 1


def validate(request: Request, progress: Progress) -> Iterator[str]:
    """Yield what is in the data sets and what is wrong with them.

    Raises DatasetError at the end where records are wrong or nothing is there, and WarningsError
    where there are warnings under --strict. With --fix what was mended is no error.
    """
    root = Path(request.root)
    tallies = []
    stops = []
    for reference in request.datasets:
        table = _open(reference, root, request)
        tallies.append(tally(reference, table, num_workers(len(table)), progress))
        stops.append(not _leaves_out(reference, root))
    found = findings(tallies, stops)
    content = record(tallies, found)
    several = len(tallies) > 1
    for own, counted in zip(content["sets"], tallies, strict=True):
        if several:
            yield printable(counted.reference)
        state = _state_line(found)
        if several:
            state = "read"
        yield from set_lines(own, state)
    if several:
        yield f"all: {_state_line(found)}"
    yield from finding_lines(found, several)
    yield from _files(request, content, tallies)
    for counted in tallies:
        _check_content(counted)
    if request.fix:
        from synthaug.pipeline.commands.mend import mend

        yield from mend(tallies[0], Path(request.fix), progress)
        yield next_step(("init", request.fix), "a job for the mended data")
        return
    _raise_for(found, request.strict)
    if request.root == "." and any(counted.table.has_labels for counted in tallies):
        yield next_step(("init", *request.datasets), "a job for this data")


def _open(reference: str, root: Path, request: Request) -> Dataset:
    """Open a data set so that every wrong record is told, not the first one alone."""
    defaults = {"on_bad": "skip"}
    if request.fix:
        defaults["outside"] = "clip"
    return open_dataset(reference, root, "DATASET", defaults)


def _leaves_out(reference: str, root: Path) -> bool:
    """Whether a reference says itself that wrong records are left out."""
    rules = []
    for part in split(reference):
        _, options = parse(part.strip(), "DATASET", root)
        rules.append(options.get("on_bad"))
    return all(rule == "skip" for rule in rules)


def _state_line(found: Sequence[Finding]) -> str:
    """Return the state of sets in words."""
    wrong = 0
    is_empty = False
    for finding in found:
        if finding.what in (NO_IMAGE, NO_OBJECT, ALL_CROWDS):
            is_empty = True
        elif finding.level == ERROR:
            wrong += finding.count
    warnings = sum(finding.level == WARNING for finding in found)
    if wrong:
        return f"{wrong} {_plural(wrong, 'record is', 'records are')} wrong"
    if is_empty:
        return "nothing to learn from"
    if warnings:
        return f"in order but for {warnings} {_plural(warnings, 'warning', 'warnings')}"
    return "in order"


def _plural(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _check_content(counted: Tally) -> None:
    """Raise DatasetError for a set in which nothing can be read or nothing is there."""
    unreadable = counted.skipped.names.get(UNREADABLE)
    if unreadable and not counted.images:
        raise DatasetError(
            f"{counted.reference}: not one of its {len(counted.table)} images can be read; "
            f"the first: {unreadable[0]}"
        )
    check_content(
        counted.reference, counted.table, counted.images, counted.num_objects - counted.crowds
    )


def _raise_for(found: Sequence[Finding], strict: bool) -> None:
    for finding in found:
        if finding.level == ERROR:
            first = finding.names[0] if finding.names else finding.what
            raise DatasetError(f"{first}; {_state_line(found)}, named above")
    if strict and state(found) == WARNING:
        raise WarningsError(f"{_state_line(found)}, and --strict was given")


# --- files ---


def _files(request: Request, content: Json, tallies: Sequence[Tally]) -> Iterator[str]:
    """Write what was asked for and say where."""
    if request.json:
        text = json.dumps(content, indent=1, allow_nan=False)
        yield _written("--json", request.json, text.encode())
    if request.html:
        from synthaug.pipeline.report import survey_page  # with all that pages need

        shown = [survey_page.pictures(counted.table, counted.index) for counted in tallies]
        yield _written("--html", request.html, survey_page.render(content, shown))


def _written(flag: str, name: str, data: bytes) -> str:
    try:
        Path(name).write_bytes(data)
    except OSError as err:
        raise JobError(f"{flag}: cannot write {name} ({one_line(err)}); choose another") from err
    return f"wrote {name}"

"""Sources of an export: the parts of a run, or any data sets, opened by split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import MANIFEST
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset, parse

PARTS = {
    "labelled": "train",
    "pseudo": "train",
    "synthetic": "train",
    "validation": "val",
}  # of a run -> split
SETS = {
    "labelled": "real",
    "validation": "validation",
}  # what they are called in the export; others as they are
USUAL = ("labelled", "synthetic", "validation")
Splits = dict[str, dict[str, Dataset]]  # split -> set -> table


@dataclass(frozen=True)
class Request:
    """Words of the command line."""

    source: str  # a run folder, or a data set `format:path`
    to: str
    out: str
    parts: str = ""  # of a run, separated by commas; "" = USUAL
    added: tuple[str, ...] = ()  # data sets that join the training images
    val: str = ""  # data set of validation images
    root: str = "."

    @property
    def run(self) -> Path | None:
        """Return the run folder, when the source is one."""
        folder = Path(self.root) / self.source
        return folder if (folder / "job.yaml").is_file() else None

    @property
    def title(self) -> str:
        """Return the name of the export, without a folder of this machine in it."""
        if self.run:
            return str(read_object(self.run / "metrics.json").get("job", self.run.name))
        name, options = parse(self.source.split(" + ")[0])
        return Path(options["path"]).name or name


def open_splits(request: Request) -> Splits:
    """Open everything; split -> set -> table, without empty splits."""
    root = Path(request.root)
    splits: Splits = {"train": {}, "val": {}}
    train = splits["train"]
    val = splits["val"]
    if request.run:
        for part in _parts(request.parts):
            splits[PARTS[part]][SETS.get(part, part)] = _part_of_run(request.run, part)
    elif request.parts:
        raise JobError(
            f"--parts: only a run has parts, and {request.source!r} is none (it has no job.yaml)"
        )
    elif ":" not in request.source:
        raise JobError(
            f"{request.source}: neither a run folder (it has no job.yaml) nor a data set; write "
            "format:path"
        )
    else:
        train["set1"] = open_dataset(request.source, root, key="SOURCE")
    for reference in request.added:
        train[f"set{len(train) + 1}"] = open_dataset(reference, root, key="--with")
    if request.val:
        val[f"val{len(val) + 1}"] = open_dataset(request.val, root, key="--val")
    return {split: sets for split, sets in splits.items() if sets}


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(word.strip() for word in text.split(",") if word.strip()) or USUAL
    for part in parts:
        if part not in PARTS:
            raise JobError(f"--parts: a run has no '{part}'{suggest(part, PARTS)}")
    return tuple(dict.fromkeys(parts))


def _part_of_run(run: Path, part: str) -> Dataset:
    folder = _folder_of_part(run, part)
    if folder is None or not any(folder.glob("*.parquet")):
        raise JobError(
            f"{run}: has no {part} images (not run so far, or its steps/ is gone); leave '{part}' "
            "out of --parts"
        )
    return parquet.open_table(folder)


def _folder_of_part(run: Path, part: str) -> Path | None:
    """Return the folder of a part's table; None when its step is not finished."""
    if part == "synthetic":
        return run / "data"
    if part == "pseudo":
        return step_folder(run, "pseudo_label")
    ingest = step_folder(run, "ingest")
    return None if ingest is None else ingest / part


def step_folder(run: Path, step: str) -> Path | None:
    """Return the folder of a finished step.

    The one metrics.json names, else the one finished last.
    """
    named = read_object(run / "metrics.json").get("steps", {}).get(step, "")
    folders = (run / "steps").glob(f"{step}-*")
    finished = [folder for folder in folders if (folder / MANIFEST).is_file()]

    def rank(folder: Path) -> tuple[bool, int]:
        return folder.name == named, (folder / MANIFEST).stat().st_mtime_ns

    return max(finished, key=rank, default=None)


def read_object(file: Path) -> Json:
    """Return a JSON object; an empty one when there is no such file."""
    if not file.is_file():
        return {}
    content = Folder.at(file.parent).read_json(file.name)
    return content if isinstance(content, dict) else {}

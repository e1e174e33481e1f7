"""Give a run, or any data set, to other tools: real and synthetic images merged, in their format, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.context import MANIFEST
from pipeline.dataset_card import Facts, RunFacts, SetCounts, card
from pipeline.errors import JobError, suggest
from pipeline.formats import FORMATS, hf, parquet
from pipeline.formats.merge import Merged, unite
from pipeline.formats.pictures import upright
from pipeline.formats.reference import open_dataset
from pipeline.run import versions
from pipeline.scene import Category, Dataset, Scene
from pipeline.storage import Folder

RECORD = "export.json"  # marks a finished export
VERSION = 1  # raised when what is written changes
PARTS = {"labelled": "train", "pseudo": "train", "synthetic": "train", "validation": "val"}  # of a run -> split
SETS = {"labelled": "real", "validation": "validation"}  # what they are called in the export; others as they are
USUAL = ("labelled", "synthetic", "validation")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Request:
    """What the command line says."""

    source: str  # a run folder, or a data set `format:path`
    to: str
    out: str
    parts: str = ""  # of a run, separated by commas; "" = USUAL
    added: tuple[str, ...] = ()  # data sets that join the training images
    val: str = ""  # data set of validation images
    root: str = "."


Splits = dict[str, dict[str, Dataset]]  # split -> set -> table


class Counted:
    """A data set whose images are upright; what each scene holds is counted when it is first read."""

    def __init__(self, table: Dataset, counts: SetCounts, turned: Counter[str], tick: Callable[[], None]) -> None:
        self.categories, self.skipped = table.categories, table.skipped
        self._table, self._counts, self._turned, self._tick = table, counts, turned, tick
        self._seen = bytearray(len(table))

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Scene:
        scene, turned = upright(self._table[index])
        if not self._seen[index]:
            self._seen[index] = 1
            kept = np.flatnonzero(~scene.objects.iscrowd).tolist()
            self._counts.objects.update((int(scene.objects.category[i]), scene.objects.source[i]) for i in kept)
            self._counts.ignored += int(scene.objects.iscrowd.sum())
            self._turned["JPEG images that an EXIF tag turned, stored upright as their boxes are"] += turned
            self._tick()
        return scene

    def fingerprint(self) -> str:
        """That of the table."""
        return self._table.fingerprint()


def export(request: Request, progress: Progress) -> Iterator[str]:
    """Write the export and say what is in it; raises JobError or DatasetError in one line, and then leaves nothing behind."""
    module = _format(request.to)
    target = _target(request.out)
    splits = _splits(request)
    digest = _digest(request, splits)
    if _finished(target, digest):
        yield f"{target}: there already, the same"
        return
    job = _Export(request, module, splits, progress)
    try:
        with staged(target) as folder:
            job.write(folder)
            record = {"digest": digest, "format": request.to, "source": request.source, "version": VERSION}
            folder.write_json(RECORD, record)
    except OSError as err:
        reason = err.strerror or " ".join(str(err).split())
        raise JobError(
            f"--out: cannot write {target} ({reason}); nothing was left there: make room or choose another"
        ) from err
    yield from job.lines(target)


def _format(name: str) -> Any:
    """Return the module of a format that can be written."""
    if not name:
        raise JobError("--to: names no format; write for example --to coco")
    if name in FORMATS and hasattr(module := importlib.import_module(FORMATS[name]), "write"):
        return module
    can = [key for key, path in FORMATS.items() if hasattr(importlib.import_module(path), "write")]
    what = "is read only" if name in FORMATS else "is unknown"
    near = suggest(name, can) if name not in FORMATS else f"; use {', '.join(can)}"
    raise JobError(f"--to: format '{name}' {what}{near}")


def _target(out: str) -> Path:
    if not out:
        raise JobError("--out: names no folder; write for example --out handover")
    if "://" in out and not out.startswith("file://"):
        raise JobError(f"--out: {out} is no local folder; write to one and copy it, for example with `aws s3 sync`")
    return Folder.at(out).local_path()


def _finished(target: Path, digest: str) -> bool:
    """Whether this very export is there; JobError when something else is."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if (target / RECORD).is_file():
        found = Folder.at(target).read_json(RECORD)
        if isinstance(found, dict) and found.get("digest") == digest:
            return True
        raise JobError(f"--out: {target} holds another export; delete it or choose another folder")
    raise JobError(f"--out: {target} is there and not empty; choose a folder that is not there yet")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Folder]:
    """Yield a folder beside `target` that takes its name when the block ends well, and vanishes when it does not.

    What killed exports of this machine left beside it is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    head = f".{target.name}.{host}."
    for left in target.parent.glob(f"{head}*.tmp"):
        pid = left.name.removeprefix(head).removesuffix(".tmp")
        if pid.isdecimal() and not _alive(int(pid)):
            shutil.rmtree(left)
    work = target.parent / f"{head}{os.getpid()}.tmp"
    try:
        work.mkdir()
        yield Folder.at(work)
        work.rename(target)  # also over an empty folder
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _digest(request: Request, splits: Splits) -> str:
    marks = {split: {key: table.fingerprint() for key, table in sets.items()} for split, sets in splits.items()}
    content = [VERSION, request.to, marks, versions().get("synthaug")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- what is exported -------------------------------------------------------------------------------------------------


def _splits(request: Request) -> Splits:
    """Open everything; split -> set -> table, without empty splits."""
    root = Path(request.root)
    splits: Splits = {"train": {}, "val": {}}
    train, val = splits["train"], splits["val"]
    if (root / request.source / "job.yaml").is_file():
        for part in _parts(request.parts):
            splits[PARTS[part]][SETS.get(part, part)] = _part_of_run(root / request.source, part)
    elif request.parts:
        raise JobError(f"--parts: only a run has parts, and {request.source!r} is none (it has no job.yaml)")
    elif ":" not in request.source:
        raise JobError(f"{request.source}: neither a run folder (it has no job.yaml) nor a data set; write format:path")
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
    where = {"synthetic": run / "data"}.get(part)
    if where is None:
        step = step_folder(run, "pseudo_label" if part == "pseudo" else "ingest")
        where = step and (step if part == "pseudo" else step / part)
    if where is None or not any(where.glob("*.parquet")):
        raise JobError(
            f"{run}: has no {part} images (not run so far, or its steps/ is gone); leave '{part}' out of --parts"
        )
    return parquet.read(parquet.Config(str(where)))


def step_folder(run: Path, step: str) -> Path | None:
    """Return the folder of a finished step: the one metrics.json names, else the one finished last."""
    told = _json(run / "metrics.json").get("steps", {}).get(step, "")
    found = [p for p in (run / "steps").glob(f"{step}-*") if (p / MANIFEST).is_file()]
    found.sort(key=lambda p: (p.name == told, (p / MANIFEST).stat().st_mtime_ns))
    return found[-1] if found else None


def _json(file: Path) -> dict[str, Any]:
    found = Folder.at(file.parent).read_json(file.name) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


# --- how it is written ------------------------------------------------------------------------------------------------


class _Export:
    """One export: wraps the sets, writes them, and knows afterwards what was in them."""

    def __init__(self, request: Request, module: Any, splits: Splits, progress: Progress) -> None:
        self._request, self._module = request, module
        self._lost: Counter[str] = Counter()
        self._notes: list[str] = []
        total = sum(len(table) for sets in splits.values() for table in sets.values())
        done = itertools.count(1)
        self._counts = [SetCounts(split, key, len(t)) for split, sets in splits.items() for key, t in sets.items()]
        self._sets = [
            Counted(splits[part.split][part.name], part, self._lost, lambda: progress(next(done), total, "images"))
            for part in self._counts
        ]
        self.categories, self._tables = self._united(list(splits))

    def _united(self, splits: list[str]) -> tuple[tuple[Category, ...], dict[str, Dataset]]:
        """Return the classes and one table per split; a set that is alone keeps its ids."""
        if len(self._sets) == 1:
            return self._sets[0].categories, {self._counts[0].split: self._sets[0]}
        named = {part.name: table for part, table in zip(self._counts, self._sets, strict=True)}
        united = unite(named)
        for part in self._counts:
            part.index = united.index[part.name].tolist()
        self._notes += [
            f"class {name!r} has the new id {new}: its own was taken" for name, new in united.renumbered.items()
        ]
        of = {split: {p.name: named[p.name] for p in self._counts if p.split == split} for split in splits}
        return united.categories, {split: Merged(sets, united) for split, sets in of.items()}

    def write(self, folder: Folder) -> None:
        """Write the data and the card."""
        if hasattr(self._module, "write_splits"):
            self._lost += self._module.write_splits(self._tables, folder)
        else:
            for split, table in self._tables.items():
                self._module.write(table, folder.sub(split))
        folder.write_bytes("README.md", card(self._facts()).encode())

    def _facts(self) -> Facts:
        skipped: Counter[str] = Counter()
        for table in self._sets:
            skipped += Counter(table.skipped)
        run = Path(self._request.root) / self._request.source
        facts = _run_facts(run) if (run / "job.yaml").is_file() else None
        opened = [(hf.NAMES[split], f"data/{hf.NAMES[split]}-*.parquet") for split in self._tables]
        return Facts(
            title=str(facts.metrics.get("job", run.name)) if facts else self._request.source,
            format=self._request.to,
            categories=self.categories,
            sets=self._counts,
            lost=self._lost,
            skipped=skipped,
            version=versions().get("synthaug", ""),
            run=facts,
            data_files=opened if self._module is hf else (),
        )

    def lines(self, target: Path) -> Iterator[str]:
        """What a user is told at the end."""
        for part in self._counts:
            ignored = f", {part.ignored} ignore regions" if part.ignored else ""
            yield f"{part.split}: {part.images} images of {part.name}, {sum(part.objects.values())} objects{ignored}"
        yield from self._notes
        yield from (f"note: {number} {reason}" for reason, number in sorted(self._lost.items()) if number)
        if "val" not in self._tables:
            yield "note: there are no validation images; name real ones with --val"
        yield f"{target}: {self._request.to}, with README.md"


def _run_facts(run: Path) -> RunFacts:
    import yaml

    try:
        seed = yaml.safe_load((run / "job.yaml").read_bytes()).get("seed")
    except (yaml.YAMLError, AttributeError, OSError):  # the card then does not name it
        seed = None
    return RunFacts(_json(run / "metrics.json"), seed)

"""Give a run, or any data set, to other tools.

Real and synthetic images merged, in their format, whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from synthaug.pipeline.commands.export_recipe import recipe_record
from synthaug.pipeline.commands.export_sources import Request, Splits, open_splits, read_object
from synthaug.pipeline.core.datasets import View
from synthaug.pipeline.core.errors import JobError, one_line, suggest
from synthaug.pipeline.core.images import decode, upright
from synthaug.pipeline.core.json_values import json_digest
from synthaug.pipeline.core.readable import check_content, readable, skips_any
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.skipped import FILE as SKIPPED
from synthaug.pipeline.core.skipped import Skipped, all_lines, short_lines
from synthaug.pipeline.core.staging import staged
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import FORMATS, can_write, hf, load_format, splits_writer
from synthaug.pipeline.formats.image_files import encoded_image
from synthaug.pipeline.formats.merge import MergedDataset, unify_classes
from synthaug.pipeline.report.dataset_card import Facts, RunFacts, SetCounts, card
from synthaug.pipeline.run import versions

RECORD = "export.json"  # marks a finished export
RECIPE = "recipe.json"  # of a run's export: how its images are to be learned
VERSION = 2  # raised when what is written changes
TURNED = "images that an EXIF tag turned, stored upright as their boxes are"
Progress = Callable[[int, int, str], None]


class Counted(View):
    """A data set with upright images; counts each scene when it is first read."""

    def __init__(
        self, table: Dataset, counts: SetCounts, turned: Counter[str], tick: Callable[[], None]
    ) -> None:
        super().__init__(table)
        self.marks: set[bytes] = set()  # of the image files
        self._counts = counts
        self._turned = turned
        self._tick = tick
        self._seen = bytearray(len(table))

    def __getitem__(self, index: int) -> Scene:
        scene, turned = upright(self.table[index])
        if not self._seen[index]:
            decode(scene)  # nothing broken is handed over
            self._seen[index] = 1
            self._count(scene)
            self._turned[TURNED] += turned
            self._tick()
        return scene

    def _count(self, scene: Scene) -> None:
        is_crowd = scene.objects.iscrowd
        objects = scene.objects.select(~is_crowd)
        categories = objects.category.tolist()
        pairs = zip(categories, objects.source, strict=True)
        self._counts.objects.update(pairs)
        self._counts.ignored += int(is_crowd.sum())
        digest = hashlib.blake2b(encoded_image(scene), digest_size=8)
        self.marks.add(digest.digest())


def export(request: Request, progress: Progress) -> Iterator[str]:
    """Write the export and say what is in it.

    Raises JobError or DatasetError in one line, and then leaves nothing behind.
    """
    module = _format(request.to)
    target = _target(request.out)
    splits = _readable(open_splits(request))
    digest = _digest(request, splits)
    if _finished(target, digest):
        yield f"{target}: there already, the same"
        return
    job = _Export(request, module, splits, progress)
    try:
        with staged(target) as folder:
            job.write(folder)
            job.check()
            record = {
                "digest": digest,
                "format": request.to,
                "title": request.title,
                "version": VERSION,
            }
            folder.write_json(RECORD, record)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise JobError(
                f"--out: {target} was written by another command meanwhile; name another folder"
            ) from err
        raise JobError(
            f"--out: cannot write {target} ({one_line(err)}); nothing was left there: make room or "
            "choose another"
        ) from err
    yield from job.lines(target)


def _readable(splits: Splits) -> Splits:
    """Return the sets without images that cannot be read and are to be left out."""
    checked: Splits = {}
    for split, sets in splits.items():
        checked[split] = {}
        for name, table in sets.items():
            if skips_any(table):
                table = readable(table)
            checked[split][name] = table
    return checked


def _format(name: str) -> Any:
    """Return the module of a format that can be written."""
    if not name:
        raise JobError("--to: names no format; write for example --to coco")
    if name in FORMATS and can_write(name):
        return load_format(name)
    can = [key for key in FORMATS if can_write(key)]
    if name in FORMATS:
        raise JobError(f"--to: format '{name}' is read only; use {', '.join(can)}")
    raise JobError(f"--to: format '{name}' is unknown{suggest(name, can)}")


def _target(out: str) -> Path:
    if not out:
        raise JobError("--out: names no folder; write for example --out handover")
    if "://" in out and not out.startswith("file://"):
        raise JobError(
            f"--out: {out} is no local folder; write to one and copy it, for example with `aws s3 "
            "sync`"
        )
    return Folder.at(out).local_path()


def _finished(target: Path, digest: str) -> bool:
    """Return whether this very export is there; JobError when something else is."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if (target / RECORD).is_file():
        found = Folder.at(target).read_json(RECORD)
        if isinstance(found, dict) and found.get("digest") == digest:
            return True
        raise JobError(f"--out: {target} holds another export; delete it or choose another folder")
    raise JobError(f"--out: {target} is there and not empty; choose a folder that is not there yet")


def _digest(request: Request, splits: Splits) -> str:
    marks = {}
    for split, sets in splits.items():
        marks[split] = {key: table.fingerprint() for key, table in sets.items()}
    content = [VERSION, request.to, marks, versions().get("synthaug")]
    return json_digest(content)


# --- how it is written
# ------------------------------------------------------------------------------------------------


class _Export:
    """One export: wraps the sets, writes them, and knows afterwards what was in them."""

    def __init__(self, request: Request, module: Any, splits: Splits, progress: Progress) -> None:
        self._request = request
        self._module = module
        self._lost: Counter[str] = Counter()
        self._notes: list[str] = []
        self._counts: list[SetCounts] = []
        for split, sets in splits.items():
            for name, table in sets.items():
                self._counts.append(SetCounts(split, name, len(table)))
        total = sum(part.images for part in self._counts)
        done = itertools.count(1)

        def show_progress() -> None:
            progress(next(done), total, "images")

        self._sets: list[Counted] = []
        self._skipped = Skipped()
        for part in self._counts:
            table = splits[part.split][part.name]
            self._sets.append(Counted(table, part, self._lost, show_progress))
            self._skipped.take(table.skipped)
        self.categories, self._tables = self._united(list(splits))

    def _united(self, splits: list[str]) -> tuple[tuple[Category, ...], dict[str, Dataset]]:
        """Return the classes and one table per split; a set that is alone keeps its ids."""
        if len(self._sets) == 1:
            only = self._sets[0]
            return only.categories, {self._counts[0].split: only}
        names = [part.name for part in self._counts]
        named = dict(zip(names, self._sets, strict=True))
        united = unify_classes(named)
        for part in self._counts:
            part.index = united.index[part.name].tolist()
        for name, new in united.renumbered.items():
            self._notes.append(f"class {name!r} has the new id {new}: its own was taken")
        tables: dict[str, Dataset] = {}
        for split in splits:
            of_split = {}
            for part in self._counts:
                if part.split == split:
                    of_split[part.name] = named[part.name]
            tables[split] = MergedDataset(of_split, united)
        return united.categories, tables

    def write(self, folder: Folder) -> None:
        """Write the data and the card."""
        write_splits = splits_writer(self._module)
        self._lost += write_splits(self._tables, folder)
        if both := len(self._marks("train") & self._marks("val")):
            self._lost[
                "image files are training and validation images at once: scores on these mean "
                "nothing"
            ] = both
        if self._skipped.names:
            text = "".join(f"{line}\n" for line in all_lines(self._skipped))
            folder.write_bytes(SKIPPED, text.encode("utf-8", "backslashreplace"))
        folder.write_bytes("README.md", card(self._facts()).encode())
        if self._request.run:
            metrics = read_object(self._request.run / "metrics.json")
            images = {part.name: part.images for part in self._counts if part.split == "train"}
            folder.write_json(RECIPE, recipe_record(metrics, images))

    def check(self) -> None:
        """Raise DatasetError for a split of the user's in which there is nothing."""
        if self._request.run:
            return
        for split in self._tables:
            parts = [part for part in self._counts if part.split == split]
            names = " and ".join(part.name for part in parts)
            images = sum(part.images for part in parts)
            objects = 0
            for part in parts:
                objects += part.objects.total() + part.ignored
            check_content(names, self._tables[split], images, objects)

    def _marks(self, split: str) -> set[bytes]:
        marks: set[bytes] = set()
        for part, table in zip(self._counts, self._sets, strict=True):
            if part.split == split:
                marks |= table.marks
        return marks

    def _facts(self) -> Facts:
        request = self._request
        run = None
        if request.run:
            run = _run_facts(request.run)
        opened = []
        if self._module is hf:
            for split in self._tables:
                name = hf.NAMES[split]
                opened.append((name, f"data/{name}-*.parquet"))
        return Facts(
            title=request.title,
            format=request.to,
            categories=self.categories,
            sets=self._counts,
            lost=self._lost + unread(self._skipped),
            skipped=self._skipped,
            version=versions().get("synthaug", ""),
            run=run,
            data_files=opened,
        )

    def lines(self, target: Path) -> Iterator[str]:
        """Return the lines for the terminal."""
        for part in self._counts:
            ignored = f", {part.ignored} ignore regions" if part.ignored else ""
            yield (
                f"{part.split}: {part.images} images of {part.name}, {sum(part.objects.values())} "
                f"objects{ignored}"
            )
        yield from self._notes
        lost = self._lost + unread(self._skipped)
        yield from (f"note: {number} {reason}" for reason, number in sorted(lost.items()))
        if self._skipped:
            yield f"left out or mended when reading (all in {SKIPPED}):"
            yield from short_lines(self._skipped)
        if "val" not in self._tables:
            yield "note: there are no validation images; name real ones with --val"
        yield f"{target}: {self._request.to}, with README.md"
        yield f"next:    open {target}/README.md   # how your tools read it, what it is worth"


def unread(skipped: Skipped) -> Counter[str]:
    """Return what files say and a scene has no place for, in words."""
    sentences: Counter[str] = Counter()
    for what, number in skipped.unread.items():
        sentences[f"times {what}, which is not kept"] = number
    return sentences


def _run_facts(run: Path) -> RunFacts:
    import yaml

    try:
        seed = yaml.safe_load((run / "job.yaml").read_bytes()).get("seed")
    except (yaml.YAMLError, AttributeError, OSError):  # the card then does not name it
        seed = None
    return RunFacts(read_object(run / "metrics.json"), seed)

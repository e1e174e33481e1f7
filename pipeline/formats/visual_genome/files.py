"""Files of Visual Genome: splits, aliases, vocabularies and images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError, suggest
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.json_files import load_json, stream_list
from synthaug.pipeline.formats.source_files import find_file, read_text
from synthaug.pipeline.formats.validation import RecordError, is_int, is_text, need

ALL = "all"  # the split of every image
IMAGES, OBJECTS, RELATIONS, SPLITS = (
    "image_data.json",
    "objects.json",
    "relationships.json",
    "vg_splits.json",
)


@dataclass(frozen=True)
class Files:
    """A Visual Genome folder; `digests` collects the sha256 of files that were read."""

    folder: Path
    on_bad: str
    skipped: Skipped
    follow: bool = False  # links out of the set
    digests: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether the folder has a file."""
        return (self.folder / name).is_file()

    def each(self, name: str, take: Callable[[Any], None]) -> None:
        """Pass the record of every image to `take`, which may refuse it (RecordError)."""
        records, digest = stream_list(self.folder / name)
        self.digests.append(digest)
        self.check(name, records, "image", take, "image_id")

    def check(
        self, name: str, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str
    ) -> None:
        """Pass records of a file to `take`; messages name one by `kind` and `key`."""
        Checker(self.folder / name, self.on_bad, self.skipped).each(records, kind, take, key)

    def check_parts(
        self, name: str, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str
    ) -> None:
        """Pass the parts of one record to `take`, all of which may be left out."""
        Checker(self.folder / name, self.on_bad, self.skipped).parts(records, kind, take, key)


@dataclass(frozen=True)
class Picture:
    """A checked image."""

    image_id: int
    height: int
    width: int
    path: Path
    name: str
    num_bytes: int


@dataclass(frozen=True)
class Vocabulary:
    """Class names by id, and predicates; None = to be counted in training images."""

    classes: dict[int, str] | None = None
    predicates: frozenset[str] | None = None


def whole(record: Any, name: str) -> int:
    """Return an id or a size."""
    value = need(record, name)
    if not is_int(value):
        raise RecordError("bad value", f"{name} is {value!r}, not a whole number")
    return int(value)


def read_split(files: Files, split: str) -> list[int]:
    """Return the image ids of a split, in the order of the file."""
    file = files.folder / SPLITS
    if not files.has(SPLITS):
        raise DatasetError(
            f"{file}: no such file; put it there, or read every image with split={ALL}"
        )
    splits, digest = load_json(file)
    files.digests.append(digest)
    if not isinstance(splits, dict) or not isinstance(splits.get(split), list):
        known = splits if isinstance(splits, dict) else ()
        raise DatasetError(f"{file}: has no list of image ids '{split}'{suggest(split, known)}")
    ids: dict[int, None] = {}  # a set in order

    def add(value: Any) -> None:
        if not is_int(value) or value in ids:
            raise RecordError(
                "bad split entry", f"{value!r} is no whole number, or is listed twice"
            )
        ids[value] = None

    files.check(SPLITS, splits[split], f"{split} image", add, "")
    return list(ids)


def read_aliases(files: Files, name: str) -> dict[str, str]:
    """Return the main name of every name in an alias file, the first of its line.

    Nothing where there is no file.
    """
    if not files.has(name):
        return {}
    text, digest = read_text(files.folder / name)
    files.digests.append(digest)
    main_names: dict[str, str] = {}
    for row in text.splitlines():
        names = [part.strip() for part in row.split(",")]
        for other in names:
            if other and names[0]:
                main_names[other] = names[0]
    return main_names


def read_vocabulary(file: Path, files: Files) -> Vocabulary:
    """Return the names of a JSON file: a list, or sg2im's `object_idx_to_name`.

    Ids are positions in the list: from 0 when it begins with "__image__", which is left out, else
    from 1. Predicates are those of `pred_idx_to_name`, where the file has it.
    """
    document, digest = load_json(file)
    files.digests.append(digest)
    names = document
    predicates = None
    if isinstance(document, dict):
        names = document.get("object_idx_to_name")
        predicates = document.get("pred_idx_to_name")
    if not _are_names(names) or not (predicates is None or _are_names(predicates)):
        raise DatasetError(
            f"{file}: must be a list of names, or an object with such a list as object_idx_to_name"
        )
    first = 0 if names[:1] == ["__image__"] else 1
    classes = dict(enumerate(names, first))
    classes.pop(0, None)
    if not classes or len(set(classes.values())) < len(classes):
        raise DatasetError(f"{file}: names no class, or one class twice; name each class once")
    if predicates is None:
        return Vocabulary(classes, None)
    return Vocabulary(classes, frozenset(predicates))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(is_text(name) for name in value)


def read_images(files: Files) -> dict[int, Json]:
    """Return the records of image_data.json by id, their sizes checked."""
    records: dict[int, Json] = {}

    def add(record: Any) -> None:
        key = whole(record, "image_id")
        height = whole(record, "height")
        width = whole(record, "width")
        if key in records:
            raise RecordError("duplicate image id", "another image has the same id")
        if height < 1 or width < 1:
            raise RecordError(
                "bad image size", f"width {width} and height {height} must be above 0"
            )
        records[key] = record

    files.each(IMAGES, add)
    return records


def locate(
    files: Files, records: Iterable[Json], folder: Path, max_pixels: int
) -> dict[int, Picture]:
    """Find the image files of records in a folder.

    A file has the last two parts of the address, such as VG_100K/1.jpg.
    """
    pictures: dict[int, Picture] = {}
    folder = folder.resolve()

    def add(record: Any) -> None:
        key = record["image_id"]
        height = record["height"]
        width = record["width"]
        url = need(record, "url")
        if height * width > max_pixels:
            raise RecordError(
                "image too large", f"{width}x{height} is over max_pixels={max_pixels}"
            )
        if not is_text(url):
            raise RecordError("missing image file", "its url is no text")
        name = "/".join(url.rsplit("/", 2)[-2:])
        path, num_bytes = find_file(folder, name, "image file", follow=files.follow)
        pictures[key] = Picture(key, height, width, path, name, num_bytes)

    files.check(IMAGES, records, "image", add, "image_id")
    return pictures

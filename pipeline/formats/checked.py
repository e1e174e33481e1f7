"""The common part of readers that check every record when a data set is opened."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.packed import Packed
from synthaug.pipeline.formats.validation import BoxUnits, RecordError

Row = TypeVar("Row")
T = TypeVar("T")


@dataclass(frozen=True)
class CheckedConfig:
    """Options of every reader that checks records; a format's own Config adds its own."""

    path: str
    on_bad: str = field(default="stop", kw_only=True)  # or "skip": leave bad records out, counted
    max_pixels: int = field(default=100_000_000, kw_only=True)  # per image
    # how boxes count an image that an EXIF tag turns: as_stored | as_shown; "" = its size must tell
    turned: str = field(default="", kw_only=True)
    links: str = field(default="inside", kw_only=True)  # of files; or "follow": also out of the set

    def __post_init__(self) -> None:
        if self.on_bad not in ("stop", "skip"):
            raise ValueError(f"on_bad is '{self.on_bad}'; use stop or skip")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}; use a positive number of pixels")
        if self.turned not in ("", "as_stored", "as_shown"):
            raise ValueError(f"turned is '{self.turned}'; use as_stored or as_shown")
        if self.links not in ("inside", "follow"):
            raise ValueError(f"links is '{self.links}'; use inside or follow")

    @property
    def follows_links(self) -> bool:
        """Whether a link may lead out of the data set."""
        return self.links == "follow"


@dataclass(frozen=True)
class BoxConfig(CheckedConfig):
    """Options of readers that can cut boxes off at the border of their image."""

    # boxes that reach out of their image by over a pixel: refuse | clip
    outside: str = field(default="refuse", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outside not in ("refuse", "clip"):
            raise ValueError(f"outside is '{self.outside}'; use refuse or clip")

    @property
    def cuts_boxes(self) -> bool:
        """Whether boxes that reach out of their image are cut off there."""
        return self.outside == "clip"


@dataclass(frozen=True)
class Checker:
    """Passes the records of a file to a check, under the rule of `on_bad`."""

    file: Path
    on_bad: str  # stop | skip
    skipped: Skipped = field(default_factory=Skipped)  # by reason
    cuts_boxes: bool = False  # those that reach out of their image
    units: BoxUnits = field(default_factory=BoxUnits)  # of the boxes that readers see

    def each(
        self, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str = "id"
    ) -> None:
        """Pass every record to `take`, which refuses a bad one with a RecordError.

        A refused record is counted, or raises DatasetError that names it by its `kind` and its
        value of `key`, or its position where it has none. When every record is refused, it raises
        in any case: nothing would be left. So it does where the boxes are no pixels.
        """
        taken = self._pass(records, kind, take, key)
        self.units.check(self.file)
        if taken.first is not None and not taken.good and taken.bad > 1:
            raise DatasetError(
                f"{self.file}: {taken.first}; so are all {taken.bad}, nothing is left: "
                "correct the file"
            )
        if taken.first is not None and self.on_bad == "stop":
            raise DatasetError(f"{self.file}: {taken.first}; {_advice(taken)}")
        if taken.first is not None and not taken.good:
            raise DatasetError(f"{self.file}: {taken.first}; nothing else is there: correct it")

    def parts(
        self, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str = "id"
    ) -> None:
        """Pass the parts of one record to `take`; all of them may be left out."""
        taken = self._pass(records, kind, take, key)
        if taken.first is not None and self.on_bad == "stop":
            raise DatasetError(f"{self.file}: {taken.first}; {_SKIP}")

    def _pass(
        self, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str
    ) -> _Taken:
        taken = _Taken()
        for position, record in enumerate(records):
            try:
                take(record)
            except RecordError as bad:
                told = f"{_name(record, kind, key, position)}: {bad.detail[:400]}"
                if bad.fatal:
                    raise DatasetError(f"{self.file}: {told}; correct it") from bad
                taken.bad += 1
                taken.first = taken.first or told
                self.skipped.note(bad.reason, f"{self.file.name}: {told}", wrong=True)
                continue
            except DatasetError:
                if taken.first is None or self.on_bad == "skip":
                    raise
                break  # a part of a later record: the first is told
            taken.good += 1
            if taken.first is not None and self.on_bad == "stop":
                break  # it is known now that something would be left
        return taken

    def attempt(self, owner: str, part: str, take: Callable[[], T]) -> T | None:
        """Return what `take` returns; None where it refuses a part that is to be left out.

        `owner` is the record, in words, of which this is a part ("" where the detail names it).
        Raises RecordError where bad records stop the reading.
        """
        try:
            return take()
        except RecordError as bad:
            detail = f"{part}: {bad.detail}" if part else bad.detail
            if self.on_bad == "stop" or bad.fatal:
                raise RecordError(bad.reason, detail, bad.fatal) from bad
            self.skipped.note(bad.reason, f"{self.file.name}: {owner}: {detail[:400]}", wrong=True)
            return None


_SKIP = "correct it, or leave such records out with on_bad=skip"


@dataclass
class _Taken:
    """What became of the records of a list."""

    first: str | None = None  # refused: its name and why
    bad: int = 0
    good: int = 0


def _advice(taken: _Taken) -> str:
    return _SKIP if taken.good else "correct it"


def _name(record: Any, kind: str, key: str, position: int) -> str:
    if not isinstance(record, dict):
        return f"{kind} at position {position}"
    name = record.get(key)
    file = record.get("file_name")
    told = f"{kind} {name!r:.200}"
    if name is None:
        told = f"{kind} at position {position}"
    if isinstance(file, str) and file and key != "file_name":
        told += f" ({file[:100]!r})"
    return told


Rows = Sequence[Row] | Packed[Row]


class CheckedDataset(Dataset, Generic[Row]):
    """A data set of checked rows, one per image; a format turns a row into a scene."""

    def __init__(
        self, categories: tuple[Category, ...], rows: Rows[Row], skipped: Mapping[str, int]
    ) -> None:
        """Take the rows in order; what `skipped` counts as 0 is left out."""
        self.categories = categories
        self.rows = rows
        self.skipped = Skipped(skipped).positive()
        self._turned = ""
        self._skips_bad: bool | None = None

    def read_under(self, config: CheckedConfig) -> None:
        """Take the options that rule how pixels are read, long after the records."""
        self._turned = config.turned
        self._skips_bad = config.on_bad == "skip"

    def skips_bad(self, index: int) -> bool | None:
        """Return whether on_bad=skip was given."""
        return self._skips_bad

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Scene:
        """Return a scene; IndexError for an index that is negative or too large."""
        if not 0 <= index < len(self.rows):
            raise IndexError(index)
        scene = self.scene(index, self.rows[index])
        if self._turned:
            scene = replace(scene, image=replace(scene.image, turned=self._turned))
        return scene

    def fingerprint(self) -> str:
        """Return the digest of `content`."""
        content = self.content() + self._turned
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    @abstractmethod
    def scene(self, index: int, row: Row) -> Scene:
        """Return the scene of a row; DatasetError where that needs a file which is broken."""

    @abstractmethod
    def content(self) -> str:
        """Return what scenes depend on as text: labels, options, names and sizes of files."""


def numbered_categories(names: Iterable[str]) -> tuple[Category, ...]:
    """Return classes known by name only, with ids from 1: 0 is background to many."""
    return tuple(Category(key, name) for key, name in enumerate(names, start=1))


def first_ids(counts: Iterable[int]) -> list[int]:
    """Return the first object id of each image, objects being numbered from 1."""
    ids = []
    free = 1
    for count in counts:
        ids.append(free)
        free += count
    return ids

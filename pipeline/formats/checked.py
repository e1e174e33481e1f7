"""The common part of readers that check every record when a data set is opened."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.formats.validation import RecordError

Row = TypeVar("Row")


@dataclass(frozen=True)
class CheckedConfig:
    """Options of every reader that checks records; a format's own Config adds its own."""

    path: str
    on_bad: str = field(default="stop", kw_only=True)  # or "skip": leave bad records out, counted
    max_pixels: int = field(default=100_000_000, kw_only=True)  # per image

    def __post_init__(self) -> None:
        if self.on_bad not in ("stop", "skip"):
            raise ValueError(f"on_bad is '{self.on_bad}'; use stop or skip")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}; use a positive number of pixels")


@dataclass(frozen=True)
class Checker:
    """Passes the records of a file to a check, under the rule of `on_bad`."""

    file: Path
    on_bad: str  # stop | skip
    skipped: Counter[str] = field(default_factory=Counter)  # by reason

    def each(
        self, records: Iterable[Any], kind: str, take: Callable[[Any], None], key: str = "id"
    ) -> None:
        """Pass every record to `take`, which refuses a bad one with a RecordError.

        A refused record is counted, or raises DatasetError that names it by its `kind` and its
        value of `key`, or its position where it has none.
        """
        for position, record in enumerate(records):
            try:
                take(record)
            except RecordError as bad:
                if self.on_bad == "stop":
                    which = _name(record, kind, key, position)
                    advice = "correct it, or leave such records out with on_bad=skip"
                    raise DatasetError(
                        f"{self.file}: {which}: {bad.detail[:400]}; {advice}"
                    ) from bad
                self.skipped[bad.reason] += 1


def _name(record: Any, kind: str, key: str, position: int) -> str:
    name = record.get(key) if isinstance(record, dict) else None
    if name is None:
        return f"{kind} at position {position}"
    return f"{kind} {name!r}"


class CheckedDataset(Dataset, Generic[Row]):
    """A data set of checked rows, one per image; a format turns a row into a scene."""

    def __init__(
        self, categories: tuple[Category, ...], rows: Sequence[Row], skipped: Counter[str]
    ) -> None:
        """Take the rows in order; what `skipped` counts as 0 is left out."""
        self.categories = categories
        self.rows = rows
        self.skipped = +skipped

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Scene:
        """Return a scene; IndexError for an index that is negative or too large."""
        if not 0 <= index < len(self.rows):
            raise IndexError(index)
        return self.scene(index, self.rows[index])

    def fingerprint(self) -> str:
        """Return the digest of `content`."""
        return hashlib.sha256(self.content().encode()).hexdigest()

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

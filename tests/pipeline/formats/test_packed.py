"""Rows held as bytes come back as they were, in the order in which they were added."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.formats.archive import ArchivePath
from synthaug.pipeline.formats.packed import Packed


@dataclass(frozen=True, slots=True)
class Row:
    """A row like those of the readers."""

    name: str
    path: Path
    numbers: tuple[float, ...]


def row(number: int) -> Row:
    numbers = tuple(number + step / 8 for step in range(28))
    return Row(f"größe {number}", Path("a") / str(number), numbers)


def test_rows_come_back_in_order() -> None:
    packed = Packed(row(number) for number in range(5))
    packed.append(row(9))
    assert len(packed) == 6
    assert list(packed) == [*(row(number) for number in range(5)), row(9)]
    assert packed[5] == row(9)
    for wrong in (-1, 6):
        with pytest.raises(IndexError):
            packed[wrong]


def test_arrays_and_paths_in_archives_come_back() -> None:
    path = ArchivePath("set.zip") / "a.jpg"
    packed = Packed([(path, np.array([[1.5, 2]], np.float32))])
    (back, points) = packed[0]
    assert (type(back), back) == (ArchivePath, path)
    assert points.dtype == np.float32
    assert points.tolist() == [[1.5, 2]]


def test_rows_take_a_fraction_of_their_memory_as_objects() -> None:
    def taken(kind: type) -> int:
        tracemalloc.start()
        kept = kind(row(number) for number in range(500))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 500
        return size

    assert taken(Packed) < 0.5 * taken(list)

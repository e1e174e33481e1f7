"""Features of many images in flat memory: re-cut into fixed blocks, or kept in a file and read block by block.

Rows come in a fixed order and are summed in blocks of a fixed size, so results do not depend on who made which rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

BLOCK = 512  # rows

Features = NDArray[np.float32]  # [N, D]


def blocks(rows: Iterable[Features], size: int = BLOCK) -> Iterator[Features]:
    """Cut a stream of arrays [n, D] anew into blocks of `size` rows, the last one shorter."""
    held: list[Features] = []
    count = 0
    for part in rows:
        held.append(part)
        count += len(part)
        while count >= size:
            joined = np.concatenate(held)
            yield joined[:size]
            held, count = [joined[size:]], count - size
    if count:
        yield np.concatenate(held)


def spans(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Cut 0..count-1 into slices of `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


@contextmanager
def on_disk(rows: Iterable[Features]) -> Iterator[Features]:
    """Put a stream of arrays [n, D] into a temporary file and yield what reads like one array [N, D].

    It knows its length, its shape and indexing by slices or places. An empty stream gives [0, 0].
    """
    with tempfile.TemporaryDirectory(prefix="synthaug-features-") as scratch:
        path, count, width = Path(scratch) / "features.f32", 0, 0
        with path.open("wb") as out:
            for part in rows:
                assert part.ndim == 2 and (not count or part.shape[1] == width)
                count, width = count + len(part), part.shape[1]
                out.write(np.ascontiguousarray(part, np.float32).tobytes())
        with path.open("rb") as file:
            yield cast(Features, _Stored(file, (count, width)))


class _Stored:
    """Rows in a file. Not a memory map: its pages would count as the process's memory, up to the whole file."""

    def __init__(self, file: BinaryIO, shape: tuple[int, int]) -> None:
        self._file, self.shape = file, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | NDArray[np.int64]) -> Features:
        places = np.arange(len(self))[wanted]
        out = np.empty((len(places), self.shape[1]), np.float32)
        runs = np.flatnonzero(
            np.diff(places, prepend=-2) != 1
        )  # where a run of neighbouring rows begins
        for begin, end in pairwise([*runs.tolist(), len(places)]):
            self._file.seek(int(places[begin]) * self.shape[1] * out.itemsize)
            data = self._file.read((end - begin) * self.shape[1] * out.itemsize)
            out[begin:end] = np.frombuffer(data, np.float32).reshape(end - begin, -1)
        return out


def squared_distances(a: Features, b: Features) -> NDArray[np.float64]:
    """Return the squared Euclidean distances [N, M] of rows, in float64; never below 0."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total: NDArray[np.float64] = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    np.maximum(total, 0.0, out=total)
    return total


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return which of `count` rows are used when at most `most` may be (0 = all): evenly spaced ones."""
    size = min(most, count) if most else count
    return np.arange(size, dtype=np.int64) * count // max(1, size)


def thinned(rows: Iterable[Features], count: int, most: int) -> Iterator[Features]:
    """Pass on at most `most` of `count` single rows [1, D], evenly spaced (0 = all)."""
    wanted = set(spaced(count, most).tolist())
    yield from (row for i, row in enumerate(rows) if i in wanted)

"""Features of many images in flat memory.

Re-cut into fixed blocks, or kept in a file and read block by block. Rows come in a fixed order and
are summed in blocks of a fixed size, so results do not depend on the worker that made a row.
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

from synthaug.pipeline.core.arrays import Floats, Ints

BLOCK = 512  # rows

Features = NDArray[np.float32]  # [N, D]


def blocks(rows: Iterable[Features], size: int = BLOCK) -> Iterator[Features]:
    """Cut a stream of arrays [n, D] anew into blocks of `size` rows.

    The last one is shorter.
    """
    pending: list[Features] = []
    count = 0
    for part in rows:
        pending.append(part)
        count += len(part)
        while count >= size:
            joined = np.concatenate(pending)
            yield joined[:size]
            pending = [joined[size:]]
            count -= size
    if count:
        yield np.concatenate(pending)


def spans(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Cut 0..count-1 into slices of `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


@contextmanager
def on_disk(rows: Iterable[Features]) -> Iterator[Features]:
    """Write a stream of arrays [n, D] to a temporary file.

    Yields what reads like one array [N, D]. It knows its length, its shape and indexing by slices
    or indices. An empty stream gives [0, 0].
    """
    with tempfile.TemporaryDirectory(prefix="synthaug-features-") as scratch:
        path = Path(scratch) / "features.f32"
        count = 0
        width = 0
        with path.open("wb") as out:
            for part in rows:
                assert part.ndim == 2
                assert not count or part.shape[1] == width
                count += len(part)
                width = part.shape[1]
                values = np.ascontiguousarray(part, np.float32)
                out.write(values.tobytes())
        with path.open("rb") as file:
            yield cast(Features, _StoredRows(file, (count, width)))


class _StoredRows:
    """Rows in a file.

    Not a memory map: its pages would count as the process's memory, up to the whole file.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, int]) -> None:
        self._file = file
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | Ints) -> Features:
        indices = np.arange(len(self))[key]
        width = self.shape[1]
        out = np.empty((len(indices), width), np.float32)
        row_bytes = width * out.itemsize
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)  # of runs of neighbouring rows
        for begin, end in pairwise([*starts.tolist(), len(indices)]):
            self._file.seek(int(indices[begin]) * row_bytes)
            data = self._file.read((end - begin) * row_bytes)
            values = np.frombuffer(data, np.float32)
            out[begin:end] = values.reshape(end - begin, -1)
        return out


def squared_distances(a: Features, b: Features) -> Floats:
    """Return the squared Euclidean distances [N, M] of rows.

    In float64, never below 0.
    """
    x = a.astype(np.float64)
    y = b.astype(np.float64)
    x_lengths = (x**2).sum(1)[:, None]
    y_lengths = (y**2).sum(1)[None]
    total: Floats = x_lengths + y_lengths - 2 * x @ y.T
    np.maximum(total, 0.0, out=total)
    return total


def spaced(count: int, most: int) -> Ints:
    """Return at most `most` of the indices 0..count-1 (0 = all), evenly spaced."""
    size = count
    if most:
        size = min(most, count)
    return np.arange(size, dtype=np.int64) * count // max(1, size)


def thinned(rows: Iterable[Features], count: int, most: int) -> Iterator[Features]:
    """Pass on at most `most` of `count` single rows [1, D], evenly spaced (0 = all)."""
    chosen = set(spaced(count, most).tolist())
    for index, row in enumerate(rows):
        if index in chosen:
            yield row

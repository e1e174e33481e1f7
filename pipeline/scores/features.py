"""Features of many images in flat memory: re-cut into fixed blocks, or kept in a file and read block by block.

Rows come in a fixed order and are summed in blocks of a fixed size, so results do not depend on who made which rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """Put a stream of arrays [n, D] into a temporary file and yield it as one read-only array [N, D], mapped, not loaded.

    An empty stream gives an array [0, 0].
    """
    with tempfile.TemporaryDirectory(prefix="synthaug-features-") as scratch:
        path, count, width = Path(scratch) / "features.f32", 0, 0
        with path.open("wb") as out:
            for part in rows:
                assert part.ndim == 2 and (not count or part.shape[1] == width)
                count, width = count + len(part), part.shape[1]
                out.write(np.ascontiguousarray(part, np.float32).tobytes())
        yield np.memmap(path, np.float32, "r", shape=(count, width)) if count else np.zeros((0, 0), np.float32)


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

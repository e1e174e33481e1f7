"""Masks to polygons that lose nothing.

The outline runs along pixel edges, and filling it gives the same mask again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Ints

Ring = NDArray[np.int64]  # [K, 2] x, y of corners, pixels; not closed
Mask = NDArray[np.bool_]  # [H, W]


def rings(mask: Mask) -> list[Ring]:
    """Return the closed outlines of a mask as corners on the pixel grid.

    Holes run the other way round. Every grid point where the outline turns is a corner, once, or
    twice where two pixels touch by a corner only. In a row of the grid each two corners are the
    ends of one horizontal edge, in a column those of one vertical edge; going along them in turn
    closes a ring.
    """
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    top_left = np.array([columns[0], rows[0]])
    inner_rows = slice(rows[0], rows[-1] + 1)
    inner_columns = slice(columns[0], columns[-1] + 1)
    filled = mask[inner_rows, inner_columns]
    padded = np.pad(filled, 1)
    ys, xs = _corners(padded)
    points = np.stack([xs, ys], 1)  # [K, 2], by row, then by column
    vertical = _vertical_partners(ys, xs).tolist()

    visited = [False] * len(points)
    outlines = []
    for start in range(len(points)):
        ring = []
        corner = start
        while not visited[corner]:
            across = corner ^ 1  # the other end of its horizontal edge
            ring += [corner, across]
            visited[corner] = visited[across] = True
            corner = vertical[across]
        if not ring:
            continue
        x, y = points[start]  # the highest corner of the ring, which goes to the right from it
        is_hole = not padded[y + 1, x + 1]
        if is_hole:
            ring.reverse()
        outlines.append(points[ring] + top_left)
    return outlines


def _corners(padded: Mask) -> tuple[Ints, Ints]:
    """Return rows and columns [K] of the grid points where the outline turns.

    They come by row, then by column.
    A point where two pixels touch by a corner only comes twice.
    """
    # the four pixels around each point of the grid
    a = padded[:-1, :-1]
    b = padded[:-1, 1:]
    c = padded[1:, :-1]
    d = padded[1:, 1:]
    single = a ^ b ^ c ^ d
    touching = (a == d) & (b == c) & (a != b)
    count = single.astype(np.int64) + 2 * touching
    ys, xs = np.nonzero(count)
    repeats = count[ys, xs]
    return np.repeat(ys, repeats), np.repeat(xs, repeats)


def _vertical_partners(ys: Ints, xs: Ints) -> Ints:
    """Return for each corner [K] the one at the other end of its vertical edge."""
    position = np.arange(len(ys))
    by_column = np.lexsort((position, ys, xs))  # corners at one point stay in their order
    upper = by_column[0::2]
    lower = by_column[1::2]
    partner = np.empty(len(ys), np.int64)
    partner[upper] = lower
    partner[lower] = upper
    return partner


def join(outlines: list[Ring]) -> Ring:
    """Return one ring for several, joined by bridges that enclose nothing.

    A bridge is walked there and back.
    """
    joined = outlines[0]
    for ring in outlines[1:]:
        steps = np.abs(joined[:, None] - ring[None])
        gaps = steps.sum(2)  # [K, k]
        narrowest = int(gaps.argmin())
        here, there = np.unravel_index(narrowest, gaps.shape)
        loop = np.concatenate([ring[there:], ring[: there + 1]])
        before = joined[: here + 1]
        joined = np.concatenate([before, loop, joined[here:]])
    return joined


def polygon(mask: Mask) -> Ring:
    """Return one polygon whose even-odd filling is the mask.

    Raises ValueError for an empty mask.
    """
    outlines = rings(mask)
    if not outlines:
        raise ValueError("the mask is empty")
    return join(outlines)

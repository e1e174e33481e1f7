"""Masks to polygons that lose nothing: the outline runs along pixel edges, and filling it gives the same mask again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]  # [K, 2] x, y of corners, pixels; not closed


def rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """Return the closed outlines of a mask [H, W] as corners on the pixel grid; holes run the other way round.

    Every grid point where the outline turns is listed once, or twice where two pixels touch by a corner only. In a row
    of the grid each two corners are the ends of one horizontal edge, in a column those of one vertical edge; going
    along them in turn closes a ring.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    corner = np.array([columns[0], rows[0]])
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    a, b, c, d = (
        padded[:-1, :-1],
        padded[:-1, 1:],
        padded[1:, :-1],
        padded[1:, 1:],
    )  # [H + 1, W + 1] around each point
    turns = (a ^ b ^ c ^ d).astype(np.int64) + 2 * ((a == d) & (b == c) & (a != b))
    places = np.nonzero(turns)
    ys, xs = (np.repeat(axis, turns[places]) for axis in places)  # by row, then by column
    by_column = np.lexsort(
        (np.arange(len(ys)), ys, xs)
    )  # by column, then by row; twins stay in their order
    up_or_down = np.empty(len(ys), np.int64)  # the other end of the vertical edge of each corner
    up_or_down[by_column[0::2]], up_or_down[by_column[1::2]] = by_column[1::2], by_column[0::2]
    vertical, points = up_or_down.tolist(), np.stack([xs, ys], 1) + corner
    seen, found = [False] * len(vertical), []
    for start in range(len(vertical)):
        ring, at = [], start
        while not seen[at]:
            across = at ^ 1  # the other end of its horizontal edge
            ring += [at, across]
            seen[at] = seen[across] = True
            at = vertical[across]
        if ring:  # it begins at its highest corner and goes to the right: round the object, or round a hole
            x, y = points[start] - corner
            found.append(points[ring] if padded[y + 1, x + 1] else points[ring[::-1]])
    return found


def joined(found: list[Ring]) -> Ring:
    """Return one ring [K, 2] for several, joined by bridges that are walked there and back and so enclose nothing."""
    whole = found[0]
    for ring in found[1:]:
        gaps = np.abs(whole[:, None] - ring[None]).sum(2)  # [K, k]
        here, there = np.unravel_index(int(gaps.argmin()), gaps.shape)
        loop = np.concatenate([ring[there:], ring[: there + 1]])
        whole = np.concatenate([whole[: here + 1], loop, whole[here:]])
    return whole


def polygon(mask: NDArray[np.bool_]) -> Ring:
    """Return one polygon [K, 2] whose even-odd filling is the mask [H, W]; ValueError for an empty mask."""
    found = rings(mask)
    if not found:
        raise ValueError("the mask is empty")
    return joined(found)

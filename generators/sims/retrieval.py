"""The search for segments of a class by shape (published code, step B).

Shapes are compared at a small size, as bits. Which segments are nearest is a matter of the shapes
alone: ties go to the segment that was added first, so any number of workers finds the same.

Legend: M segments, W words of 64 bits of a shape, N segments found.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.generators.sims.segments import Flags, Ints

ROWS = 32  # of a shape at the small size
WORD = 64  # bits
FIRST_BOUND = 0.75  # of the IoU: shapes of too unlike areas are looked at only if need be
NARROWER = 0.6  # factor of the bound when too few are found

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]


def grid_of(aspect_ratio: float) -> tuple[int, int]:
    """Return the small size (rows, columns) for images of an aspect ratio.

    Its columns fill whole words.
    """
    columns = max(1, round(ROWS * aspect_ratio))
    step = WORD // ROWS
    return ROWS, -(-columns // step) * step


def shape_of(mask: Flags, grid: tuple[int, int]) -> Bytes:
    """Return a mask [H, W] at the small size as bits, packed [rows x columns / 8].

    A cell counts where half of it is filled; where none is, the fullest ones count.
    """
    rows, columns = grid
    values = mask.astype(np.float32)
    means = cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA)
    least = min(0.5, float(means.max()))
    filled = (means >= least) & (means > 0)
    return np.packbits(filled)


@dataclass(frozen=True)
class Candidates:
    """The segments of a class by the number of cells that their shapes fill."""

    words: Words  # [M, W]
    cells: Ints  # [M] ascending
    numbers: Ints  # [M] of the segments
    images: Ints  # [M] that they are of


class ShapeIndex:
    """Shapes of segments, ready to be searched."""

    def __init__(self, shapes: Bytes, categories: Ints, images: Ints) -> None:
        """Order shapes [M, W x 8], packed, by class and by the cells they fill."""
        words = np.ascontiguousarray(shapes).view(np.uint64)
        cells = np.bitwise_count(words).sum(1, dtype=np.int64)
        self._of_class: dict[int, Candidates] = {}
        numbers = np.arange(len(categories))
        order = np.lexsort((numbers, cells, categories))
        borders = np.flatnonzero(np.diff(categories[order])) + 1
        for part in np.split(order, borders):
            if len(part):
                category = int(categories[part[0]])
                self._of_class[category] = Candidates(words[part], cells[part], part, images[part])

    def nearest(
        self, shape: Bytes, category: int, count: int = 1, allowed: Flags | None = None
    ) -> Ints:
        """Return the segments [N] of a class with the nearest shapes, the nearest first.

        N is `count`, or fewer where no more overlap with it. `allowed` [images]: of which images
        they may be.
        """
        nobody = np.zeros(0, np.int64)
        there = self._of_class.get(category)
        words = np.ascontiguousarray(shape).view(np.uint64)
        filled = int(np.bitwise_count(words).sum())
        if there is None or not filled:
            return nobody
        numbers = nobody
        ious = np.zeros(0)
        bound = FIRST_BOUND
        middle = int(np.searchsorted(there.cells, filled))
        inner = (middle, middle)
        while True:
            # others' areas are so unlike that their IoU is below the bound
            start = int(np.searchsorted(there.cells, bound * filled))
            stop = int(np.searchsorted(there.cells, filled / max(bound, 1e-9), "right"))
            for part in (slice(start, inner[0]), slice(inner[1], stop)):
                new_numbers, new_ious = _overlaps(there, part, words, filled, allowed)
                numbers = np.concatenate([numbers, new_numbers])
                ious = np.concatenate([ious, new_ious])
            inner = (start, stop)
            order = np.lexsort((numbers, -ious))[:count]
            numbers, ious = numbers[order], ious[order]
            complete = len(ious) == count and ious[-1] >= bound
            if complete or (start == 0 and stop == len(there.cells)):
                return numbers
            bound *= NARROWER


def _overlaps(
    there: Candidates, part: slice, words: Words, filled: int, allowed: Flags | None
) -> tuple[Ints, NDArray[np.float64]]:
    """Return which of some candidates overlap a shape, and the IoUs."""
    shared = np.bitwise_count(there.words[part] & words).sum(1, dtype=np.int64)
    keep = shared > 0
    if allowed is not None:
        keep &= allowed[there.images[part]]
    shared = shared[keep]
    union = filled + there.cells[part][keep] - shared
    return there.numbers[part][keep], shared / union

"""Which of two segments is in front, told by their shapes.

The published training reads disparity maps. Data sets here have none, so a segment that lies in a
hollow of another one, between pixels of it, is taken to be in front of it: what is behind goes on
behind what hides it. (Ours; hulls as a cue to occlusion are as in Zhan et al. 2020.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.generators.sims.canvas import Floats, near
from synthaug.generators.sims.segments import Flags, Segment

REACH = 11  # pixels, side of the squares by which touching segments are found (published code)
CLEAR = 0.1  # share of its pixels by which one has to lie more in the other than the reverse


def between(mask: Flags) -> Flags:
    """Return the pixels [H, W] with a mask on both sides, in their row or column."""
    right = np.logical_or.accumulate(mask, 1)
    left = np.logical_or.accumulate(mask[:, ::-1], 1)[:, ::-1]
    below = np.logical_or.accumulate(mask, 0)
    above = np.logical_or.accumulate(mask[::-1], 0)[::-1]
    enclosed: Flags = (left & right) | (above & below)
    return enclosed


@dataclass(frozen=True)
class Shape:
    """A segment's mask and what its place tells; all [H, W]."""

    mask: Flags
    reach: Flags  # the pixels near it: others are next to it where theirs are among these
    enclosed: Flags  # the pixels between its own

    @staticmethod
    def of(mask: Flags) -> Shape:
        """Return the shape of a mask [H, W]."""
        return Shape(mask, near(mask, REACH), between(mask))

    def touches(self, other: Shape) -> bool:
        """Return whether two are next to each other."""
        return bool((self.reach & other.reach).any())


def in_front(first: Shape, second: Shape) -> int | None:
    """Return 0 where the first of two is in front, 1 the second.

    None where their shapes do not tell.
    """
    of_first = float((first.mask & second.enclosed).sum() / max(1, first.mask.sum()))
    of_second = float((second.mask & first.enclosed).sum() / max(1, second.mask.sum()))
    if abs(of_first - of_second) < CLEAR:
        return None
    return int(of_second > of_first)


def ordered_pairs(
    segments: Sequence[Segment], size: tuple[int, int]
) -> list[tuple[Segment, Segment]]:
    """Return (behind, in front) of touching segments of two classes."""
    shapes = [Shape.of(segment.in_frame(size)) for segment in segments]
    pairs = []
    for place, first in enumerate(segments):
        for other in range(place + 1, len(segments)):
            second = segments[other]
            if first.category == second.category or not shapes[place].touches(shapes[other]):
                continue
            winner = in_front(shapes[place], shapes[other])
            if winner == 0:
                pairs.append((second, first))
            elif winner == 1:
                pairs.append((first, second))
    return pairs


class Statistics:
    """How often each class lies behind another one that it touches."""

    def __init__(self, num_classes: int) -> None:
        self._behind = np.zeros(num_classes)
        self._met = np.zeros(num_classes)

    def add(self, segments: Sequence[Segment], size: tuple[int, int]) -> None:
        """Count the pairs of a map."""
        for behind, front in ordered_pairs(segments, size):
            self._behind[behind.category] += 1
            self._met[[behind.category, front.category]] += 1

    def shares(self) -> Floats:
        """Return the share [C] of its pairs in which a class lies behind; 1/2 without any."""
        shares = (self._behind + 1) / (self._met + 2)
        return shares.astype(np.float32)

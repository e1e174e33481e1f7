"""Which of two segments is in front, told by their shapes.

The published training reads disparity maps. Data sets here have none, so a segment that lies in a
hollow of another one, between pixels of it, is taken to be in front of it: what is behind goes on
behind what hides it. (Ours; hulls as a cue to occlusion are as in Zhan et al. 2020.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthaug.generators.sims.canvas import Floats, near
from synthaug.generators.sims.segments import Flags, Ints, Segment

REACH = 11  # pixels, side of the squares by which touching segments are found (published code)
CLEAR = 0.1  # share of its pixels by which one has to lie more in the other than the reverse


def touch(first: Flags, second: Flags) -> bool:
    """Return whether two masks [H, W] are next to each other."""
    return bool((near(first, REACH) & near(second, REACH)).any())


def between(mask: Flags) -> Flags:
    """Return the pixels [H, W] with a mask on both sides, in their row or column."""
    right = np.logical_or.accumulate(mask, 1)
    left = np.logical_or.accumulate(mask[:, ::-1], 1)[:, ::-1]
    below = np.logical_or.accumulate(mask, 0)
    above = np.logical_or.accumulate(mask[::-1], 0)[::-1]
    enclosed: Flags = (left & right) | (above & below)
    return enclosed


def in_front(first: Flags, second: Flags) -> int | None:
    """Return 0 where the first of two masks [H, W] is in front, 1 the second.

    None where their shapes do not tell.
    """
    of_first = float((first & between(second)).sum() / max(1, first.sum()))
    of_second = float((second & between(first)).sum() / max(1, second.sum()))
    if abs(of_first - of_second) < CLEAR:
        return None
    return int(of_second > of_first)


def ordered_pairs(
    segments: Sequence[Segment], size: tuple[int, int]
) -> list[tuple[Flags, Flags, int]]:
    """Return (behind, in front, class in front) of touching segments of two classes."""
    masks = [segment.in_frame(size) for segment in segments]
    pairs = []
    for place, first in enumerate(segments):
        for other in range(place + 1, len(segments)):
            second = segments[other]
            if first.category == second.category or not touch(masks[place], masks[other]):
                continue
            winner = in_front(masks[place], masks[other])
            if winner == 0:
                pairs.append((masks[other], masks[place], first.category))
            elif winner == 1:
                pairs.append((masks[place], masks[other], second.category))
    return pairs


class Statistics:
    """How often each class lies behind another one that it touches."""

    def __init__(self, num_classes: int) -> None:
        self._behind = np.zeros(num_classes)
        self._met = np.zeros(num_classes)

    def add(self, labels: Ints, segments: Sequence[Segment], size: tuple[int, int]) -> None:
        """Count the pairs of a map."""
        for behind, _, front in ordered_pairs(segments, size):
            back = int(labels[behind][0])
            self._behind[back] += 1
            self._met[[back, front]] += 1

    def shares(self) -> Floats:
        """Return the share [C] of its pairs in which a class lies behind; 1/2 without any."""
        shares = (self._behind + 1) / (self._met + 2)
        return shares.astype(np.float32)

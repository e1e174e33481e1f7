"""Shares of features that nearest upsampling maps wrongly (Dundar et al., Fig. 4).

A doubling copies each feature to four pixels. Three of them are new, and a new one is wrong where
the map at the finer scale has another identity there than the copied pixel has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from synthaug.generators.nn.panoptic.neighbourhood import NeighbourhoodPyramid

NEW_SHARE = 0.75  # of the pixels after a doubling


@dataclass(frozen=True)
class Misalignment:
    """What one doubling does to a batch of maps, as shares of the new pixels."""

    size: tuple[int, int]  # (H, W) after it
    wrong: float  # of another identity than the map's
    holes: (
        float  # wrong ones whose identity is first seen at this scale: Algorithm 1 finds no source
    )


def misalignments(identity: Tensor, heights: Sequence[int]) -> list[Misalignment]:
    """Return one for each height that features are doubled to.

    `identity` [B, H, W] integer are maps at full size, of which each scale takes the top-left pixel
    of every block.
    """
    pyramid = NeighbourhoodPyramid(identity)
    found = []
    for height in heights:
        scale = pyramid.at(height)
        changes = scale.upsampling
        count, _, width = scale.identity.shape
        num_new = NEW_SHARE * count * height * width
        num_holes = len(changes.holes)
        wrong = (len(changes.moved) + num_holes) / num_new
        found.append(Misalignment((height, width), wrong, num_holes / num_new))
    return found

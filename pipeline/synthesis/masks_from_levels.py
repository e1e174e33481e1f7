"""From soft masks of a layout's objects to disjoint ones, by level sets.

Pure functions of arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes, whole_pixels

REACH = 0.9  # least share of the layout box that the tight box of an unoccluded mask covers
LEVELS = np.linspace(1, 0, 33, dtype=np.float32)  # thresholds tried, relative to a mask's maximum
MIN_LEVEL = 1e-6  # below it a mask says nothing


def resolve(
    soft: Floats32,
    boxes: Boxes,
    isthing: Flags,
    reach: float = REACH,
) -> Flags:
    """Turn soft masks [N, H, W] into disjoint masks [N, H, W].

    Given layout boxes [N, 4] (xyxy, pixels). Nothing teaches a layout-to-mask network how high its
    masks are, only where one is higher than another. What is known is that a real object fills its
    box: so a thing is the highest level set of its soft mask whose tight box still covers `reach`
    of the layout box. Where things overlap, the one higher above its level is in front; stuff gets
    the pixels no thing takes, by arg-max (LostGAN-V2, component iii).
    """
    height, width = soft.shape[1:]
    owner = np.full((height, width), -1, np.int16)
    corners = whole_pixels(boxes, height, width)
    things = np.flatnonzero(isthing)
    stuff = np.flatnonzero(~isthing)
    for group in (things, stuff):
        free = owner < 0
        front = np.zeros((height, width), np.float32)  # height of the mask in front above its level
        for number in group.tolist():
            x0, y0, x1, y1 = corners[number]
            window = np.s_[y0:y1, x0:x1]
            above = soft[number][window]
            threshold = MIN_LEVEL
            if isthing[number]:
                level = max(_level(above, reach), MIN_LEVEL)
                above = above / level
                threshold = 1.0
            is_front = above > front[window]
            wins = free[window] & (above >= threshold) & is_front
            np.copyto(front[window], above, where=wins)
            owner[window][wins] = number
    return _masks_of(owner, len(soft))


def _masks_of(owner: NDArray[np.int16], count: int) -> Flags:
    """Return the mask of each number [count, H, W].

    Laid out in memory by columns, as run lengths are counted.
    """
    by_column = np.ascontiguousarray(owner.T)  # [W, H]
    numbers = np.arange(count, dtype=np.int16)
    numbers = numbers[:, None, None]
    masks: Flags = by_column == numbers  # [count, W, H]
    return masks.transpose(0, 2, 1)


def _level(mask: Floats32, reach: float) -> float:
    """Return the threshold of a soft mask [h, w] whose tight box is large enough.

    The highest one at which the box covers `reach` of the mask.
    """
    columns = mask.max(0)
    rows = mask.max(1)
    levels = LEVELS * columns.max()
    covered = _extent(columns, levels) * _extent(rows, levels)
    enough = covered >= reach * mask.size
    return float(levels[enough.argmax()])


def _extent(profile: Floats32, levels: Floats32) -> Ints:
    """Return the extent [levels] of a profile [n] at each level.

    The distance from the first to the last value that reaches it.
    """
    # every level is reached somewhere
    first = np.maximum.accumulate(profile).searchsorted(levels)
    from_the_end = np.maximum.accumulate(profile[::-1])
    last = from_the_end.searchsorted(levels)
    extent: Ints = profile.size - first - last
    return extent

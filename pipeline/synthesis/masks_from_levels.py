"""From a planned layout to a finished synthetic scene: pure functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

REACH = (
    0.9  # share of its layout box that the tight box of an unoccluded object's mask covers at least
)
LEVELS = np.linspace(
    1, 0, 33, dtype=np.float32
)  # candidate thresholds, relative to a mask's highest value


def resolve(
    soft: NDArray[np.float32],
    boxes: NDArray[np.float32],
    isthing: NDArray[np.bool_],
    reach: float = REACH,
) -> NDArray[np.bool_]:
    """Turn soft masks [N, H, W] into disjoint masks [N, H, W], given layout boxes [N, 4] (xyxy, pixels).

    Nothing teaches a layout-to-mask network how high its masks are, only where one is higher than another. What is known
    is that a real object fills its box: so a thing is the highest level set of its soft mask whose tight box still covers
    `reach` of the layout box. Where things overlap, the one higher above its level is in front; stuff gets the pixels no
    thing takes, by arg-max (LostGAN-V2, component iii).
    """
    height, width = soft.shape[1:]
    owner = np.full((height, width), -1, np.int16)
    for group in (isthing, ~isthing):
        free = owner < 0
        front = np.zeros(
            (height, width), np.float32
        )  # how high the mask in front is above its level
        for i, (x0, y0, x1, y1) in zip(
            np.flatnonzero(group), whole_pixels(boxes[group], height, width), strict=True
        ):
            crop = np.s_[y0:y1, x0:x1]
            inside = soft[i][crop]
            above, least = (
                (inside / max(_level(inside, reach), 1e-6), 1.0) if isthing[i] else (inside, 1e-6)
            )
            won = free[crop] & (above >= least) & (above > front[crop])
            np.copyto(front[crop], above, where=won)
            owner[crop][won] = i
    by_column = np.ascontiguousarray(owner.T)  # [W, H]: the order run lengths are counted in
    masks: NDArray[np.bool_] = (
        by_column == np.arange(len(soft), dtype=np.int16)[:, None, None]
    )  # [N, W, H]
    return masks.transpose(0, 2, 1)


def whole_pixels(boxes: NDArray[np.float32], height: int, width: int) -> list[list[int]]:
    """Boxes as whole pixels inside the image, at least one pixel wide and high."""
    edges = boxes.round().astype(int)
    low = np.clip(edges[:, :2], 0, [width - 1, height - 1])
    high = np.clip(edges[:, 2:], low + 1, [width, height])
    return [list(row) for row in np.concatenate([low, high], 1).tolist()]


def _level(mask: NDArray[np.float32], reach: float) -> float:
    """The highest threshold at which the tight box of a soft mask [h, w] covers `reach` of it."""
    columns, rows = mask.max(0), mask.max(1)
    levels = LEVELS * columns.max()

    def extent(line: NDArray[np.float32]) -> NDArray[np.int64]:
        first = np.maximum.accumulate(line).searchsorted(
            levels
        )  # [levels]; every level is reached somewhere
        last = np.maximum.accumulate(line[::-1]).searchsorted(levels)
        found: NDArray[np.int64] = line.size - first - last
        return found

    covered = extent(columns) * extent(rows) >= reach * mask.size
    return float(levels[covered.argmax()])

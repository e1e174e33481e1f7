"""From a planned layout to a finished synthetic scene: pure functions of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.layouts import collate_layouts
from synthaug.pipeline.core import masks as mask_tools
from synthaug.pipeline.core.images import encode, resize, resize_maps
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene

if TYPE_CHECKING:
    from synthaug.generators.base import LayoutSampler, Samples

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


def finish(
    planned: Scene,
    image: NDArray[np.uint8],
    visible: NDArray[np.bool_],
    categories: Sequence[Category],
    kind: str,
    min_area: int,
    checkpoint: str,
) -> tuple[Scene, Counter[str]]:
    """Return the scene with pixels, tight boxes and masks, and what was dropped per class for lack of visible pixels.

    image [H, W, 3], visible [N, H, W] in the order of the planned objects.
    """
    area = visible.sum((1, 2))
    keep = area >= max(1, min_area)
    dropped = Counter(categories[c].name for c in planned.objects.category[~keep].tolist())
    objects = planned.objects.select(keep)
    counts, boxes = mask_tools.encode_with_boxes(visible[keep])
    made = Objects.build(
        objects.category,
        boxes,
        id=objects.id,
        rle=tuple(counts),
        area=area[keep],
        isthing=objects.isthing,
        source=("synthetic",) * len(objects),
        layout_boxes=objects.boxes,
    )
    assert planned.provenance is not None
    data = ImageRef(encode(image, kind), f"{planned.image_id}.{'jpg' if kind == 'jpeg' else 'png'}")
    provenance = replace(planned.provenance, checkpoint=checkpoint)
    return replace(planned, image=data, objects=made, provenance=provenance), dropped


def synthesise(generator: LayoutSampler, planned: Sequence[Scene]) -> Samples:
    """Run the generator on planned scenes, each with its own seed."""
    layouts = collate_layouts(planned)
    seeds = [scene.provenance.seed if scene.provenance else 0 for scene in planned]
    return generator.sample(layouts, seeds)


def at_size(
    made: Samples, place: int, count: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Image `place` of a batch with its first `count` masks, at (H, W)."""
    assert made.masks is not None
    return resize(made.images[place], size), resize_maps(made.masks[place, :count], size)

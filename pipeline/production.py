"""From a planned layout to a finished synthetic scene: pure functions of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import masks as mask_tools
from pipeline.images import encode, resize, resize_maps
from pipeline.loading import collate_layouts
from pipeline.scene import Category, ImageRef, Objects, Scene

if TYPE_CHECKING:
    from generators.base import Generator, Synthesis

HALF = (
    0.5  # of its own highest value: below it a soft mask is not the object, where nothing else competes for the pixel
)


def resolve(
    soft: NDArray[np.float32], background: NDArray[np.float32] | None, boxes: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Give each pixel to the object whose soft mask is highest there: [N, H, W] soft -> [N, H, W] of disjoint masks.

    The arg-max over objects is how LostGAN's masks are read (paper, component iii). A mask lives inside its layout box
    [N, 4] xyxy pixels; a background mask [H, W] competes where the system has one.
    """
    n, height, width = soft.shape
    if n == 0:
        return np.zeros((0, height, width), bool)
    ys, xs = np.arange(height) + 0.5, np.arange(width) + 0.5
    in_y = (ys >= boxes[:, 1:2]) & (ys <= boxes[:, 3:4])  # [N, H]
    in_x = (xs >= boxes[:, 0:1]) & (xs <= boxes[:, 2:3])  # [N, W]
    inside = np.where(in_y[:, :, None] & in_x[:, None, :], soft, 0)
    present = inside >= HALF * inside.max((1, 2), keepdims=True, initial=1e-6)
    rivals = inside if background is None else np.concatenate([inside, background[None]])
    winner = rivals.argmax(0)  # [H, W]
    result: NDArray[np.bool_] = (winner[None] == np.arange(n)[:, None, None]) & present & (inside > 0)
    return result


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
    shown = visible[keep]
    made = Objects.build(
        objects.category,
        mask_tools.tight_boxes(shown),
        id=objects.id,
        rle=tuple(mask_tools.encode(shown)),
        area=area[keep],
        isthing=objects.isthing,
        source=("synthetic",) * len(objects),
        layout_boxes=objects.boxes,
    )
    assert planned.provenance is not None
    data = ImageRef(encode(image, kind), f"{planned.image_id}.{'jpg' if kind == 'jpeg' else 'png'}")
    provenance = replace(planned.provenance, checkpoint=checkpoint)
    return replace(planned, image=data, objects=made, provenance=provenance), dropped


def synthesise(generator: Generator, planned: Sequence[Scene]) -> Synthesis:
    """Run the generator on planned scenes, each with its own seed."""
    layouts = collate_layouts([(scene.objects, (scene.height, scene.width)) for scene in planned])
    seeds = [scene.provenance.seed if scene.provenance else 0 for scene in planned]
    return generator(layouts, seeds)


def at_size(
    made: Synthesis, place: int, count: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32] | None]:
    """Image `place` of a batch with its first `count` masks, at (H, W)."""
    image = resize(made.images[place], size)
    soft = resize_maps(made.masks[place, :count], size)
    back = None if made.background is None else resize_maps(made.background[place][None], size)[0]
    return image, soft, back

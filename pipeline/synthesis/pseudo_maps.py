"""Panoptic maps composed from masks: those that a detector found in an image, or a generator inferred from a layout.

Stuff lies behind things; among things, and among stuff, the higher score is in front. What no mask takes is unlabelled:
"don't care" to a generator. An object without a mask, or without a pixel that can be seen, is not in the map.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.datasets import Mapped
from synthaug.pipeline.core.panoptic_maps import Maps
from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.planning.map_canvas import complete


def can_compose(scene: Scene) -> bool:
    """Whether all objects are pseudo-labels and one has a mask."""
    objects = scene.objects
    return all(source == "pseudo" for source in objects.source) and any(
        code is not None for code in objects.rle
    )


def composed(scene: Scene) -> Scene:
    """Return the scene with a map of its masks; its objects are those of the map, with ids 1 .. n and their scores."""
    size = (scene.height, scene.width)
    objects = scene.objects.select(np.array([code is not None for code in scene.objects.rle], bool))
    stack = masks.decode_all(objects, size)  # [N, H, W]
    back_to_front = np.lexsort((-np.arange(len(objects)), objects.score, objects.isthing))
    place = np.full(size, -1, np.int64)
    for number in back_to_front.tolist():
        place[stack[number]] = number
    kept = np.unique(place[place >= 0])
    ids = panoptic.replace_ids(place, kept, np.arange(1, len(kept) + 1), 0)
    seen, found = objects.select(kept), panoptic.segments_of(ids)
    made = panoptic.objects_of(
        found,
        0,
        seen.category,
        isthing=seen.isthing,
        score=seen.score,
        source=seen.source,
    )
    return replace(
        scene, objects=made, panoptic=ImageRef(masks.panoptic_png(ids), f"{scene.image_id}.png")
    )


def maps_of_masks(
    visible: NDArray[np.bool_], objects: Objects, num_classes: int, size: Size, dont_care: bool
) -> Maps:
    """Return the maps [H, W] of disjoint masks [N, h, w] of a layout's objects.

    A pixel that no mask takes is "don't care" (num_classes); where that is not known to the generator, the nearest stuff, or
    the nearest object of a layout without stuff.
    """
    place = visible.argmax(0)
    free = np.asarray(~visible.any(0))
    if not dont_care and free.any():
        stuff = np.asarray(visible[~objects.isthing].any(0))
        place = complete(place, free, stuff if stuff.any() else ~free)
        free = np.zeros_like(free)
    category = np.append(objects.category, num_classes).astype(np.int64)
    number = np.append(num_classes + 1 + np.arange(len(objects)), num_classes)
    instance = np.where(np.append(objects.isthing, False), number, category)
    chosen = panoptic.resize_map(np.where(free, len(objects), place), size)
    return Maps(category[chosen], instance[chosen])


def with_composed_maps(table: Dataset) -> Dataset:
    """Return the table with maps for its pseudo-labelled scenes, as far as they have masks."""
    return Mapped(table, _complete)


def _complete(scene: Scene) -> Scene:
    if scene.panoptic is None and can_compose(scene):
        return composed(scene)
    return scene

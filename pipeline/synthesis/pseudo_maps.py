"""Panoptic maps composed from masks.

Those that a detector found in an image, or a generator inferred from a layout. Stuff lies behind
things; among things, and among stuff, the higher score is in front. What no mask takes is
unlabelled: "don't care" to a generator, and so is an ignore region where no thing is. An object
without a mask, or without a visible pixel, is not in the map.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.datasets import Mapped
from synthaug.pipeline.core.masks import decode_all, panoptic_png
from synthaug.pipeline.core.panoptic_maps import (
    Maps,
    objects_of,
    replace_ids,
    resize_map,
    segments_of,
)
from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.planning.map_canvas import complete


def can_compose(scene: Scene) -> bool:
    """Return whether all objects are pseudo-labels and enough of them have masks.

    Enough is one that is no ignore region.
    """
    objects = scene.objects.without_crowds()
    all_pseudo = all(source == "pseudo" for source in objects.source)
    return all_pseudo and any(rle is not None for rle in objects.rle)


def with_composed_map(scene: Scene) -> Scene:
    """Return a scene with the map of its masks.

    Its objects are those of the map, with ids 1 .. n and their scores.
    """
    there = [rle is not None for rle in scene.objects.rle]
    has_mask = np.array(there, bool)
    objects = scene.objects.select(has_mask & ~scene.objects.iscrowd)
    crowds = scene.objects.select(has_mask & scene.objects.iscrowd)
    regions = decode_all(crowds, scene.size)
    masks = decode_all(objects, scene.size)  # [N, H, W]
    owner = np.full(scene.size, -1, np.int64)
    # sorted by the last key first: stuff before things, then by score, then the first object last
    reversed_order = -np.arange(len(objects))
    keys = (reversed_order, objects.score, objects.isthing)
    back_to_front = np.lexsort(keys)
    for number in back_to_front.tolist():
        owner[masks[number]] = number
    is_thing = np.append(objects.isthing, False)[owner]  # [H, W]; nobody, -1, is none
    owner[regions.any(0) & ~is_thing] = -1
    visible = np.unique(owner[owner >= 0])
    numbers = np.arange(1, len(visible) + 1)
    ids = replace_ids(owner, visible, numbers, 0)
    kept = objects.select(visible)
    labels = objects_of(
        segments_of(ids),
        0,
        kept.category,
        isthing=kept.isthing,
        score=kept.score,
        source=kept.source,
    )
    png = ImageRef(panoptic_png(ids), f"{scene.image_id}.png")
    return replace(scene, objects=labels, panoptic=png)


def with_composed_maps(table: Dataset) -> Dataset:
    """Return the table with maps for its pseudo-labelled scenes.

    As far as they have masks.
    """
    return Mapped(table, _with_any_map)


def _with_any_map(scene: Scene) -> Scene:
    if scene.panoptic is None and can_compose(scene):
        return with_composed_map(scene)
    return scene


def maps_of_masks(
    visible: Flags, objects: Objects, num_classes: int, size: Size, dont_care: bool
) -> Maps:
    """Return the maps [H, W] of disjoint masks [N, h, w] of a layout's objects.

    A pixel that no mask takes is "don't care" (num_classes); where that is not known to the
    generator, the nearest stuff, or the nearest object of a layout without stuff.
    """
    nobody = len(objects)
    owner = visible.argmax(0)  # [h, w]
    free = np.asarray(~visible.any(0))
    if dont_care or not free.any():
        owner = np.where(free, nobody, owner)
    else:
        spreading = np.asarray(visible[~objects.isthing].any(0))  # stuff
        if not spreading.any():
            spreading = ~free
        owner = complete(owner, free, spreading)
    category = np.append(objects.category, num_classes)
    category = category.astype(np.int64)  # [N + 1]
    isthing = np.append(objects.isthing, False)
    numbers = num_classes + 1 + np.arange(nobody + 1)
    instance = np.where(isthing, numbers, category)
    owner = resize_map(owner, size)  # [H, W]
    return Maps(category[owner], instance[owner])

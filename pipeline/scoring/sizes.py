"""Scenes at another size: their images, boxes, masks and maps.

LostGAN-V2 and the panoptic paper measure real and synthetic images at the resolution of the
generator. Images are resized with the filter that generators are trained with (bilinear,
antialiased); masks and maps take the nearest pixel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from synthaug.pipeline.core import masks, panoptic_maps
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.datasets import Mapped
from synthaug.pipeline.core.images import decode, encode, resize
from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene


def table_at_size(table: Dataset, size: Size, pixels: bool) -> Dataset:
    """Return a table with all scenes at a size (H, W).

    Without `pixels`, images and maps stay as they are.
    """
    height, width = size
    to_size = partial(scene_at_size, size=size, pixels=pixels)
    return Mapped(table, to_size, f"{height}x{width}")


def scene_at_size(scene: Scene, size: Size, pixels: bool = True) -> Scene:
    """Return a scene at a size (H, W)."""
    if scene.size == size:
        return scene
    image = scene.image
    panoptic = scene.panoptic
    if pixels:
        resized = resize(decode(scene), size)
        image = ImageRef(encode(resized, "png"), f"{scene.image_id}.png")
        if panoptic is not None:
            ids = panoptic_maps.resize_map(panoptic_maps.map_of(scene), size)
            panoptic = ImageRef(masks.panoptic_png(ids), panoptic.path)
    scaled = scene.objects.scaled(scene.size, size)
    objects = _with_masks(scene.objects, scaled, scene.size, size)
    height, width = size
    return replace(
        scene, height=height, width=width, image=image, panoptic=panoptic, objects=objects
    )


def _with_masks(objects: Objects, scaled: Objects, old: Size, new: Size) -> Objects:
    """Return the scaled objects with their masks, and the areas of these.

    The masks are those at the old size.
    """
    rle: list[str | None] = [None] * len(objects)
    area = scaled.area.copy()
    for number, code in enumerate(objects.rle):
        if code is not None:
            mask = panoptic_maps.resize_map(masks.decode(code, old), new)
            flags = np.asarray(mask, bool)
            (rle[number],) = masks.encode(flags[None])
            area[number] = mask.sum()
    return replace(scaled, rle=tuple(rle), area=area)

"""Toy scenes for recorded numbers, and what a row says of a scene."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.masks import decode_all, encode_with_boxes
from synthaug.pipeline.core.scene import Dataset, ImageRef, Scene, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from tests.golden.recorded import Row, digest

CLASSES = len(toy.CATEGORIES)


@functools.cache
def painted(split: str = "train", count: int = 12, size: int = 48) -> SceneList:
    """Return toy scenes, painted once."""
    table = toy.ToyDataset(toy.Config(split, count, size=size))
    return SceneList(toy.CATEGORIES, list(table))


@functools.cache
def mixed(count: int = 12) -> SceneList:
    """Return wide scenes with unsure objects, objects without masks and a few crowds.

    What is right of squares, of sure objects or of scenes without crowds alone is seen.
    """
    scenes = []
    for number, scene in enumerate(painted(count=count)):
        height = scene.width - 8
        masks = decode_all(scene.objects, scene.size)[:, :height]
        rles, boxes = encode_with_boxes(masks)
        shown = masks.any((1, 2))
        places = np.arange(len(shown))
        crowd = scene.objects.isthing & ((places + number) % 7 == 0)
        unsure = np.where(places % 3 == 1, 0.3 + 0.05 * number, 1).astype(np.float32)
        without = [None if number % 4 == 3 else rle for rle in rles]
        objects = replace(
            scene.objects,
            boxes=boxes,
            rle=tuple(without),
            area=masks.sum((1, 2)).astype(np.float64),
            iscrowd=crowd,
            score=unsure,
        )
        image = ImageRef(encode(decode(scene)[:height], "png"))
        kept = objects.select(shown)
        scenes.append(replace(scene, height=height, image=image, objects=kept, panoptic=None))
    return SceneList(toy.CATEGORIES, scenes)


def described(scene: Scene, table: Dataset, pixels: bool = True) -> Row:
    """Return what is to be known of a scene, in words and numbers."""
    objects = scene.objects
    names = [table.categories[c].name for c in objects.category.tolist()]
    crowds = np.flatnonzero(objects.iscrowd).tolist()
    origin = scene.provenance
    row = {
        "id": scene.image_id,
        "size": list(scene.size),
        "ids": objects.id.tolist(),
        "classes": " ".join(names),
        "sources": " ".join(sorted(set(objects.source))),
        "crowds": crowds,
        "boxes": digest(objects.boxes),
        "areas": digest(objects.area),
        "scores": digest(objects.score),
        "layout boxes": digest(np.nan_to_num(objects.layout_boxes)),
        "masks": sum(rle is not None for rle in objects.rle),
    }
    if origin is not None:
        row["of"] = f"{origin.source_image} by {origin.generator}: {origin.reason}"
        row["seed"] = str(origin.seed)
    if pixels:
        row["pixels"] = digest(decode(scene) / 255)
    return row

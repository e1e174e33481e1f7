"""Tables of scenes to batches of photos with their objects.

Some of the photos are held out.

Every batch is a pure function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from synthaug.pipeline.batches.automatic_mask import automatic_mask
from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.arrays import Bytes, Flags
from synthaug.pipeline.core.boxes import mirror_boxes
from synthaug.pipeline.core.masks import decode
from synthaug.pipeline.core.scene import Dataset, Objects
from synthaug.pipeline.core.seeding import permuted, seed_for

if TYPE_CHECKING:
    from synthaug.generators.base import Photo, PhotoBatch


@dataclass(frozen=True)
class HeldOut:
    """Photos that nothing is learned from.

    With the steps at which they tell how well it goes.
    """

    share: float = 0.15  # of the first table, whose labels are a person's
    most: int = 64  # photos
    every: int = 100  # steps


def held_out_indices(count: int, held_out: HeldOut, seed: int) -> list[int]:
    """Return which of the first `count` photos are held out.

    None where few would be left.
    """
    number = min(held_out.most, int(held_out.share * count))
    position = seed_for(seed, "held out")
    return sorted(permuted(k, count, position) for k in range(number))


def photo_batches(
    tables: Sequence[Dataset],
    draw: Draw,
    held_out: HeldOut,
    flip: bool,
    rank: int = 0,
    world: int = 1,
) -> Callable[[int], PhotoBatch]:
    """Return step -> photos with their things but crowds.

    A process gets every world-th.

    A held-out photo that is drawn is replaced by the next one that is not held out. `flip` mirrors
    half of the photos.
    """
    from synthaug.generators.base import Photo, PhotoBatch

    pixels = Pixels(tables)
    apart = held_out_indices(len(tables[0]), held_out, draw.seed)
    learned = np.setdiff1d(np.arange(len(pixels)), apart)

    def photo(index: int, mirrored: bool = False, drawn_for: int = -1) -> Photo:
        scene, image = pixels[index]
        is_instance = scene.objects.isthing & ~scene.objects.iscrowd
        objects = scene.objects.select(is_instance)
        mask_of = partial(_mask_of, objects, image, mirrored)
        boxes = objects.boxes
        if mirrored:
            image = image[:, ::-1]
            boxes = mirror_boxes(boxes, scene.width)
        return Photo(image, objects.category.astype(np.int64), boxes, drawn_for, mask_of)

    def batch(step: int) -> PhotoBatch:
        positions = np.searchsorted(learned, draw(step)[rank::world])
        mirrored = draw.mirrored(step, flip)[rank::world]
        classes = draw.drawn_for(step)[rank::world]
        photos = []
        for position, turned, label in zip(positions, mirrored, classes, strict=True):
            index = int(learned[position % len(learned)])
            photos.append(photo(index, bool(turned), label))
        measured = []
        if step % held_out.every == 0:
            measured = [photo(index) for index in apart]
        return PhotoBatch(photos, measured)

    return batch


def _mask_of(objects: Objects, image: Bytes, mirrored: bool, number: int) -> Flags | None:
    """Return the mask [H, W] of an object of an image; None where none is known.

    Of one without a mask it is that of its color, where this is sound.
    """
    rle = objects.rle[number]
    if rle is None:
        mask = automatic_mask(image, objects.boxes[number])
    else:
        mask = decode(rle, image.shape[:2])
    if mask is None or not mask.any():
        return None
    return mask[:, ::-1] if mirrored else mask

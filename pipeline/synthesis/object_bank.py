"""The real objects of a table that can be pasted into other images; only those that a person labelled, never crowds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.generators import copy_paste
from synthaug.generators.copy_paste import Config, Piece
from synthaug.pipeline.batches.pixels import Pixels, ScenePixels
from synthaug.pipeline.core.masks import decode, tight_boxes
from synthaug.pipeline.core.scene import Dataset, Objects, Scene

TRIES = 8  # objects of a class drawn for a box; the one nearest in size and shape is taken
MIN_SIDE = 2  # pixels; narrower objects are not cut

Box = NDArray[np.float32]  # xyxy [4]
Extent = tuple[Box, NDArray[np.bool_] | None]  # box, mask [H, W] where there is one


@dataclass(frozen=True)
class Bank:
    """The objects of a table that can be pasted, M of them, and the images they are in."""

    pixels: Pixels
    config: Config
    index_of: dict[str, int]  # image_id -> index in the table
    image: NDArray[np.int64]  # [M] index of the image in the table
    number: NDArray[np.int64]  # [M] position of the object in its scene
    category: NDArray[np.int64]  # [M]
    size: NDArray[np.float32]  # [M, 2] of the box (h, w), pixels
    inside: NDArray[np.bool_]  # [M] whether the box does not touch the border of its image

    @staticmethod
    def of(table: Dataset, bare: Dataset, config: Config) -> Bank:
        """Look through `bare`, the same table read without pixels."""
        rows: list[tuple[int, int, int, float, float, bool]] = []
        index_of = {}
        for index, scene in enumerate(bare):
            index_of[scene.image_id] = index
            for number in pasteable(scene.objects):
                x0, y0, x1, y1 = scene.objects.boxes[number].tolist()
                inside = x0 >= 1 and y0 >= 1 and x1 <= scene.width - 1 and y1 <= scene.height - 1
                category = int(scene.objects.category[number])
                rows.append((index, number, category, y1 - y0, x1 - x0, inside))
        columns = np.array(rows, np.float64).reshape(-1, 6)
        image, number, category = columns[:, :3].T.astype(np.int64)
        size = columns[:, 3:5].astype(np.float32)
        inside = columns[:, 5] > 0
        return Bank(Pixels([table]), config, index_of, image, number, category, size, inside)

    def scene(self, image_id: str) -> ScenePixels:
        """Return the scene of an image and its pixels."""
        return self.pixels[self.index_of[image_id]]

    def piece(self, category: int, box: Box, rng: np.random.Generator) -> Piece | None:
        """Return an object of a class, brought to an xyxy box [4]; None where there is none.

        Of some objects drawn, the one nearest to the box in size and shape; it keeps its own shape, and takes the box's
        centre and area. Objects cut off by the border of their image are drawn only where there are no others.
        """
        candidates = np.flatnonzero(self.category == category)
        whole = candidates[self.inside[candidates]]
        if len(whole):
            candidates = whole
        if not len(candidates):
            return None
        drawn = candidates[rng.integers(len(candidates), size=TRIES)]
        height = max(1.0, float(box[3] - box[1]))
        width = max(1.0, float(box[2] - box[0]))
        ratio = self.size[drawn] / np.array([height, width], np.float32)  # [TRIES, 2]
        distance = np.abs(np.log(ratio)).sum(1)
        chosen = int(drawn[distance.argmin()])
        scene, image = self.pixels[int(self.image[chosen])]
        extent = extent_of(scene, int(self.number[chosen]))
        target = _same_shape(extent[0], box, height * width)
        mirror = bool(rng.random() < self.config.mirror)
        return piece_of(image, extent, target, mirror, self.config)


def _same_shape(box: Box, target: Box, area: float) -> Box:
    """Return a box of the shape of `box`, with the centre of `target` and an area."""
    x0, y0, x1, y1 = box.tolist()
    scale = np.sqrt(area / ((x1 - x0) * (y1 - y0)))
    half = np.array([x1 - x0, y1 - y0]) * scale / 2
    center = (target[:2] + target[2:]) / 2
    return np.concatenate([center - half, center + half]).astype(np.float32)


def pasteable(objects: Objects) -> list[int]:
    """Return the positions of the objects that may be cut: things that a person labelled, no crowds, not too narrow."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    wide_enough = (sides >= MIN_SIDE).all(1)
    human = np.array([source == "human" for source in objects.source], bool)
    positions: list[int] = np.flatnonzero(
        objects.isthing & ~objects.iscrowd & human & wide_enough
    ).tolist()
    return positions


def extent_of(scene: Scene, number: int) -> Extent:
    """Return the box [4] of an object and its mask [H, W], None where it has none; the box is that of the mask."""
    rle = scene.objects.rle[number]
    box = scene.objects.boxes[number]
    if rle is None:
        return box, None
    mask = decode(rle, scene.size)
    if not mask.any():
        return box, None
    return tight_boxes(mask[None])[0], mask


def piece_of(
    image: NDArray[np.uint8], extent: Extent, target: Box, mirror: bool, config: Config
) -> Piece:
    """Cut an object out of an image and bring it to an xyxy box [4] of a canvas."""
    box, mask = extent
    size = (float(box[3] - box[1]), float(box[2] - box[0]))
    scale = float(target[3] - target[1]) / max(size[0], 1e-6)
    margin = copy_paste.margin_of(mask is None, size, scale, config)
    cutout = copy_paste.cut(image, box.tolist(), mask, margin)
    return copy_paste.piece(cutout, target.tolist(), mirror, config)

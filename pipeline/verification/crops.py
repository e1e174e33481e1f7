"""Crops of labelled images that prototypes are learnt from.

And the features of boxes of any table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes, Flags, Floats32
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification.injected_errors import FREE_IOU, TRIES, shifted_box
from synthaug.pipeline.verification.prototypes import BACKGROUND, PART

IMAGES_PER_CLASS = 60  # with an object of a class that prototypes are to judge, evenly spaced
OTHER_IMAGES = 100  # besides, evenly spaced
OBJECTS = 30  # of an image, at most
BACKGROUNDS = 2  # boxes of an image in which nothing is

Box = NDArray[np.float32]


class BoxFeatures(Protocol):
    """A detector whose features of boxes can be had (detectors/base.py)."""

    def box_features(self, images: Sequence[Bytes], boxes: Sequence[Floats32]) -> list[Floats32]:
        """Return the features [N, D] of boxes [N, 4] of each image."""
        ...


@dataclass(frozen=True)
class Crop:
    """A box of an image, and what is in it: a class, BACKGROUND, or PART - class."""

    box: Box  # [4] xyxy, pixels
    kind: int


def features_of(
    detector: BoxFeatures, table: Dataset, boxes: Mapping[int, Sequence[Box]]
) -> dict[int, Floats32]:
    """Return the features [N, D] of the boxes of each image.

    By its index in the table.
    """
    features = {}
    for index in sorted(boxes):
        image = decode(table[index])
        stacked = np.stack(boxes[index]).astype(np.float32)
        found = detector.box_features([image], [stacked])
        (features[index],) = found
    return features


def labelled_crops(
    table: Dataset, judged: Sequence[int], things: Flags, seed: int
) -> dict[int, list[Crop]]:
    """Choose images for the prototypes of some classes; return their crops by index.

    No pixels are read. There are things of all classes, background, and parts of objects of the
    classes to be judged.
    """
    with_class: dict[int, list[int]] = {label: [] for label in judged}
    for index, scene in enumerate(table):
        objects = scene.objects
        counted = objects.category[~objects.iscrowd]
        for label in np.intersect1d(counted, judged).tolist():
            with_class[label].append(index)
    chosen = set(_evenly(range(len(table)), OTHER_IMAGES))
    for indices in with_class.values():
        chosen.update(_evenly(indices, IMAGES_PER_CLASS))
    crops = {}
    for index in sorted(chosen):
        of_image = _crops(table[index], index, judged, things, seed)
        if of_image:
            crops[index] = of_image
    return crops


def _evenly(indices: Sequence[int], most: int) -> list[int]:
    size = min(len(indices), most)
    count = len(indices)
    return [indices[k * count // size] for k in range(size)]


def _crops(scene: Scene, index: int, judged: Sequence[int], things: Flags, seed: int) -> list[Crop]:
    """Return the crops of one image.

    Its things, rare ones first, their parts, and background.
    """
    rng = rng_for(seed, "crops", index)
    row = DetectionRow.bare(index, scene)
    eligible = np.flatnonzero(things[row.labels] & ~row.crowd)
    is_judged = np.isin(row.labels[eligible], judged)
    order = np.argsort(~is_judged, kind="stable")
    crops = []
    for number in eligible[order][:OBJECTS].tolist():
        label = int(row.labels[number])
        crops.append(Crop(row.boxes[number], label))
        if label in judged:
            shifted = shifted_box(row, number, rng)
            if shifted is not None:
                crops.append(Crop(shifted.box, PART - label))
    for number in rng.permutation(eligible)[:BACKGROUNDS].tolist():
        box = _empty_place(row, row.boxes[number], things, rng)
        if box is not None:
            crops.append(Crop(box, BACKGROUND))
    return crops


def _empty_place(
    row: DetectionRow, like: Box, things: Flags, rng: np.random.Generator
) -> Box | None:
    """Return a box of that size where no thing is; None where none is found."""
    side = like[2:] - like[:2]
    image_size = np.array([row.width, row.height], np.float32)
    room = np.maximum(image_size - side, 0)
    others = row.boxes[things[row.labels]]
    no_crowd = np.zeros(len(others), bool)
    for _ in range(TRIES):
        corner = (rng.random(2) * room).astype(np.float32)
        box = np.concatenate([corner, corner + side])
        box = box.astype(np.float32)
        overlap = overlaps(box[None], others, no_crowd)
        if overlap.max(initial=0.0) < FREE_IOU:
            return np.asarray(box)
    return None

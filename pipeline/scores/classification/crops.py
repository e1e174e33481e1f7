"""Objects cut out of images, for classifiers.

Legend: N crops, S crop side, C classes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    Record,
    TableImage,
    layout_objects,
)

PAPER_SIZE = 32  # pixels


class Cutting(Protocol):
    """What a table of crops asks of its settings."""

    @property
    def size(self) -> int:
        """Crop side, pixels."""
        ...

    @property
    def seed(self) -> int:
        """Of the draw."""
        ...

    @property
    def crops_per_class_max(self) -> int:
        """The usual cap."""
        ...


@dataclass(frozen=True)
class CropRow:
    """The objects of one image as crops; travels between processes."""

    index: int  # layout or image; with `sample` unique in a table
    sample: int
    crops: NDArray[np.uint8]  # [N, S, S, 3] RGB
    labels: NDArray[np.int64]  # [N] class index
    skipped: int  # boxes without pixels


@dataclass(frozen=True)
class CropSet:
    """Crops to train or to test on, in an order that does not depend on who cut them."""

    crops: NDArray[np.uint8]  # [N, S, S, 3] RGB
    labels: NDArray[np.int64]  # [N] 0..C-1, positions in `Config.selected`
    found: NDArray[np.int64]  # [C] crops seen, before the cap
    skipped: int


def crops(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], size: int = PAPER_SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut boxes [N, 4] (xyxy, pixels) out of an image [H, W, 3]; return crops [K, size, size, 3] and the K of N kept.

    Boxes are clipped to the image and cover every pixel they touch. A box is skipped when less than one pixel wide or
    high after clipping. Shrinking averages (INTER_AREA), enlarging interpolates (INTER_LINEAR).
    """
    import cv2

    height, width = image.shape[:2]
    clipped = np.clip(boxes.astype(np.float64).reshape(-1, 4), 0, [width, height, width, height])
    kept = np.asarray((clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1))
    out: NDArray[np.uint8] = np.zeros((int(kept.sum()), size, size, 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(clipped[kept]):
        region = image[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
        shrinks = region.shape[0] >= size and region.shape[1] >= size
        out[i] = cv2.resize(
            region, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return out, kept


def cut(
    index: int,
    sample: int,
    image: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: int,
) -> CropRow:
    """Return the crops of one image as a row; leave crowds out of `boxes`."""
    found, kept = crops(image, boxes, size)
    return CropRow(index, sample, found, np.asarray(labels, np.int64)[kept], int((~kept).sum()))


class CropTable:
    """Collects rows in any order and keeps a fixed random draw of at most `cap` crops per class.

    A crop's place in the draw is a hash of what it is, so memory is bounded and the order of arrival does not matter.
    `cap` is `config.crops_per_class_max` unless given; 0 keeps all, as crops to test on need: a cap would change their
    class shares, and top-1 with them.
    """

    def __init__(self, config: Cutting, selected: Sequence[int], cap: int | None = None) -> None:
        self._size, self._seed = config.size, config.seed
        self._cap = config.crops_per_class_max if cap is None else cap
        self._place = {c: k for k, c in enumerate(selected)}
        self._found = np.zeros(len(selected), np.int64)
        self._skipped = 0
        self._kept: list[list[tuple[int, int, int, int, NDArray[np.uint8]]]] = [
            [] for _ in selected
        ]

    def add(self, row: CropRow) -> None:
        """Take the crops of one image; classes that are not selected are left out."""
        self._skipped += row.skipped
        for number, (crop, label) in enumerate(zip(row.crops, row.labels.tolist(), strict=True)):
            k = self._place.get(label)
            if k is None:
                continue
            self._found[k] += 1
            draw = seed_for(self._seed, "cas", row.index, row.sample, number)
            heapq.heappush(self._kept[k], (-draw, row.index, row.sample, number, crop))
            if len(self._kept[k]) > self._cap > 0:
                heapq.heappop(self._kept[k])

    def result(self) -> CropSet:
        """Return the crops, class by class."""
        flat = [
            entry[4] for kept in self._kept for entry in sorted(kept, key=lambda entry: entry[:4])
        ]
        pixels = np.stack(flat) if flat else np.zeros((0, self._size, self._size, 3), np.uint8)
        labels = np.repeat(np.arange(len(self._kept)), [len(kept) for kept in self._kept]).astype(
            np.int64
        )
        return CropSet(pixels, labels, self._found.copy(), self._skipped)


@dataclass(frozen=True)
class CropExtractor(Extractor):
    """Cuts the objects out of labelled, real and synthetic images."""

    name: ClassVar[str] = "crops"
    size: int = PAPER_SIZE  # crop side, pixels

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """An observer with scissors."""

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            records: list[Arrays] = []
            for image in images:
                objects = layout_objects(image.scene)
                labels = objects.category.astype(np.int64)
                row = cut(
                    image.index, image.sample, image.pixels(), objects.boxes, labels, self.size
                )
                records.append(
                    {"crops": row.crops, "labels": row.labels, "skipped": np.array(row.skipped)}
                )
            return records

        return extract


def crop_row(record: Record) -> CropRow:
    """A crop is named by its layout and the image's turn there, so that more images per layout change no draw."""
    place = (record.layout, record.sample) if record.layout >= 0 else (record.index, -1)
    arrays = record.arrays
    return CropRow(*place, arrays["crops"], arrays["labels"], int(arrays["skipped"]))

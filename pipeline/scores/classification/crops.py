"""Objects cut out of images, for classifiers.

Legend: N crops, S crop side, C classes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes, Flags, Floats, Ints
from synthaug.pipeline.core.boxes import Boxes, Size
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


class CropSettings(Protocol):
    """The settings of a table of crops."""

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
    crops: Bytes  # [N, S, S, 3] RGB
    labels: Ints  # [N] class index
    skipped: int  # boxes without pixels


@dataclass(frozen=True)
class CropSet:
    """Crops to train or to test on.

    Their order does not depend on the workers that cut them.
    """

    crops: Bytes  # [N, S, S, 3] RGB
    labels: Ints  # [N] 0..C-1, positions in `Config.selected`
    num_seen: Ints  # [C] crops before the cap
    skipped: int


def in_image(boxes: Boxes, size: Size) -> tuple[Floats, Flags]:
    """Return boxes [N, 4] clipped to an image (H, W), and which [N] have a pixel."""
    height, width = size
    corners = boxes.astype(np.float64).reshape(-1, 4)
    clipped = np.clip(corners, 0, [width, height, width, height])
    sides = clipped[:, 2:] - clipped[:, :2]
    return clipped, np.asarray((sides >= 1).all(axis=1))


def crops(image: Bytes, boxes: Boxes, size: int = PAPER_SIZE) -> tuple[Bytes, Flags]:
    """Cut boxes [N, 4] (xyxy, pixels) out of an image [H, W, 3].

    Returns crops [K, size, size, 3] and the K of N kept. Boxes are clipped to the image and cover
    every pixel they touch. A box is skipped when less than one pixel wide or high after clipping.
    Shrinking averages (INTER_AREA), enlarging interpolates (INTER_LINEAR).
    """
    import cv2

    clipped, kept = in_image(boxes, image.shape[:2])
    shape = (int(kept.sum()), size, size, 3)
    out: Bytes = np.zeros(shape, np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(clipped[kept]):
        rows = slice(math.floor(y1), math.ceil(y2))
        columns = slice(math.floor(x1), math.ceil(x2))
        region = image[rows, columns]
        interpolation = cv2.INTER_LINEAR
        if min(region.shape[:2]) >= size:
            interpolation = cv2.INTER_AREA
        out[i] = cv2.resize(region, (size, size), interpolation=interpolation)
    return out, kept


class CropTable:
    """A collector of rows that keeps a fixed draw of at most `cap` crops per class.

    Rows come in any order. A crop's rank in the draw is a hash of its identity, so memory is
    bounded and the order of arrival does not matter. `cap` is `config.crops_per_class_max` unless
    given; 0 keeps all, as crops to test on need: a cap would change their class shares, and top-1
    with them.
    """

    def __init__(
        self, config: CropSettings, selected: Sequence[int], cap: int | None = None
    ) -> None:
        self._size = config.size
        self._seed = config.seed
        self._cap = config.crops_per_class_max if cap is None else cap
        self._label = {c: k for k, c in enumerate(selected)}
        self._num_seen = np.zeros(len(selected), np.int64)
        self._num_skipped = 0
        self._heaps: list[list[_Entry]] = [[] for _ in selected]

    def add(self, row: CropRow) -> None:
        """Take the crops of one image; classes that are not selected are left out."""
        self._num_skipped += row.skipped
        labelled = zip(row.crops, row.labels.tolist(), strict=True)
        for number, (crop, label) in enumerate(labelled):
            k = self._label.get(label)
            if k is None:
                continue
            self._num_seen[k] += 1
            rank = seed_for(self._seed, "cas", row.index, row.sample, number)
            heap = self._heaps[k]
            heapq.heappush(heap, (-rank, row.index, row.sample, number, crop))
            if len(heap) > self._cap > 0:
                heapq.heappop(heap)

    def result(self) -> CropSet:
        """Return the crops, class by class."""
        pixels = [np.zeros((0, self._size, self._size, 3), np.uint8)]
        labels: list[int] = []
        for k, heap in enumerate(self._heaps):
            for *_, crop in sorted(heap, key=_identity):
                pixels.append(crop[None])
                labels.append(k)
        return CropSet(
            np.concatenate(pixels),
            np.array(labels, np.int64),
            self._num_seen.copy(),
            self._num_skipped,
        )


# negative rank, index, sample and number of a crop, and its pixels [S, S, 3]
_Entry = tuple[int, int, int, int, Bytes]


def _identity(entry: _Entry) -> tuple[int, int, int, int]:
    """Return all of an entry but the pixels, which cannot be compared."""
    return entry[:4]


@dataclass(frozen=True)
class CropExtractor(Extractor):
    """Crops of the objects of labelled, real and synthetic images."""

    name: ClassVar[str] = "crops"
    size: int = PAPER_SIZE  # crop side, pixels

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            records: list[Arrays] = []
            for image in images:
                objects = layout_objects(image.scene)
                pixels, kept = crops(image.pixels(), objects.boxes, self.size)
                record: dict[str, NDArray[Any]] = {
                    "crops": pixels,
                    "labels": objects.category[kept].astype(np.int64),
                    "skipped": np.array(int((~kept).sum())),
                }
                records.append(record)
            return records

        return extract


def crop_row(record: Record) -> CropRow:
    """Return the row of a record, named by its layout and sample.

    So more images per layout change no draw.
    """
    index = record.layout
    sample = record.sample
    if record.layout < 0:
        index = record.index
        sample = -1
    arrays = record.arrays
    return CropRow(index, sample, arrays["crops"], arrays["labels"], int(arrays["skipped"]))

"""Objects of images, seen alone.

Their pixels, the band around their edge, and their finest detail.

In synthetic images only objects that were made count: those of a real image that was added to are a
person's.

Legend: N objects, S side of a picture in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes, Flags, Floats, Ints
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.core.scene import Objects, Scene
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    missing_input,
)

BAND = 0.18  # width of the band on either side of a box's edge, in its longer sides
LEAST_BAND = 2  # pixels
LEAST_SIDE = 4  # pixels; smaller objects are not measured
LEAST_FOR_POWER = 12  # pixels per side: a smaller object has no spectrum to speak of
HALF_NYQUIST = 0.25  # cycles per pixel
FEW = 20  # objects of a kind below which nothing is measured

Pictures = NDArray[np.uint8]  # [N, S, S, 3]


@dataclass(frozen=True)
class ObjectExtractor(Extractor):
    """Pictures of objects and of the bands around them, and their fine power.

    Fine power is the logarithm of what they have above half the Nyquist frequency.
    """

    name: ClassVar[str] = "made_objects"
    tables: tuple[str, ...] = ("train", "real", "synthetic")
    side: int = 32  # pixels of a picture

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""
        some_are_made = False
        if "synthetic" in inputs.tables:
            synthetic = inputs.tables["synthetic"]
            some_are_made = any(_made(scene).any() for scene in synthetic)

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            records = []
            for image in images:
                only_made = image.table == "synthetic" and some_are_made
                records.append(self._measure(image, only_made))
            return records

        return extract

    def _measure(self, image: TableImage, only_made: bool) -> Arrays:
        objects = measured_objects(image.scene, only_made)
        pixels = image.pixels()
        inside = [inside_of(pixels, box, self.side) for box in objects.boxes]
        seams = [seam_of(pixels, box, self.side) for box in objects.boxes]
        powers = [fine_power(pixels, box) for box in objects.boxes]
        shape = (-1, self.side, self.side, 3)
        record: dict[str, NDArray[Any]] = {
            "inside": np.array(inside, np.uint8).reshape(shape),
            "seam": np.array(seams, np.uint8).reshape(shape),
            "power": np.array(powers, np.float64),
            "labels": objects.category.astype(np.int64),
        }
        return record


def _made(scene: Scene) -> Flags:
    """Return which objects [N] of a scene were made."""
    is_made = [source == "synthetic" for source in scene.objects.source]
    return np.array(is_made, bool)


def measured_objects(scene: Scene, only_made: bool) -> Objects:
    """Return the things of a scene that are measured.

    Inside the image and large enough.
    """
    objects = scene.objects
    keep = objects.isthing & ~objects.iscrowd
    if only_made:
        keep = keep & _made(scene)
    low = np.maximum(objects.boxes[:, :2], 0)
    high = np.minimum(objects.boxes[:, 2:], [scene.width, scene.height])
    large = ((high - low) >= LEAST_SIDE).all(1)
    return objects.select(keep & large)


def few_objects(inputs: MetricInputs) -> str | None:
    """Return in one line what the scores of objects need and have not."""
    missing = missing_input(inputs, ("train", "real", "synthetic"))
    if missing:
        return missing
    for name in ("train", "real", "synthetic"):
        count = 0
        for scene in inputs.tables[name]:
            objects = scene.objects
            is_instance = objects.isthing & ~objects.iscrowd
            count += int(is_instance.sum())
            if count >= FEW:
                break
        if count < FEW:
            return f"the {name} images show {count} objects; {FEW} are needed"
    return None


def inside_of(image: Bytes, box: Boxes, side: int) -> Bytes:
    """Return the pixels [S, S, 3] of a box [4]."""
    x0, y0, x1, y1 = _whole(box, image.shape)
    inside = image[y0:y1, x0:x1]
    return _resized(inside, (side, side))


def seam_of(image: Bytes, box: Boxes, side: int) -> Bytes:
    """Return the band along the edges of a box [4] as a picture [S, S, 3].

    The bands of the four sides lie below each other, each from outside (above) to inside; beyond
    its border the image is mirrored.
    """
    x0, y0, x1, y1 = _whole(box, image.shape)
    longer = max(x1 - x0, y1 - y0)
    width = max(LEAST_BAND, round(BAND * longer))
    margin = (width, width)
    padded = np.pad(image, (margin, margin, (0, 0)), mode="symmetric")
    # a box's corner in the image is moved by `width` in the padded one
    rows = slice(y0 + width, y1 + width)
    columns = slice(x0 + width, x1 + width)
    above = padded[y0 : y0 + 2 * width, columns]
    below = padded[y1 : y1 + 2 * width, columns]
    left = padded[rows, x0 : x0 + 2 * width].swapaxes(0, 1)
    right = padded[rows, x1 : x1 + 2 * width].swapaxes(0, 1)
    bands = [above, below[::-1], left, right[::-1]]
    size = (side // 4, side)
    return np.concatenate([_resized(band, size) for band in bands])


def fine_power(image: Bytes, box: Boxes) -> float:
    """Return the log of the mean power of a box [4] above half the Nyquist frequency.

    The box is looked at in its own scale.

    NaN for a box too small to have a spectrum. Brightness alone counts, under a Hann window.
    """
    x0, y0, x1, y1 = _whole(box, image.shape)
    if min(x1 - x0, y1 - y0) < LEAST_FOR_POWER:
        return math.nan
    inside = image[y0:y1, x0:x1].astype(np.float64)
    gray = inside.mean(2)
    height, width = gray.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    centered = gray - gray.mean()
    spectrum = np.fft.fft2(centered * window)
    power = np.abs(spectrum) ** 2 / (window**2).sum()
    rows = np.fft.fftfreq(height)  # cycles per pixel
    columns = np.fft.fftfreq(width)
    is_fine = np.hypot(rows[:, None], columns) > HALF_NYQUIST
    fine = power[is_fine].mean()
    return float(np.log(fine + 1e-3))


def _whole(box: Boxes, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return a box in whole pixels inside an image, at least one wide and high."""
    height, width = shape[:2]
    x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
    left = min(max(0, x0), width - 1)
    top = min(max(0, y0), height - 1)
    right = max(left + 1, min(width, x1))
    bottom = max(top + 1, min(height, y1))
    return left, top, right, bottom


def _resized(pixels: Bytes, size: tuple[int, int]) -> Bytes:
    """Resize [h, w, 3] to (H, W): shrinking averages, enlarging interpolates."""
    import cv2

    height, width = size
    shrinks = pixels.shape[0] >= height and pixels.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    whole = np.ascontiguousarray(pixels)
    resized = cv2.resize(whole, (width, height), interpolation=method)
    return np.asarray(resized, np.uint8)


@dataclass(frozen=True)
class ObjectSet:
    """The measured objects of a table, N."""

    inside: Pictures
    seam: Pictures
    power: Floats  # [N]
    labels: Ints  # [N]
    image: Ints  # [N] index of the image

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Ints) -> ObjectSet:
        """Return the objects at some positions."""
        return ObjectSet(
            self.inside[index],
            self.seam[index],
            self.power[index],
            self.labels[index],
            self.image[index],
        )


def object_set(
    inputs: MetricInputs, extractor: ObjectExtractor, table: str, most: int
) -> ObjectSet:
    """Return the objects of a table, at most `most` of a class.

    They are drawn by their identity.
    """
    rows: list[tuple[int, int, int, int, Arrays]] = []
    for record in inputs.extracted(extractor, table):
        labels = record.arrays["labels"].tolist()
        for number, label in enumerate(labels):
            rank = seed_for("made objects", table, record.index, number)
            rows.append((label, rank, record.index, number, record.arrays))
    rows.sort(key=lambda row: row[:4])
    kept = []
    taken = dict[int, int]()
    for row in rows:
        label = row[0]
        taken[label] = taken.get(label, 0) + 1
        if taken[label] <= most:
            kept.append(row)
    side = extractor.side
    columns: dict[str, list[Any]] = {"inside": [], "seam": [], "power": []}
    for _, _, _, number, arrays in kept:
        for name, values in columns.items():
            values.append(arrays[name][number])
    shape = (-1, side, side, 3)
    inside = np.array(columns["inside"], np.uint8).reshape(shape)
    seam = np.array(columns["seam"], np.uint8).reshape(shape)
    power = np.array(columns["power"], np.float64)
    kept_labels = [row[0] for row in kept]
    images = [row[2] for row in kept]
    return ObjectSet(
        inside,
        seam,
        power,
        np.array(kept_labels, np.int64),
        np.array(images, np.int64),
    )


def matched(first: ObjectSet, second: ObjectSet) -> tuple[ObjectSet, ObjectSet]:
    """Return as many objects of each class from both.

    What tells them apart is no matter of frequency.
    """
    chosen: tuple[list[int], list[int]] = ([], [])
    for label in np.intersect1d(first.labels, second.labels).tolist():
        positions = [np.flatnonzero(one.labels == label) for one in (first, second)]
        count = min(len(rows) for rows in positions)
        for rows, picked in zip(positions, chosen, strict=True):
            picked += rows[:count].tolist()  # they come in the order of a draw
    one, other = (np.array(picked, np.int64) for picked in chosen)
    return first.select(one), second.select(other)

"""Training augmentation of one image with its boxes; every draw comes from the generator passed in."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from detectors.base import Sample

MIN_VISIBLE = 0.3  # a box that keeps less of its area than this after a crop is no longer recognisable


def augment(sample: Sample, rng: np.random.Generator, flip: bool, scale: float, colour: float) -> Sample:
    """Return a copy, mirrored with chance 1/2, zoomed by up to 1 + `scale` in or out, colours up to `colour` off.

    Zooming crops or pads; the detector's own resize to a fixed size then enlarges or shrinks the content.
    """
    image, boxes, labels = sample.image, sample.boxes.astype(np.float32), sample.labels
    if flip and rng.random() < 0.5:
        image = image[:, ::-1]
        boxes = np.stack([image.shape[1] - boxes[:, 2], boxes[:, 1], image.shape[1] - boxes[:, 0], boxes[:, 3]], 1)
    if scale > 0:
        zoom = math.exp(rng.uniform(-1.0, 1.0) * math.log1p(scale))
        image, boxes, kept = _crop(image, boxes, zoom, rng) if zoom > 1 else _pad(image, boxes, zoom, rng)
        labels = labels[kept]
    if colour > 0:
        image = _shift_colours(image, rng, colour)
    return Sample(np.ascontiguousarray(image), boxes, labels)


def _crop(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], zoom: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """Cut a window of 1 / zoom of the image; return image, the boxes that stay visible, and which of them stay [N]."""
    height, width = image.shape[:2]
    h, w = max(1, round(height / zoom)), max(1, round(width / zoom))
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    moved = boxes - np.array([x, y, x, y], np.float32)
    clipped = np.clip(moved, 0, np.array([w, h, w, h], np.float32))
    kept = _areas(clipped) >= MIN_VISIBLE * np.maximum(_areas(moved), 1e-6)
    kept &= ((clipped[:, 2] - clipped[:, 0]) >= 1) & ((clipped[:, 3] - clipped[:, 1]) >= 1)
    return image[y : y + h, x : x + w], clipped[kept], kept


def _pad(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], zoom: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """Put the image on a canvas 1 / zoom as large, of the image's mean colour; all boxes stay."""
    height, width = image.shape[:2]
    h, w = round(height / zoom), round(width / zoom)
    y, x = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
    canvas = np.empty((h, w, 3), np.uint8)
    canvas[:] = image.mean((0, 1)).astype(np.uint8)
    canvas[y : y + height, x : x + width] = image
    return canvas, boxes + np.array([x, y, x, y], np.float32), np.ones(len(boxes), np.bool_)


def _shift_colours(image: NDArray[np.uint8], rng: np.random.Generator, colour: float) -> NDArray[np.uint8]:
    """Change brightness and contrast, and each channel's gain half as much."""
    contrast = 1 + colour * rng.uniform(-1.0, 1.0)
    gain = (1 + colour * rng.uniform(-1.0, 1.0)) * (1 + 0.5 * colour * rng.uniform(-1.0, 1.0, 3))
    mean = float(image.mean())
    slope = (contrast * gain).astype(np.float32)
    shift = ((1 - contrast) * mean * gain).astype(np.float32)
    shifted: NDArray[np.uint8] = np.clip(image * slope + shift, 0, 255).astype(np.uint8)
    return shifted


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas [N] of xyxy boxes [N, 4]."""
    areas: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas

"""Training augmentation of one image with its boxes and masks; every draw comes from the generator passed in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthaug.detectors.base import Sample

MIN_VISIBLE = (
    0.3  # a box that keeps less of its area than this after a crop is no longer recognisable
)


def augment(
    sample: Sample, rng: np.random.Generator, flip: bool, scale: float, colour: float
) -> Sample:
    """Return a copy, mirrored with chance 1/2, zoomed by up to 1 + `scale` in or out, colours up to `colour` off.

    Zooming crops or pads; the detector's own resize to a fixed size then enlarges or shrinks the content.
    """
    moved = replace(sample, boxes=sample.boxes.astype(np.float32))
    if flip and rng.random() < 0.5:
        moved = _mirror(moved)
    if scale > 0:
        zoom = math.exp(rng.uniform(-1.0, 1.0) * math.log1p(scale))
        moved = _crop(moved, zoom, rng) if zoom > 1 else _pad(moved, zoom, rng)
    image = _shift_colours(moved.image, rng, colour) if colour > 0 else moved.image
    masks = None if moved.masks is None else np.ascontiguousarray(moved.masks)
    return replace(moved, image=np.ascontiguousarray(image), masks=masks)


def _mirror(sample: Sample) -> Sample:
    """Exchange left and right."""
    width, boxes = sample.image.shape[1], sample.boxes
    mirrored = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    masks = None if sample.masks is None else sample.masks[:, :, ::-1]
    ignore = sample.ignore
    if ignore is not None:
        ignore = np.stack(
            [width - ignore[:, 2], ignore[:, 1], width - ignore[:, 0], ignore[:, 3]], 1
        )
    return replace(sample, image=sample.image[:, ::-1], boxes=mirrored, masks=masks, ignore=ignore)


def _crop(sample: Sample, zoom: float, rng: np.random.Generator) -> Sample:
    """Cut a window of 1 / zoom of the image, with the objects that stay visible."""
    height, width = sample.image.shape[:2]
    h, w = max(1, round(height / zoom)), max(1, round(width / zoom))
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    moved = sample.boxes - np.array([x, y, x, y], np.float32)
    clipped = np.clip(moved, 0, np.array([w, h, w, h], np.float32))
    kept = _areas(clipped) >= MIN_VISIBLE * np.maximum(_areas(moved), 1e-6)
    kept &= ((clipped[:, 2] - clipped[:, 0]) >= 1) & ((clipped[:, 3] - clipped[:, 1]) >= 1)
    masks = None if sample.masks is None else sample.masks[kept, y : y + h, x : x + w]
    ignore = sample.ignore
    if ignore is not None:
        cut = np.clip(
            ignore - np.array([x, y, x, y], np.float32), 0, np.array([w, h, w, h], np.float32)
        )
        ignore = cut[_areas(cut) > 0]
    image = sample.image[y : y + h, x : x + w]
    return replace(
        sample,
        image=image,
        boxes=clipped[kept],
        labels=sample.labels[kept],
        masks=masks,
        ignore=ignore,
    )


def _pad(sample: Sample, zoom: float, rng: np.random.Generator) -> Sample:
    """Put the image on a canvas 1 / zoom as large, of the image's mean colour; all objects stay."""
    height, width = sample.image.shape[:2]
    h, w = round(height / zoom), round(width / zoom)
    y, x = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
    canvas = np.empty((h, w, 3), np.uint8)
    canvas[:] = sample.image.mean((0, 1)).astype(np.uint8)
    canvas[y : y + height, x : x + width] = sample.image
    masks = sample.masks
    if masks is not None:
        masks = np.pad(masks, ((0, 0), (y, h - height - y), (x, w - width - x)))
    shift = np.array([x, y, x, y], np.float32)
    ignore = None if sample.ignore is None else sample.ignore + shift
    return replace(sample, image=canvas, boxes=sample.boxes + shift, masks=masks, ignore=ignore)


def _shift_colours(
    image: NDArray[np.uint8], rng: np.random.Generator, colour: float
) -> NDArray[np.uint8]:
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

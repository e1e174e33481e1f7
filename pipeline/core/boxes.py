"""Plain arithmetic on arrays of xyxy boxes."""

from __future__ import annotations

import numpy as np

from synthaug.pipeline.core.arrays import Floats32

Size = tuple[int, int]  # (H, W), pixels
Boxes = Floats32  # [N, 4] xyxy


def scale_boxes(boxes: Boxes, old: Size, new: Size) -> Boxes:
    """Return the boxes of an image of size `old` as they lie in one of size `new`."""
    x_scale = new[1] / old[1]
    y_scale = new[0] / old[0]
    scale = [x_scale, y_scale, x_scale, y_scale]
    return boxes * np.array(scale, np.float32)


def relative_boxes(boxes: Boxes, size: Size) -> Boxes:
    """Return boxes in pixels of an image as fractions of its width and height."""
    relative: Boxes = boxes / _sides(size)
    return relative


def absolute_boxes(boxes: Boxes, size: Size) -> Boxes:
    """Return boxes in fractions of width and height in pixels of an image."""
    return boxes * _sides(size)


def mirror_boxes(boxes: Boxes, width: float) -> Boxes:
    """Return the boxes as they lie in the mirror image; `width` is 1 for fractions."""
    mirrored = boxes.copy()
    mirrored[:, 0] = width - boxes[:, 2]
    mirrored[:, 2] = width - boxes[:, 0]
    return mirrored


def clip_boxes(boxes: Boxes, size: Size) -> Boxes:
    """Return the boxes cut off at the border of an image of this size."""
    return boxes.clip(0, _sides(size))


def intersection_areas(box: Boxes, others: Boxes) -> Floats32:
    """Return the areas [N] that a box [4] has in common with others [N, 4]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    sides = (high - low).clip(0)
    areas: Floats32 = sides.prod(axis=1)
    return areas


def box_areas(boxes: Boxes) -> Floats32:
    """Return the areas of boxes [..., 4]."""
    sides = boxes[..., 2:] - boxes[..., :2]
    areas: Floats32 = sides.prod(axis=-1)
    return areas


def _sides(size: Size) -> Boxes:
    height, width = size
    return np.array([width, height, width, height], np.float32)


def whole_pixels(boxes: Boxes, height: int, width: int) -> list[list[int]]:
    """Return boxes as whole pixels inside the image, at least one pixel wide and high."""
    corners = boxes.round().astype(int)
    low = np.clip(corners[:, :2], 0, [width - 1, height - 1])
    high = np.clip(corners[:, 2:], low + 1, [width, height])
    both = np.concatenate([low, high], 1)
    rows: list[list[int]] = both.tolist()
    return rows

"""Names of the arrays of detectors, and plain arithmetic on boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Boxes = Floats32  # [N, 4] xyxy, pixels
Image = NDArray[np.uint8]  # [H, W, 3] RGB


def box_areas(boxes: Boxes) -> Floats32:
    """Return the areas [N] of boxes [N, 4]."""
    widths = boxes[:, 2] - boxes[:, 0]
    heights = boxes[:, 3] - boxes[:, 1]
    areas: Floats32 = widths * heights
    return areas


def mirror_boxes(boxes: Boxes, width: int) -> Floats32:
    """Return boxes [N, 4] of an image as they lie in its mirror image."""
    mirrored = boxes.copy()
    mirrored[:, 0] = width - boxes[:, 2]
    mirrored[:, 2] = width - boxes[:, 0]
    return mirrored


def pairwise_iou(boxes: Floats) -> Floats:
    """Return the intersection over union [N, N] of each pair; 0 where both are empty."""
    first = boxes[:, None]
    second = boxes[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    meeting = (high - low).clip(min=0)  # [N, N, 2]
    intersection = meeting.prod(axis=2)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(axis=1)
    union = area[:, None] + area[None] - intersection
    iou: Floats = np.zeros_like(intersection)
    np.divide(intersection, union, out=iou, where=union > 0)
    return iou

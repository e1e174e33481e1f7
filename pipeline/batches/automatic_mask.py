"""Masks of objects that have a box alone.

What differs in color from the rim around the box, where that is sound.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from synthaug.pipeline.core.arrays import Bytes, Flags, Floats32
from synthaug.pipeline.core.boxes import Boxes

RIM = 4  # pixels around a box that show what is behind the object
LEAST_AREA, MOST_AREA = 0.3, 0.95  # of its box that an object takes; a disc takes 0.79
LEAST_SIDE = 0.8  # of each side of its box that an object reaches over


def automatic_mask(image: Bytes, box: Boxes) -> Flags | None:
    """Return the mask [H, W] of the object in an xyxy box [4].

    None where none is found that could be right. The distance of each pixel's color from the median
    color of the rim is cut by Otsu's threshold (1979); of what is farther the largest connected
    part counts, holes in it included. It could be right when it takes a plausible share of the box
    and reaches over most of both sides.
    """
    height, width = image.shape[:2]
    rounded = np.rint(box).astype(int)
    corners = rounded.clip(0, [width, height] * 2)
    x0, y0, x1, y1 = corners.tolist()
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    top = max(0, y0 - RIM)
    left = max(0, x0 - RIM)
    around = image[top : y1 + RIM, left : x1 + RIM]
    window = around.astype(np.float32)
    inside = np.zeros(window.shape[:2], np.bool_)
    rows = slice(y0 - top, y1 - top)
    columns = slice(x0 - left, x1 - left)
    inside[rows, columns] = True
    rim = window[~inside]
    if not len(rim):
        return None
    color = np.median(rim, 0)
    distance = np.linalg.norm(window - color, axis=2)
    part = _largest_part(_far(distance) & inside)
    in_box = part[inside].reshape(y1 - y0, x1 - x0)
    if not _is_sound(in_box):
        return None
    mask = np.zeros((height, width), np.bool_)
    mask[top : y1 + RIM, left : x1 + RIM] = part
    return mask


def _far(distance: Floats32) -> Flags:
    """Return the pixels [h, w] above Otsu's threshold of a distance."""
    farthest = max(float(distance.max()), 1e-6)
    levels = np.rint(distance * (255 / farthest)).astype(np.uint8)
    rule = cv2.THRESH_BINARY | cv2.THRESH_OTSU
    threshold, _ = cv2.threshold(levels, 0, 255, rule)
    far: Flags = levels > threshold
    return far


def _largest_part(pixels: Flags) -> Flags:
    """Return the largest connected part of some pixels [h, w], with its holes.

    Nothing of nothing.
    """
    parts, number = ndimage.label(pixels)
    if not number:
        return pixels
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: Flags = ndimage.binary_fill_holes(parts == sizes.argmax())
    return largest


def _is_sound(mask: Flags) -> bool:
    """Return whether the mask [h, w] of a box is plausible in area and extent."""
    area = float(mask.mean())
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    if not LEAST_AREA <= area <= MOST_AREA:
        return False
    high = rows[-1] + 1 - rows[0]
    wide = columns[-1] + 1 - columns[0]
    height, width = mask.shape
    is_high = high >= LEAST_SIDE * height
    is_wide = wide >= LEAST_SIDE * width
    return bool(is_high and is_wide)

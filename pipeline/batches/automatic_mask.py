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
# where a box is drawn loosely around an object that is alone in it:
LOOSE_AREA, LOOSE_SIDE = 0.15, 0.5  # the same bounds
OFF_MIDDLE = 0.15  # most that the object's middle is away from that of the box, in sides
# of the box's other pixels, the median distance to the color of the rim, in that of the rim's own
PLAIN = 1.3
CLEAR = 4.0  # the same of the object, at least
LEVEL = 1.0  # of 255, to which colors are exact


def automatic_mask(image: Bytes, box: Boxes) -> Flags | None:
    """Return the mask [H, W] of the object in an xyxy box [4].

    None where none is found that could be right. The distance of each pixel's color from the median
    color of the rim is cut by Otsu's threshold (1979); of what is farther the largest connected
    part counts, holes in it included. It could be right when it takes a plausible share of the box
    and reaches over most of both sides, or when all else in the box looks like the rim.
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
    fills_box = _is_sound(in_box, LEAST_AREA, LEAST_SIDE)
    if not fills_box:
        could_be_loose = _is_sound(in_box, LOOSE_AREA, LOOSE_SIDE) and _is_in_the_middle(in_box)
        if not (could_be_loose and _is_alone(distance, part, inside)):
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


def _is_sound(mask: Flags, least_area: float, least_side: float) -> bool:
    """Return whether the mask [h, w] of a box is plausible in area and extent."""
    if not least_area <= float(mask.mean()) <= MOST_AREA:
        return False
    (top, bottom), (left, right) = _extents(mask)
    height, width = mask.shape
    is_high = bottom - top >= least_side * height
    is_wide = right - left >= least_side * width
    return bool(is_high and is_wide)


def _is_in_the_middle(mask: Flags) -> bool:
    """Return whether a mask [h, w] leaves about as much of its box on either side."""
    for (low, high), side in zip(_extents(mask), mask.shape, strict=True):
        if abs((low + high) / 2 - side / 2) > OFF_MIDDLE * side:
            return False
    return True


def _extents(mask: Flags) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first and last + 1 row and column of a mask [h, w] that is not empty."""
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    of_rows = int(rows[0]), int(rows[-1]) + 1
    of_columns = int(columns[0]), int(columns[-1]) + 1
    return of_rows, of_columns


def _is_alone(distance: Floats32, part: Flags, inside: Flags) -> bool:
    """Return whether a part stands out, and all else inside a box looks like its rim.

    All [h, w], `distance` that of a color to the rim's. A part of an object does not: around a
    cell's nucleus lies the rest of the cell.
    """
    of_rim = float(np.median(distance[~inside]))
    of_part = float(np.median(distance[part]))
    of_rest = float(np.median(distance[inside & ~part]))
    is_plain = of_rest <= PLAIN * of_rim + LEVEL
    return is_plain and of_part >= CLEAR * of_rim

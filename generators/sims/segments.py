"""Segments of class maps: connected pixels of a class (published code, step A).

Thin classes, poles and the like, do not cut what is behind them: pixels of a class on both sides of
a pole are one segment, and the pole's pixels between them are its bridge.

Legend: H W pixels of a map, h w those of a segment's box.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
EIGHT_NEIGHBORS = np.ones((3, 3), np.int64)


@dataclass(frozen=True)
class Segment:
    """Connected pixels of a class."""

    category: int
    number: int  # among the segments of its class in its map, by its first pixel, column by column
    box: tuple[int, int, int, int]  # top, left, bottom, right; the last two are outside
    mask: Flags  # [h, w] in the box: the pixels of the class
    whole: Flags  # [h, w]: these and the bridge between them

    @property
    def area(self) -> int:
        """Return the number of its own pixels."""
        return int(self.mask.sum())

    def in_frame(self, size: tuple[int, int]) -> Flags:
        """Return its own pixels in a map [H, W]."""
        return self._placed(self.mask, size)

    def whole_in_frame(self, size: tuple[int, int]) -> Flags:
        """Return its pixels and those of its bridge in a map [H, W]."""
        return self._placed(self.whole, size)

    def _placed(self, part: Flags, size: tuple[int, int]) -> Flags:
        top, left, bottom, right = self.box
        frame = np.zeros(size, bool)
        frame[top:bottom, left:right] = part
        return frame


def segments_of(
    labels: Ints, num_classes: int, thin: Collection[int] = (), only: int | None = None
) -> list[Segment]:
    """Return the segments of a map [H, W], by class and number.

    Labels of `num_classes` and more are no class; `only` asks for the segments of one class.
    """
    present = np.unique(labels).tolist()
    is_thin = np.isin(labels, list(thin))
    segments: list[Segment] = []
    for category in present:
        wanted = only is None or category == only
        if wanted and category < num_classes:
            bridge = is_thin
            if category in thin:
                bridge = np.zeros_like(is_thin)
            segments += _segments_of_class(labels == category, bridge, category)
    return segments


def _segments_of_class(own: Flags, bridge: Flags, category: int) -> list[Segment]:
    """Return the connected parts of own and bridging pixels that are mostly own."""
    joined = own | bridge
    # transposed: parts are numbered column by column
    parts, count = ndimage.label(joined.T, EIGHT_NEIGHBORS)
    parts = parts.T
    own_pixels = np.bincount(parts[own], minlength=count + 1)
    all_pixels = np.bincount(parts.ravel(), minlength=count + 1)
    segments: list[Segment] = []
    boxes = ndimage.find_objects(np.where(own, parts, 0), count)
    for part, box in enumerate(boxes, start=1):
        bridging = all_pixels[part] - own_pixels[part]
        if box is None or bridging >= own_pixels[part]:
            continue
        whole = parts[box] == part
        mask = whole & own[box]
        rows, columns = box
        corners = (rows.start, columns.start, rows.stop, columns.stop)
        segments.append(Segment(category, len(segments), corners, mask, whole))
    return segments


def large_segments(segments: list[Segment], share: float, size: tuple[int, int]) -> list[Segment]:
    """Return the segments with more than a share of an image's pixels (H, W)."""
    least = share * size[0] * size[1]
    return [segment for segment in segments if segment.area > least]

"""The distance of two thumbnails.

One is laid over the best fitting window of the other.

Legend: K windows of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats32
from synthaug.pipeline.leaks.hashing import THUMBNAIL_SIZE

LIMIT = 0.02  # distance up to which two pictures are one; measured in benchmarks/leaks.py
FLAT = 2.0  # gray levels: a thumbnail with less spread shows nothing to compare
SIDES = (1.0, 0.975, 0.95, 0.925, 0.9, 0.875, 0.85)  # of the windows, shares of the thumbnail
OFFSETS = 5  # of a window, per axis

Thumbnail = NDArray[np.uint8]


def distance(first: Thumbnail, second: Thumbnail) -> float:
    """Return 1 - correlation of the second with the best window of the first.

    Mirrored or not.

    0 is the same, 2 the most. A crop that keeps 85 % of each side is still laid over its position.
    """
    windows = _normalized(_windows(first))  # [K, 16 * 16 * 3]
    full = _windows(second)[0]
    correlations = []
    for image in (full, full[:, ::-1]):
        (row,) = _normalized(image[None])
        correlations.append(float((windows @ row).max()))
    return 1 - max(correlations)


def _normalized(images: Floats32) -> Floats32:
    """Return images as rows of mean 0 and length 1; those that show nothing as 0."""
    rows = images.reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    shows_something = length > FLAT * np.sqrt(rows.shape[1])
    unit = rows / np.maximum(length, 1e-6)
    return np.asarray(np.where(shows_something, unit, 0), np.float32)


def _windows(thumbnail: Thumbnail) -> Floats32:
    """Return the windows of a thumbnail at half its side [K, 16, 16, 3].

    The full one comes first.
    """
    import cv2

    values = thumbnail.astype(np.float32)
    smooth = cv2.GaussianBlur(values, (0, 0), 0.8)
    half = THUMBNAIL_SIZE // 2
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    windows = []
    for transform in _transforms():
        window = cv2.warpAffine(
            smooth, transform, (half, half), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        windows.append(window)
    return np.stack(windows)


@cache
def _transforms() -> Sequence[Floats32]:
    """Return the affine map [2, 3] from each window's pixels to the thumbnail's."""
    transforms = []
    for side in SIDES:
        count = 1 if side == 1 else OFFSETS
        offsets = np.linspace(0, 1 - side, count) * THUMBNAIL_SIZE
        step = 2 * side
        middle = step / 2 - 0.5  # of the first pixel
        for y in offsets:
            for x in offsets:
                rows = [[step, 0, x + middle], [0, step, y + middle]]
                transforms.append(np.array(rows, np.float32))
    return transforms

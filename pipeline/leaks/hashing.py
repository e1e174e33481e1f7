"""Signatures of images: what tells that two of them show the same picture.

The same pixels have the same sha256. A copy that was encoded again, resized, mirrored or cropped a
little is recognised by the perceptual hash of Zauner 2010 (signs of the 64 lowest cosine
frequencies against their median), taken of the full image, of a few windows and of their mirror
images: a crop looks like a window of the original. Search (search.py) finds hashes that differ in a
few bits; what it finds is one picture only when the thumbnails agree too (thumbnails.py).

Legend: W windows and their mirror images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes, Floats32

WINDOWS = (
    (0.0, 0.0, 1.0),
    (0.05, 0.05, 0.9),
    (0.0, 0.0, 0.9),
    (0.1, 0.0, 0.9),
    (0.0, 0.1, 0.9),
    (0.1, 0.1, 0.9),
)
NUM_HASHES = 2 * len(WINDOWS)  # W
WORK_SIZE = 128  # pixels: side to which an image is brought before anything else
THUMBNAIL_SIZE = 32
LOW = 8  # cosine frequencies per axis in a hash

Hashes = NDArray[np.uint64]
Window = tuple[float, float, float]  # left, top, side: shares of the image


@dataclass(frozen=True)
class Signature:
    """The sha256, hashes and thumbnail by which one image is recognised."""

    pixels: str  # sha256 of size and pixels: the same picture in another file format keeps it
    hashes: Hashes  # [W]: of WINDOWS, the full image first, then of their mirror images
    thumbnail: Bytes  # [THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3]


def signature(image: Bytes) -> Signature:
    """Return the signature of an image uint8 RGB [H, W, 3]."""
    import cv2

    work_size = (WORK_SIZE, WORK_SIZE)
    small = cv2.resize(image, work_size, interpolation=cv2.INTER_AREA)
    gray_bytes = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    gray = gray_bytes.astype(np.float32)
    frequencies = [_low_frequencies(_crop(gray, window)) for window in WINDOWS]
    # A mirror image has the odd horizontal frequencies negated.
    is_odd = np.arange(LOW) % 2
    mirror = np.where(is_odd, -1, 1)
    hashes = [_hash(low) for low in frequencies]
    hashes += [_hash(low * mirror) for low in frequencies]
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    thumbnail = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    return Signature(
        pixels=_digest(image),
        hashes=np.array(hashes, np.uint64),
        thumbnail=np.asarray(thumbnail, np.uint8),
    )


def _digest(image: Bytes) -> str:
    """Return the sha256 of an image's size and pixels."""
    shape = f"{image.shape}".encode()
    pixels = np.ascontiguousarray(image).tobytes()
    return hashlib.sha256(shape + pixels).hexdigest()


def _crop(image: Floats32, window: Window) -> Floats32:
    """Return a window of a gray image [WORK_SIZE, WORK_SIZE]."""
    x, y, side = (round(value * WORK_SIZE) for value in window)
    return image[y : y + side, x : x + side]


def _low_frequencies(image: Floats32) -> Floats32:
    """Return the lowest cosine frequencies [LOW, LOW] of a gray image."""
    import cv2

    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small)[:LOW, :LOW]
    return np.asarray(lowest, np.float32)


def _hash(frequencies: Floats32) -> np.uint64:
    """Return 64 bits: which frequencies are above the median."""
    above = frequencies.ravel() > np.median(frequencies)
    packed = np.packbits(above).tobytes()
    return np.uint64(int.from_bytes(packed, "big"))

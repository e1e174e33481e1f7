"""Painted images that the detector tests learn, and what skips a back-end that is not installed."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug import detectors
from synthaug.detectors.base import Sample

COLOURS = ((230, 40, 40), (40, 60, 230))


def needs(name: str) -> None:
    """Skip a test of a back-end whose library is not here."""
    try:
        detectors.check_installed(name)
    except ValueError as err:
        pytest.skip(str(err))


def painted(index: int, size: tuple[int, int] = (48, 48), masks: bool = False) -> Sample:
    """A rectangle and an ellipse (with `masks`.

    Else two rectangles), one of each class, on a grey ground with noise.
    """
    rng = np.random.default_rng(index)
    image = rng.integers(90, 130, (*size, 3)).astype(np.uint8)
    boxes, shapes = [], []
    for k, colour in enumerate(COLOURS):
        x, y = int(rng.integers(0, 4)) + 22 * k, int(rng.integers(2, 20))
        box = [x, y, x + int(rng.integers(12, 19)), y + int(rng.integers(12, 19))]
        shape = np.zeros(size, bool)
        shape[box[1] : box[3], box[0] : box[2]] = True
        if masks and k:
            shape &= ellipse(box, size)
        image[shape] = colour
        boxes.append(box)
        shapes.append(shape)
    truth = np.array(boxes, np.float32), np.arange(2, dtype=np.int64)
    return Sample(image, *truth, np.stack(shapes) if masks else None)


def ellipse(box: list[int], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres are in the ellipse that fills a box [H, W]."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    x0, y0, x1, y1 = box
    inside: np.ndarray = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + (
        (2 * y - y0 - y1) / (y1 - y0)
    ) ** 2 <= 1
    return inside


def empty(size: tuple[int, int] = (48, 48)) -> Sample:
    """An image with nothing on it."""
    image = np.full((*size, 3), 110, np.uint8)
    return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

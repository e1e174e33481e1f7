"""Masks found by color: right for a disc, none where there is no object to see."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.batches.automatic_mask import automatic_mask

BOX = np.array([20, 16, 44, 40], np.float32)


def ground(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal([190, 170, 180], 8, (60, 64, 3))
    return noise.clip(0, 255).astype(np.uint8)


def disc(middle: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:60, :64] + 0.5
    found: np.ndarray = np.hypot(rows - middle[0], columns - middle[1]) <= radius
    return found


def test_a_disc_is_found_with_its_holes_and_without_what_lies_beside_it() -> None:
    image, truth = ground(), disc((28, 32), 11.5)
    image[truth] = (90, 40, 120)
    image[disc((28, 32), 3)] = image[0, 0]  # a hole as bright as the ground
    image[16:18, 20:22] = (90, 40, 120)  # the corner of a neighbour
    mask = automatic_mask(image, BOX)
    assert mask is not None
    common, either = (mask & truth).sum(), (mask | truth).sum()
    assert common / either > 0.93 and mask[28, 32] and not mask[17, 21]


@pytest.mark.parametrize("radius", [4.0, 40.0])
def test_what_is_too_small_or_fills_the_box_is_no_mask(radius: float) -> None:
    image = ground()
    image[disc((28, 32), radius)] = (90, 40, 120)
    assert automatic_mask(image, BOX) is None


def test_what_reaches_over_half_a_side_only_is_no_mask() -> None:
    image = ground()
    image[16:40, 20:33] = (90, 40, 120)
    assert automatic_mask(image, BOX) is None


@pytest.mark.parametrize("box", [(0, 0, 64, 60), (5, 5, 6, 20), (10, 10, 10, 10)])
def test_boxes_without_a_rim_or_without_pixels_have_no_mask(
    box: tuple[float, float, float, float],
) -> None:
    assert automatic_mask(ground(), np.array(box, np.float32)) is None

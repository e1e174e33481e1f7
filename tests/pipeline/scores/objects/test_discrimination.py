"""The classifier of pictures on planted differences.

The area under its curve is compared with pairs counted one by one.
"""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.scores.objects.discrimination import (
    area_under_curve,
    features,
    regress,
    told_apart,
)

RNG = np.random.default_rng(5)


def pictures(count: int, seed: int, smooth: bool = False) -> np.ndarray:
    """Return noise, or noise of which every second row repeats the one before."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    if smooth:
        noise[:, 1::2] = noise[:, ::2]
    return noise


def own_groups(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), np.arange(count)


def test_equal_sets_are_not_told_apart_and_smooth_ones_are() -> None:
    first, second = features(pictures(80, 1)), features(pictures(80, 2))
    same = told_apart(first, second, own_groups(80))
    assert same is not None
    assert 0.3 < same.area < 0.7 and same.low < same.area < same.high
    smooth = told_apart(first, features(pictures(80, 3, smooth=True)), own_groups(80))
    assert smooth is not None and smooth.area > 0.99


def test_pictures_of_one_image_are_learned_from_together() -> None:
    """Objects of an image share its color.

    Knowing the color of others of the image must not help.
    """
    colors = RNG.integers(0, 256, (10, 1, 1, 3))
    images = np.repeat(np.arange(10), 8)
    shades = colors[images] + np.zeros((80, 32, 32, 3), int)
    noise = RNG.integers(-3, 4, shades.shape)
    looks = features(np.clip(shades + noise, 0, 255).astype(np.uint8))
    first, second = images % 2 == 0, images % 2 == 1
    curve = told_apart(looks[first], looks[second], (images[first], images[second]))
    assert curve is not None and curve.area < 0.9


def test_what_marks_an_image_tells_nothing_of_its_set() -> None:
    """Objects of an image share 20 numbers, by which 10 images of a set are known again."""
    rng = np.random.default_rng(0)
    of_images = rng.normal(size=(20, 20))
    images = np.repeat(np.arange(20), 6)
    rows = of_images[images] + rng.normal(0, 0.05, (120, 20))
    first = images < 10
    curve = told_apart(rows[first], rows[~first], (images[first], images[~first]))
    alone = told_apart(rows[first], rows[~first], own_groups(60))
    assert curve is not None and curve.area < 0.75
    assert alone is not None and alone.area > 0.95


def test_too_few_rows_are_not_measured() -> None:
    rows = RNG.normal(size=(9, 4))
    assert told_apart(rows, rows, own_groups(9)) is None


def test_the_area_is_the_share_of_ordered_pairs() -> None:
    negative, positive = RNG.integers(0, 5, 30).astype(float), RNG.integers(1, 7, 20).astype(float)
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    curve = area_under_curve(negative, positive)
    assert curve.area == pytest.approx(np.mean(pairs))
    assert curve.low < curve.area < curve.high
    perfect = area_under_curve(np.zeros(5), np.ones(5))
    assert (1.0, 1.0, 1.0) == (perfect.area, perfect.low, perfect.high)


def test_the_interval_is_that_of_hanley_and_mcneil() -> None:
    """The formula of their table 2, written out."""
    negative = np.linspace(0, 1, 58)
    positive = np.linspace(0, 1, 51) ** 0.2
    curve = area_under_curve(negative, positive)
    area = curve.area
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + 50 * (q1 - area**2) + 57 * (q2 - area**2)) / (58 * 51)
    assert curve.high - area == pytest.approx(min(1 - area, 1.96 * variance**0.5))


def test_the_regression_is_at_its_optimum() -> None:
    rows, truth = RNG.normal(size=(60, 3)), (RNG.random(60) < 0.4).astype(float)
    weights = regress(rows, truth)
    probability = 1 / (1 + np.exp(-(rows @ weights[:3] + weights[3])))
    np.testing.assert_allclose(rows.T @ (truth - probability), 3.0 * weights[:3], atol=1e-4)
    assert (truth - probability).sum() == pytest.approx(0, abs=1e-3)


def test_a_brighter_picture_differs_in_its_thumbnail_alone() -> None:
    dark = pictures(1, 4) // 2
    one, other = features(dark)[0], features(dark + np.uint8(51))[0]
    np.testing.assert_allclose(other[:192] - one[:192], 0.2, atol=1e-9)
    np.testing.assert_allclose(other[192:], one[192:], atol=1e-6)

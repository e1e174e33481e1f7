"""Distances of objects to training objects, on pictures whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.scores.objects.memorizing import (
    Config,
    nearest,
    nearness,
    variety,
)
from tests.object_sets import SIDE, object_set


def noise(count: int, seed: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).random((count, side, side, 3), dtype=np.float32)


def flat(*shades: int) -> np.ndarray:
    """Return pictures of one shade each."""
    return np.array([np.full((SIDE, SIDE, 3), shade) for shade in shades], np.uint8)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_and_mirrored_copy_is_at_no_distance(quarter: int, mirrored: bool) -> None:
    corpus = noise(5, 0)
    copy = np.rot90(corpus[3:4], quarter, (1, 2))
    if mirrored:
        copy = copy[:, :, ::-1]
    assert nearest(np.ascontiguousarray(copy), corpus)[0] == pytest.approx(0, abs=2e-3)


def test_distances_are_those_of_the_nearest_orientation() -> None:
    queries, corpus = noise(4, 1), noise(6, 2)
    expected = np.full(4, np.inf)
    for quarter in range(4):
        turned = np.rot90(queries, quarter, (1, 2))
        for form in (turned, turned[:, :, ::-1]):
            steps = (form[:, None] - corpus[None]).astype(np.float64)
            distances = np.sqrt((steps**2).sum((2, 3, 4)))
            expected = np.minimum(expected, distances.min(1))
    assert nearest(queries, corpus) == pytest.approx(expected, rel=1e-4)


def test_distance_is_over_that_of_real_objects() -> None:
    """Shades 100, and real ones 10 off: made ones half as far are at 0.5."""
    train = object_set([0], flat(100))
    real = object_set([0, 0], flat(110, 90))
    made = object_set([0, 0], flat(105, 95))
    told = nearness(real, made, train)
    assert told["distance"] == pytest.approx(0.5, rel=1e-3)
    assert 1.0 == told["near_copies"]
    assert nearness(real, real, train)["distance"] == pytest.approx(1)
    far = nearness(real, object_set([0], flat(130)), train)
    assert (pytest.approx(3, rel=1e-3), 0) == (far["distance"], far["near_copies"])


def test_classes_weigh_by_their_made_objects_and_are_compared_within() -> None:
    train = object_set([0, 1], flat(100, 200))
    real = object_set([0, 1], flat(110, 210))
    made = object_set([0, 0, 0, 1], flat(110, 110, 110, 220))
    assert nearness(real, made, train)["distance"] == pytest.approx((3 * 1 + 2) / 4, rel=1e-3)
    other_class = object_set([1], flat(100))
    assert nearness(real, other_class, train)["distance"] == pytest.approx(10, rel=1e-3)


def test_without_a_class_in_all_three_there_is_no_distance() -> None:
    one, other = object_set([0], flat(1)), object_set([1], flat(2))
    nothing = {"distance": None, "near_copies": None}
    assert nothing == nearness(one, one, other) == nearness(one, other, one)
    copied = object_set([0], flat(100))
    assert nothing == nearness(copied, copied, copied), "real ones are copies: no yardstick"


def test_real_objects_cover_themselves_and_one_made_object_hardly_any() -> None:
    real = object_set([0] * 40, seed=1)
    assert {"recall": 1.0, "coverage": 1.0} == variety(real, real, 5)
    collapsed = object_set([0] * 40, np.repeat(real.inside[:1], 40, 0))
    few = variety(real, collapsed, 5)
    assert few["coverage"] is not None and few["coverage"] < 0.3
    assert {"recall": None, "coverage": None} == variety(real, object_set([1]), 5)


@pytest.mark.parametrize("key", ["objects_per_class", "train_objects", "neighbors"])
def test_numbers_below_one_are_refused_by_their_key(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Config(**{key: 0})

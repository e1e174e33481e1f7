"""Areas by which objects are told apart: by what, and with which bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.scores.objects.real_or_made import Config, areas
from tests.object_sets import object_set


def brighter(value: int, labels: list[int], seed: int = 0) -> np.ndarray:
    """Return noise around a brightness."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-20, 21, (len(labels), 32, 32, 3))
    return (np.full((len(labels), 1, 1, 1), value) + steps).astype(np.uint8)


LABELS = [0] * 12 + [1] * 12


def test_inside_and_seam_are_told_of_their_own_pictures() -> None:
    real = object_set(LABELS, brighter(100, LABELS))
    other = object_set(LABELS, brighter(100, LABELS, seed=1))
    bright = replace(other, seam=brighter(200, LABELS))
    told = areas(real, bright)
    assert told["seam"] == pytest.approx(1)
    assert told["inside"] is not None and told["inside"] < 0.9
    swapped = replace(other, inside=brighter(200, LABELS))
    assert areas(real, swapped)["inside"] == pytest.approx(1)


def test_an_area_lies_between_its_bounds() -> None:
    told = areas(object_set(LABELS), object_set(LABELS, seed=1))
    for name in ("inside", "seam"):
        low, area, high = (told[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low is not None and area is not None and high is not None
        assert 0 <= low < area < high <= 1


def test_a_difference_of_frequency_alone_is_none() -> None:
    """Bright objects of class 0 and dark ones of class 1, in other numbers."""
    shades = {0: 220, 1: 40}

    def mixed(count: int, other: int, seed: int) -> object:
        labels = [0] * count + [1] * other
        pictures = np.array([np.full((32, 32, 3), shades[label]) for label in labels])
        noise = np.random.default_rng(seed).integers(-20, 21, pictures.shape)
        return object_set(labels, (pictures + noise).astype(np.uint8))

    told = areas(mixed(40, 15, 1), mixed(15, 40, 2))  # type: ignore[arg-type]
    assert told["inside_low"] is not None and told["inside_low"] < 0.6


def test_too_few_objects_have_no_area() -> None:
    for other in (object_set([0] * 50), object_set([1] * 50)):
        told = areas(object_set([0] * 9), other)
        assert 6 == len(told)
        assert {None} == set(told.values())


@pytest.mark.parametrize(("key", "value"), [("objects_per_class", 0), ("pictures", -1)])
def test_numbers_that_cannot_be_are_refused_by_their_key(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=key):
        Config(**{key: value})

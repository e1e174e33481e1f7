"""Ratios of fine power: geometric means, class by class."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synthaug.pipeline.scores.objects.spectrum import class_ratios, ratio
from tests.object_sets import object_set

LOG2 = math.log(2)


def test_the_ratio_of_a_class_is_that_of_geometric_means() -> None:
    real = object_set([0, 0, 1], powers=[0, 2 * LOG2, 5])
    made = object_set([0, 1], powers=[0, 5 - LOG2])
    assert {0: pytest.approx(0.5), 1: pytest.approx(0.5)} == class_ratios(real, made)


def test_classes_weigh_as_they_were_made() -> None:
    real = object_set([0, 1], powers=[0, 0])
    made = object_set([0, 0, 0, 1], powers=[LOG2, LOG2, LOG2, -LOG2])
    assert ratio(real, made) == pytest.approx(2 ** (2 / 4))


def test_objects_without_a_spectrum_count_nowhere() -> None:
    real = object_set([0, 0, 1], powers=[0, np.nan, np.nan])
    made = object_set([0, 1, 2], powers=[LOG2, 3, 3])
    assert {0: pytest.approx(2)} == class_ratios(real, made)
    assert ratio(real, made) == pytest.approx(2)


def test_without_a_common_class_there_is_no_ratio() -> None:
    assert ratio(object_set([0]), object_set([1])) is None
    assert ratio(object_set([]), object_set([])) is None

from __future__ import annotations

import numpy as np

from synthaug.generators.sims.depth import Statistics, between, in_front, ordered_pairs
from synthaug.generators.sims.segments import segments_of


def test_what_lies_in_a_hollow_is_in_front() -> None:
    road = np.ones((40, 40), bool)
    car = np.zeros((40, 40), bool)
    car[10:20, 10:20] = True
    road &= ~car
    assert in_front(car, road) == 0 and in_front(road, car) == 1
    assert between(road)[15, 15] and not between(car)[5, 5]


def test_shapes_side_by_side_do_not_tell() -> None:
    left = np.zeros((40, 40), bool)
    left[:, :20] = True
    assert in_front(left, ~left) is None


def test_pairs_and_statistics_are_of_touching_segments_of_two_classes() -> None:
    labels = np.zeros((60, 60), np.int64)
    labels[20:30, 20:30] = 1
    labels[50:, 40:] = 2
    segments = segments_of(labels, 3)
    pairs = ordered_pairs(segments, (60, 60))
    assert [(int(labels[behind][0]), front) for behind, _, front in pairs] == [(0, 1)]
    statistics = Statistics(3)
    statistics.add(labels, segments, (60, 60))
    np.testing.assert_allclose(statistics.shares(), [2 / 3, 1 / 3, 1 / 2])

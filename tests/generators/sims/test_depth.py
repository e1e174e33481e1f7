from __future__ import annotations

import numpy as np

from synthaug.generators.sims.depth import Shape, Statistics, in_front, ordered_pairs
from synthaug.generators.sims.segments import segments_of


def test_what_lies_in_a_hollow_is_in_front() -> None:
    road = np.ones((40, 40), bool)
    car = np.zeros((40, 40), bool)
    car[10:20, 10:20] = True
    road &= ~car
    of_car, of_road = Shape.of(car), Shape.of(road)
    assert in_front(of_car, of_road) == 0 and in_front(of_road, of_car) == 1
    assert of_road.enclosed[15, 15] and not of_car.enclosed[5, 5]


def test_shapes_side_by_side_do_not_tell() -> None:
    left = np.zeros((40, 40), bool)
    left[:, :20] = True
    assert in_front(Shape.of(left), Shape.of(~left)) is None


def test_pairs_and_statistics_are_of_touching_segments_of_two_classes() -> None:
    labels = np.zeros((60, 60), np.int64)
    labels[20:30, 20:30] = 1
    labels[50:, 40:] = 2
    segments = segments_of(labels, 3)
    pairs = ordered_pairs(segments, (60, 60))
    assert [(behind.category, front.category) for behind, front in pairs] == [(0, 1)]
    statistics = Statistics(3)
    statistics.add(segments, (60, 60))
    np.testing.assert_allclose(statistics.shares(), [2 / 3, 1 / 3, 1 / 2])

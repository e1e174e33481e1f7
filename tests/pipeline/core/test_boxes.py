"""Boxes scaled, mirrored and cut off, against plain arithmetic in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import (
    absolute_boxes,
    box_areas,
    clip_boxes,
    intersection_areas,
    mirror_boxes,
    relative_boxes,
    scale_boxes,
)

SIDES = st.integers(1, 500)
SIZES = st.tuples(SIDES, SIDES)
CORNERS: Any = st.integers(-50, 550).map(lambda quarter: quarter / 4)
BOXES = arrays(np.float32, st.tuples(st.integers(0, 4), st.just(4)), elements=CORNERS)


@settings(deadline=None)
@given(BOXES, SIZES, SIZES)
def test_x_scales_with_width_and_y_with_height(
    boxes: NDArray[np.float32], old: tuple[int, int], new: tuple[int, int]
) -> None:
    expected = boxes.astype(np.float64)
    expected[:, [0, 2]] *= new[1] / old[1]
    expected[:, [1, 3]] *= new[0] / old[0]
    scaled = scale_boxes(boxes, old, new)
    assert np.float32 == scaled.dtype
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@settings(deadline=None)
@given(BOXES, SIZES)
def test_fractions_and_pixels_are_each_other_s_inverse(
    boxes: NDArray[np.float32], size: tuple[int, int]
) -> None:
    relative = relative_boxes(boxes, size)
    np.testing.assert_allclose(relative, scale_boxes(boxes, size, (1, 1)), rtol=1e-6)
    np.testing.assert_allclose(absolute_boxes(relative, size), boxes, rtol=1e-6)


@settings(deadline=None)
@given(BOXES, st.integers(1, 500))
def test_mirrored_twice_is_where_it_was(boxes: NDArray[np.float32], width: int) -> None:
    mirrored = mirror_boxes(boxes, width)
    assert np.array_equal(boxes, mirror_boxes(mirrored, width))
    assert np.array_equal(boxes[:, [1, 3]], mirrored[:, [1, 3]])


def test_the_left_edge_becomes_the_right_one() -> None:
    boxes = np.array([[1, 2, 4, 9]], np.float32)
    assert [[6, 2, 9, 9]] == mirror_boxes(boxes, 10).tolist()


def test_a_box_across_the_border_ends_there() -> None:
    boxes = np.array([[-3, -2, 50, 40], [1, 2, 3, 4]], np.float32)
    assert [[0, 0, 30, 20], [1, 2, 3, 4]] == clip_boxes(boxes, (20, 30)).tolist()


def test_boxes_that_only_touch_have_nothing_in_common() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[5, 5, 20, 8], [10, 0, 20, 10], [30, 30, 40, 40], [2, 2, 4, 4]], np.float32)
    assert [15, 0, 0, 4] == intersection_areas(box, others).tolist()
    assert [45, 100, 100, 4] == box_areas(others).tolist()
    assert box_areas(box) == 100
    assert intersection_areas(box, others[:0]).shape == (0,)

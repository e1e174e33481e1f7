"""Boxes become pixels of their class, of no other, and of at least one pixel."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthaug.generators.base import Layouts
from synthaug.generators.pix2pix.painting import (
    class_boxes,
    confidence,
    filled_boxes,
    visible_boxes,
    whole_boxes,
)

SIZE = (4, 8)  # H, W


def layout(*objects: tuple[int, tuple[float, float, float, float], float]) -> Layouts:
    """A layout of (label, box in pixels of SIZE, score)."""
    scale = np.array([8, 4, 8, 4], np.float32)
    labels = np.array([label for label, _, _ in objects])
    boxes = np.array([box for _, box, _ in objects], np.float32).reshape(-1, 4) / scale
    scores = np.array([score for _, _, score in objects], np.float32)
    return Layouts.collate([labels], [boxes], [scores])


def test_a_class_is_one_area_and_classes_lie_side_by_side() -> None:
    given_layout = layout((2, (0, 0, 4, 2), 1), (2, (2, 1, 6, 3), 1), (1, (0, 0, 8, 1), 1))
    channels = class_boxes(given_layout, 3, SIZE)
    assert channels.shape == (1, 3, 4, 8)
    expected = np.zeros((3, 4, 8))
    expected[1, 0:2, 0:4] = 1
    expected[1, 1:3, 2:6] = 1
    expected[0, 0:1] = 1
    np.testing.assert_array_equal(channels[0], expected)


def test_padding_paints_nothing() -> None:
    boxes = np.array([[0, 0, 1, 1]], np.float32)
    both = Layouts.collate(
        [np.array([1]), np.array([], int)], [boxes, boxes[:0]], [np.ones(1), np.ones(0)]
    )
    channels = class_boxes(both, 2, SIZE)
    assert channels[0, 0].all()
    assert not channels[1].any()
    assert not visible_boxes(both, SIZE)[1].any()
    assert confidence(both, SIZE)[1].eq(1).all()


coordinate = st.floats(-0.5, 1.5, width=32)


@given(st.tuples(coordinate, coordinate, coordinate, coordinate))
def test_every_box_is_one_pixel_or_more_inside_the_image(
    box: tuple[float, float, float, float],
) -> None:
    x0, y0, x1, y1 = whole_boxes(torch.tensor([[box]]), SIZE)[0, 0].tolist()
    assert 0 <= x0 < x1 <= 8
    assert 0 <= y0 < y1 <= 4


def test_the_smaller_box_is_in_front_and_of_equals_the_later() -> None:
    given_layout = layout((1, (0, 0, 2, 2), 1), (2, (0, 0, 8, 4), 1), (3, (1, 1, 3, 3), 1))
    masks = visible_boxes(given_layout, SIZE)[0].numpy()
    np.testing.assert_array_equal(masks.sum(0), np.ones(SIZE))
    assert masks[2].sum() == 4
    assert masks[0].sum() == 3  # without the corner of the later box
    assert masks[1].sum() == 32 - 7


def test_unsure_objects_make_their_pixels_unsure() -> None:
    given_layout = layout((1, (0, 0, 4, 4), 0.5), (2, (2, 0, 8, 4), 0.25))
    weights = confidence(given_layout, SIZE)[0]
    assert weights[0].tolist() == [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]


def test_filled_boxes_ignore_each_other() -> None:
    inside = filled_boxes(layout((1, (0, 0, 2, 2), 1), (1, (0, 0, 8, 4), 1)), SIZE)
    assert inside.sum((2, 3)).tolist() == [[4, 32]]

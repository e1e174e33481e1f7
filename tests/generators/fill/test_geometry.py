"""Windows: where they lie, that nothing is turned or moved, and that only the region changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthaug.generators.fill.geometry import (
    LEAST_SIDE,
    Window,
    cut,
    grown,
    inside_box,
    object_region,
    put_back,
    ring_region,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)  # H differs from W


def box(*edges: float) -> np.ndarray:
    return np.array(edges, np.float32)


def test_a_window_lies_around_the_middle_of_its_box() -> None:
    window = Window.around(box(10, 20, 50, 40), surroundings=2.0)
    assert (window.side, window.left, window.top) == (80, -10, -10)


def test_a_small_box_gets_a_window_that_shows_what_is_around_it() -> None:
    assert Window.around(box(10, 10, 12, 13), surroundings=1.6).side == LEAST_SIDE


def test_a_shift_moves_the_window_right_and_down() -> None:
    still = Window.around(box(10, 20, 50, 40), 2.0)
    moved = Window.around(box(10, 20, 50, 40), 2.0, shift=(0.1, -0.2))
    assert (moved.left - still.left, moved.top - still.top) == (8, -16)


def test_boxes_of_the_window_are_scaled_and_moved() -> None:
    window = Window(left=10, top=20, side=32)
    there = window.into(np.stack([box(10, 20, 42, 52), box(18, 20, 26, 36)]), resolution=64)
    assert there.tolist() == [[0, 0, 64, 64], [16, 0, 32, 32]]


def test_cutting_at_the_native_scale_copies_pixels() -> None:
    pixels = cut(IMAGE, Window(left=5, top=3, side=16), 16)
    expected = IMAGE[3:19, 5:21].transpose(2, 0, 1).astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


def test_beyond_its_borders_the_image_is_mirrored() -> None:
    pixels = cut(IMAGE, Window(left=-4, top=30, side=16), 16)
    padded = np.pad(IMAGE, ((0, 10), (4, 0), (0, 0)), mode="symmetric")
    expected = padded[30:46, 0:16].transpose(2, 0, 1).astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


def test_a_window_much_larger_than_the_image_is_mirrored_again_and_again() -> None:
    tiny = RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    pixels = cut(tiny, Window(left=-7, top=-5, side=16), 16)
    padded = np.pad(tiny, ((5, 9), (7, 6), (0, 0)), mode="symmetric")
    expected = padded.transpose(2, 0, 1).astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


def test_a_pixel_is_inside_a_box_when_its_middle_is() -> None:
    mask = inside_box(box(1.4, 0.6, 3.6, 2.0), 4)
    assert mask.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


@given(
    st.floats(-9, 20, width=32),
    st.floats(-9, 20, width=32),
    st.floats(0, 30, width=32),
    st.floats(0, 30, width=32),
)
def test_pixels_of_a_box_are_those_whose_middles_it_holds(
    left: float, top: float, width: float, height: float
) -> None:
    edges = box(left, top, left + width, top + height)
    middles = np.arange(12) + 0.5
    columns = (middles > edges[0]) & (middles < edges[2])
    rows = (middles > edges[1]) & (middles < edges[3])
    assert np.array_equal(inside_box(edges, 12).numpy(), rows[:, None] & columns)


def test_a_box_shrinks_to_its_middle_at_most() -> None:
    assert grown(box(2, 2, 6, 10), -5).tolist() == [4, 4, 4, 8]
    assert grown(box(2, 2, 6, 10), 1).tolist() == [1, 1, 7, 11]


def test_the_region_of_an_object_covers_more_than_its_box() -> None:
    region, tight = object_region(box(5, 6, 9, 10), 0.1, 16), inside_box(box(5, 6, 9, 10), 16)
    assert bool((region >= tight).all())
    assert region.sum() > tight.sum()


def test_a_ring_leaves_the_middle_of_the_object_and_what_is_far_from_it() -> None:
    ring = ring_region(box(16, 16, 48, 48), 64)
    assert ring[32, 32] == 0
    assert ring[2, 2] == 0
    assert ring[16, 32] == 1
    assert set(ring.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("window", [Window(12, 8, 24), Window(-6, 28, 24), Window(50, -4, 16)])
def test_putting_back_what_was_cut_changes_nothing(window: Window) -> None:
    pixels = cut(IMAGE, window, window.side)
    again = put_back(IMAGE, window, pixels, torch.ones(window.side, window.side))
    assert np.array_equal(again, IMAGE)
    a_little_less = put_back(IMAGE, window, pixels - 0.3 / 127.5, torch.ones_like(pixels[0]))
    assert np.array_equal(a_little_less, IMAGE), "rounded, not cut off"


def test_only_the_region_and_its_soft_edge_change() -> None:
    window = Window(left=20, top=8, side=24)
    region = torch.zeros(24, 24)
    region[8:16, 6:14] = 1
    result = put_back(IMAGE, window, torch.full((3, 24, 24), -1.0), region)
    changed = (result != IMAGE).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (rows.min() >= 8 + 8 - 3) and (rows.max() <= 8 + 15 + 3)
    assert (columns.min() >= 20 + 6 - 3) and (columns.max() <= 20 + 13 + 3)
    assert result[8 + 12, 20 + 10].max() <= 2  # black in the middle of the region
    assert IMAGE.max() > 200  # the original is untouched


def test_a_window_outside_the_image_puts_nothing_back() -> None:
    outside = Window(left=100, top=100, side=16)
    result = put_back(IMAGE, outside, torch.zeros(3, 16, 16), torch.ones(16, 16))
    assert np.array_equal(result, IMAGE)


def test_sizes_are_logarithms_of_width_height_and_window() -> None:
    sizes = Window(0, 0, 64).sizes(box(0, 0, 32, 128))
    np.testing.assert_allclose(sizes.numpy(), np.log([0.5, 2.0, 1.0]), atol=1e-6)

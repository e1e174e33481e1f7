"""From soft masks to disjoint ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.synthesis.masks_from_levels import resolve

THINGS = np.array([True, True])


def test_a_thing_is_the_level_set_that_fills_its_box() -> None:
    """A mask whose values say nothing absolute.

    A dim disc on a dimmer floor, in a box the disc just fits.
    """
    y, x = np.mgrid[:32, :32] + 0.5
    disc = (x - 16) ** 2 + (y - 16) ** 2 <= 10**2
    soft = (0.02 + 0.1 * disc).astype(np.float32)[None]
    found = resolve(soft, np.array([[6, 6, 26, 26]], np.float32), THINGS[:1])
    np.testing.assert_array_equal(found[0], disc)


def test_things_do_not_overlap_and_the_one_higher_above_its_level_is_in_front() -> None:
    soft = np.zeros((2, 8, 8), np.float32)
    soft[0, :, :5], soft[1, :, 3:] = 0.6, 0.3
    soft[1, :, 3:5] = 0.5
    boxes = np.array([[0, 0, 5, 8], [3, 0, 8, 8]], np.float32)
    found = resolve(soft, boxes, THINGS)
    assert found.sum(0).max() == 1
    assert found[1].sum() == 5 * 8
    assert found[0].sum() == 3 * 8


def test_stuff_takes_only_what_things_leave() -> None:
    soft = np.ones((2, 8, 8), np.float32)
    boxes = np.array([[0, 0, 8, 8], [2, 2, 6, 6]], np.float32)
    found = resolve(soft, boxes, np.array([False, True]))
    assert found[1].sum() == 16
    np.testing.assert_array_equal(found[0], ~found[1])


@given(st.lists(st.tuples(*[st.floats(-3, 20)] * 4), max_size=5), st.integers(0, 2**32))
def test_masks_are_disjoint_and_inside_their_boxes(raw: list[tuple[float, ...]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.array(
        [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in raw], np.float32
    ).reshape(-1, 4)
    inside = np.clip(boxes, 0, [11, 15, 12, 16])
    soft = rng.random((len(boxes), 16, 12)).astype(np.float32)
    found = resolve(soft, boxes, rng.random(len(boxes)) < 0.7)
    assert found.shape == soft.shape
    assert found.sum(0).max(initial=0) <= 1
    for mask, (x0, y0, x1, y1) in zip(found, inside, strict=True):
        ys, xs = np.nonzero(mask)
        if len(xs):
            assert xs.min() >= x0 - 1
            assert xs.max() <= x1 + 1
            assert ys.min() >= y0 - 1
            assert ys.max() <= y1 + 1


def test_no_objects_give_no_masks() -> None:
    assert resolve(
        np.zeros((0, 8, 8), np.float32), np.zeros((0, 4), np.float32), THINGS[:0]
    ).shape == (0, 8, 8)

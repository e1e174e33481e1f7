from __future__ import annotations

import numpy as np
import pytest

from synthaug.generators.sims.canvas import Bare, Flags, Piece, Rules, compose, near, outline

NO_CLASS = 9
SIZE = (8, 8)
NONE = Rules()


def rectangle(top: int, left: int, bottom: int, right: int) -> Flags:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def piece(category: int, target: Flags, real: Flags, moved: Flags, level: float) -> Piece:
    colors = np.full((*SIZE, 3), level, np.float32)
    of_real = colors * real[..., None]
    of_moved = colors * moved[..., None]
    return Piece(category, target, real, of_real, real, of_moved, moved)


def never(_placed: int, _new: int) -> bool:
    return False


def test_the_map_follows_what_is_pasted_and_background_takes_the_rest_back() -> None:
    target = rectangle(2, 2, 6, 6)
    real = rectangle(2, 0, 6, 4)
    labels = np.where(target, 1, 0)
    canvas = compose(labels, NO_CLASS, [piece(1, target, real, real, 0.5)], never, NONE, None)
    np.testing.assert_array_equal(canvas.labels == 1, real)
    np.testing.assert_array_equal(canvas.labels == NO_CLASS, target & ~real)
    np.testing.assert_array_equal(canvas.colors[..., 0], 0.5 * real)
    rules = Rules(background=(1,))
    again = compose(labels, NO_CLASS, [piece(1, target, real, real, 0.5)], never, rules, None)
    np.testing.assert_array_equal(again.labels == 1, real | target)
    np.testing.assert_array_equal(again.colors, canvas.colors)


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_a_segment_is_moved_only_where_it_then_fills_more_of_its_place(columns: int) -> None:
    target = rectangle(2, 3, 6, 5)
    real = rectangle(2, 2, 6, 4)
    moved = rectangle(2, 2 + columns, 6, 4 + columns)
    made = compose(
        np.zeros(SIZE, int), NO_CLASS, [piece(0, target, real, moved, 1)], never, NONE, None
    )
    expected = moved if columns == 1 else real
    np.testing.assert_array_equal(made.colors[..., 0] > 0, expected)


def test_a_segment_behind_another_loses_what_they_share() -> None:
    first = rectangle(0, 0, 8, 5)
    second = rectangle(0, 3, 8, 8)
    pieces = [piece(0, first, first, first, 0.25), piece(1, second, second, second, 0.75)]
    labels = np.zeros(SIZE, int)
    on_top = compose(labels, NO_CLASS, pieces, never, NONE, None)
    assert (on_top.labels[:, 3:5] == 1).all()
    asked = []

    def always(placed: int, new: int) -> bool:
        asked.append((placed, new))
        return True

    behind = compose(labels, NO_CLASS, pieces, always, NONE, None)
    assert asked == [(0, 1)]
    assert (behind.labels[:, 5:] == 1).all()
    # its place was cleared before, and what is hidden there stays unknown to the map
    assert (behind.labels[:, 3:5] == NO_CLASS).all() and (behind.colors[:, 3:5] == 0.25).all()


def test_a_segment_without_a_real_one_keeps_its_label_and_is_open() -> None:
    whole = rectangle(0, 0, 8, 8)
    small = rectangle(1, 1, 3, 3)
    pieces = [piece(0, whole, whole, whole, 0.5), Bare(1, small)]
    made = compose(np.where(small, 1, 0), NO_CLASS, pieces, never, NONE, None)
    np.testing.assert_array_equal(made.labels == 1, small)
    np.testing.assert_array_equal(made.colors[..., 0] == 0, small)


def test_bands_are_white_open_or_as_they_were() -> None:
    size = (64, 64)
    mask = np.zeros(size, bool)
    mask[16:48, 16:48] = True
    colors = np.full((*size, 3), 0.5, np.float32) * mask[..., None]
    one = Piece(0, mask, mask, colors, mask, colors, mask)

    def made(rules: Rules) -> tuple[int, int]:
        canvas = compose(np.zeros(size, int), NO_CLASS, [one], never, rules, lambda band: band)
        shown = canvas.colors[mask]
        return int((shown == 1).all(1).sum()), int((shown == 0).all(1).sum())

    white, open_pixels = made(NONE)
    assert white > 0 and open_pixels == 0
    assert made(Rules(loose=(0,)))[1] > 0
    shadows = np.zeros(size, bool)
    shadows[20:30, 20:30] = True
    one = Piece(0, mask, mask, colors, mask, colors, mask, shadows)
    assert made(Rules(ground=(0,)))[1] > 0


def test_outlines_lie_behind_an_edge_and_squares_reach_farther_behind() -> None:
    found = outline(rectangle(2, 3, 6, 6))
    assert not found[:, :2].any() and found[4, 3] and found[4, 6] and not found[4, 4]
    point = rectangle(3, 3, 4, 4)
    np.testing.assert_array_equal(near(point, 4), rectangle(2, 2, 6, 6))
    np.testing.assert_array_equal(near(point, 3), rectangle(2, 2, 5, 5))
    np.testing.assert_array_equal(near(point, 1), point)
    assert not near(rectangle(0, 0, 0, 0), 5).any()

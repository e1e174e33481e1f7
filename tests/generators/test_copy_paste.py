"""Cutting, moving and pasting.

Geometry, edges, and what is left to be seen of what lies under a piece.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthaug.generators import checkpoint, copy_paste
from synthaug.generators.base import SamplerOptions
from synthaug.generators.copy_paste import (
    Config,
    Frame,
    Piece,
    blur,
    compose,
    cut,
    edge_of,
    margin_of,
    piece,
)


def disc(size: tuple[int, int], middle: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    found: np.ndarray = (x - middle[1]) ** 2 + (y - middle[0]) ** 2 <= radius**2
    return found


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_an_object_that_is_pasted_where_it_was_changes_nothing() -> None:
    image, mask = picture((20, 30)), disc((20, 30), (9, 12), 5)
    one = piece(cut(image, (7, 4, 17, 14), mask, 3), (7, 4, 17, 14))
    made, visible = compose(image, np.zeros((0, 20, 30), bool), [one])
    np.testing.assert_array_equal(made, image)
    np.testing.assert_array_equal(visible[0], mask)


def test_a_hard_paste_takes_the_object_and_nothing_else() -> None:
    image, target, mask = picture((20, 30)), picture((20, 30), 1), disc((20, 30), (9, 12), 5)
    one = piece(cut(image, (7, 4, 17, 14), mask, 0), (12, 6, 22, 16))
    made, visible = compose(target, np.ones((1, 20, 30), bool), [one])
    moved = np.zeros_like(mask)
    moved[2:, 5:] = mask[:-2, :-5]
    expected = target.copy()
    expected[moved] = np.roll(image, (2, 5), (0, 1))[moved]
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(visible, [~moved, moved])


def test_a_mirrored_piece_is_the_mirror_image_at_the_same_box() -> None:
    image, mask = picture((16, 16)), disc((16, 16), (8, 6), 4)
    mask[:, 6:] = False  # not its own mirror image
    box = (2, 4, 6, 12)
    cutout = cut(image, box, mask, 2)
    shown = []
    for one in (cutout, cutout.mirror()):
        shown.append(compose(image, np.zeros((0, 16, 16), bool), [piece(one, box)])[1][0])
    plain, mirrored = shown
    np.testing.assert_array_equal(mirrored[:, 2:6], plain[:, 2:6][:, ::-1])


@given(st.integers(0, 3), st.booleans(), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_a_turned_cutout_keeps_box_label_and_pixels_together(
    turns: int, mirror: bool, margin: int
) -> None:
    """Pixels, mask, box and the annotator's box go the same way.

    All four are told apart by one image.
    """
    image = np.zeros((30, 40, 3), np.uint8)
    image[8:20, 5:12] = 200
    image[8:10, 5:8] = 90  # one corner
    label = (4.5, 7.25, 12.25, 20.375)
    beyond = [0.5, 0.75, 0.25, 0.375]  # by which it reaches beyond left, top, right and bottom
    cutout = cut(image, (5, 8, 12, 20), None, margin, label)
    if mirror:
        cutout = cutout.mirror()
        beyond[0], beyond[2] = beyond[2], beyond[0]
    for _ in range(turns):
        cutout = cutout.turn()
        beyond = [*beyond[1:], beyond[0]]  # what was on top is on the left
    x0, y0, x1, y1 = cutout.box
    inside = np.zeros(cutout.core.shape, bool)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(inside, cutout.core > 0)
    np.testing.assert_array_equal(inside, cutout.pixels[..., 0] > 0)
    assert beyond == np.abs(cutout.label - np.array(cutout.box)).tolist()
    assert (cutout.label[:2] <= cutout.box[:2]).all() and (cutout.label[2:] >= cutout.box[2:]).all()
    sides = cutout.label[2:] - cutout.label[:2]
    assert sorted(sides.tolist()) == pytest.approx([7.75, 13.125])
    assert (sides[0] > sides[1]) == bool(turns % 2)


def test_the_label_goes_with_the_object_and_grows_with_it() -> None:
    image = picture((40, 40))
    cutout = cut(image, (10, 10, 20, 30), None, 2, (9.5, 10.0, 20.5, 30.0))
    there = piece(cutout, (0, 4, 10, 24))
    np.testing.assert_allclose(there.label, (-0.5, 4.0, 10.5, 24.0))
    np.testing.assert_allclose(there.extent, (0, 4, 10, 24))
    twice = piece(cutout, (5, 0, 25, 40))
    np.testing.assert_allclose(twice.label, (4.0, 0.0, 26.0, 40.0))


@given(st.floats(0.3, 3.0), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_scaled_object_fills_its_box(scale: float, mirror: bool, seed: int) -> None:
    """Box and area of a disc follow the scale, by mask and by box alike."""
    mask = disc((60, 60), (30, 30), 15)
    side = round(30 * scale)
    left = int(np.random.default_rng(seed).integers(0, 110 - side))
    box = (left, 5, left + side, 5 + side)
    for by in (mask, None):
        cutout = cut(picture((60, 60)), (15, 15, 45, 45), by, 4)
        if mirror:
            cutout = cutout.mirror()
        one = piece(cutout, box)
        shown = compose(picture((110, 110)), np.zeros((0, 110, 110), bool), [one])[1][0]
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - box).max() <= (1 if by is not None else 0)
        wanted = side**2 * (np.pi / 4 if by is not None else 1)
        assert abs(shown.sum() - wanted) <= 0.05 * wanted + 2 * side ** (by is not None)


@given(st.integers(20, 60), st.integers(20, 60), st.booleans())
@settings(max_examples=30, deadline=None)
def test_boxes_and_masks_of_a_frame_agree(height: int, width: int, mirror: bool) -> None:
    """The tight box of a moved mask is the moved box, to a pixel."""
    frame = replace(Frame.fitted((40, 50), (height, width)), mirror=mirror)
    mask = np.zeros((1, 40, 50), bool)
    mask[0, 10:30, 20:40] = True
    moved = frame.masks(mask)[0]
    box = frame.boxes(np.array([[20, 10, 40, 30]], np.float32))[0]
    assert moved.shape == (height, width) == frame.image(picture((40, 50))).shape[:2]
    rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
    assert np.abs([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] - box).max() <= 1


def test_a_frame_that_changes_nothing_and_one_that_mirrors() -> None:
    image, mask = picture((8, 10)), disc((8, 10), (3, 3), 2)[None]
    still, turned = Frame.still((8, 10)), Frame.still((8, 10), mirror=True)
    np.testing.assert_array_equal(still.image(image), image)
    np.testing.assert_array_equal(turned.image(image), image[:, ::-1])
    np.testing.assert_array_equal(turned.masks(mask), mask[..., ::-1])
    np.testing.assert_array_equal(
        turned.boxes(np.array([[1, 2, 4, 7]], np.float32)), [[6, 2, 9, 7]]
    )


def test_the_later_piece_is_in_front_and_nothing_is_seen_twice() -> None:
    there = np.stack([disc((30, 30), (15, 15), 12), ~disc((30, 30), (15, 15), 12)])
    cutout = cut(picture((30, 30), 2), (0, 0, 12, 12), None, 0)
    pieces = [
        piece(cutout, (8, 8, 20, 20)),
        piece(cutout, (14, 14, 26, 26)),
    ]
    _, visible = compose(picture((30, 30)), there, pieces)
    assert visible.sum(0).max() == 1 and visible.any(0).all()
    assert visible[3].sum() == 144 and visible[2].sum() == 144 - 36


def test_a_piece_may_hang_over_the_border_or_miss_the_canvas() -> None:
    cutout = cut(picture((30, 30), 2), (0, 0, 12, 12), None, 0)
    pieces = [piece(cutout, box) for box in ((-6, 24, 6, 36), (40, 40, 52, 52))]
    _, visible = compose(picture((30, 30)), np.zeros((0, 30, 30), bool), pieces)
    assert visible.sum((1, 2)).tolist() == [36, 0]


def test_a_blurred_edge_is_scipys_gaussian() -> None:
    plane = disc((20, 24), (9, 11), 5).astype(np.float32)
    expected = ndimage.gaussian_filter(plane.astype(np.float64), 1.3, mode="constant", radius=4)
    np.testing.assert_allclose(blur(plane, 1.3), expected, atol=1e-5)
    assert blur(plane, 0.0) is plane


def test_blends_are_drawn_and_say_how_wide_an_edge_is() -> None:
    rng = np.random.default_rng(0)
    config = Config(blends=("none", "gaussian", "wide"), edge=0.5)
    drawn = Counter(edge_of(config, rng) for _ in range(300))
    assert {0.0, 0.5, 1.5} == set(drawn) and min(drawn.values()) > 70
    assert margin_of(1.0, config) == 5 and margin_of(0.5, config) == 9
    assert margin_of(1.0, Config(blends=("none",))) == 0


def test_what_a_blurred_edge_paints_over_is_not_seen() -> None:
    """A hole of one pixel is painted over by what is around it, and so is what lies beneath."""
    core = np.zeros((20, 20), bool)
    core[4:16, 4:16] = True
    core[10, 10] = False
    cutout = cut(np.full((20, 20, 3), 200, np.uint8), (4, 4, 16, 16), core, 0)
    beneath = np.ones((1, 20, 20), bool)
    hard, blurred = (piece(cutout, (4, 4, 16, 16), edge) for edge in (0.0, 1.0))
    canvas = np.zeros((20, 20, 3), np.uint8)
    seen = [compose(canvas, beneath, [one])[1] for one in (hard, blurred)]
    assert [True, False] == [bool(visible[0, 10, 10]) for visible in seen]
    assert not any(visible[1, 10, 10] for visible in seen)


def test_the_label_of_a_mirrored_cutout_is_mirrored() -> None:
    cutout = cut(np.zeros((20, 20, 3), np.uint8), (4, 4, 12, 16), None, 2, (4.5, 5, 11, 15))
    assert (12, 16) == cutout.core.shape[::-1]
    assert [2.5, 3, 9, 13] == cutout.label.tolist()
    assert [3, 3, 9.5, 13] == cutout.mirror().label.tolist()
    assert cutout.label.tolist() == cutout.mirror().mirror().label.tolist()


def test_a_blurred_box_is_half_seen_at_its_edge() -> None:
    cutout = cut(np.full((40, 40, 3), 200, np.uint8), (10, 10, 30, 30), None, 4)
    one = piece(cutout, (10, 10, 30, 30), edge=1.0)
    made, visible = compose(np.zeros((40, 40, 3), np.uint8), np.ones((1, 40, 40), bool), [one])
    line = made[20, :, 0].astype(int)
    assert (line[14:26] == 200).all() and line[5] == line[34] == 0
    assert (np.diff(line[6:14]) > 0).all() and line[9] + line[10] == pytest.approx(200, abs=2)
    assert visible[1].sum() == 400 and visible[0].sum() == 1600 - 400


def test_settings_that_cannot_be_are_refused() -> None:
    refused: list[dict[str, Any]] = [
        {"mirror": 1.5},
        {"overlap": -0.1},
        {"edge": 40.0},
        {"min_visible": 2.0},
        {"zoom": 0.5},
        {"most": 0},
        {"classes": ()},
        {"blends": ("none", "poisson")},
        {"blends": ()},
    ]
    for wrong in refused:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(**wrong)


def test_it_is_saved_and_loaded_like_a_network(tmp_path: Path) -> None:
    file = tmp_path / "generator.safetensors"
    network = copy_paste.build(Config(zoom=1.5, edge=2.0), 3)
    checkpoint.save(file, network, "copy_paste", network.config, ["a", "b", "c"], {"seed": 1})
    system, loaded, header = checkpoint.load(file)
    assert system is copy_paste and header["classes"] == ["a", "b", "c"]
    assert copy_paste.sampler(loaded, SamplerOptions()).config == Config(zoom=1.5, edge=2.0)


def test_a_piece_says_how_it_is_labelled() -> None:
    image, mask = picture((20, 20)), disc((20, 20), (8, 8), 5)
    made: list[Piece] = [
        piece(cut(image, (3, 3, 13, 13), by, 2), (3, 3, 13, 13), edge=1.0) for by in (mask, None)
    ]
    assert [one.by_box for one in made] == [False, True]

"""Cutting, moving and pasting: geometry, edges, and what is left to be seen of what lies under a piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthaug.generators import checkpoint, copy_paste
from synthaug.generators.base import SamplerOptions
from synthaug.generators.copy_paste import Config, Frame, Piece, blur, compose, cut, piece

HARD = Config(blend="none", feather=0.0)


def disc(size: tuple[int, int], middle: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    found: np.ndarray = (x - middle[1]) ** 2 + (y - middle[0]) ** 2 <= radius**2
    return found


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_an_object_that_is_pasted_where_it_was_changes_nothing() -> None:
    image, mask = picture((20, 30)), disc((20, 30), (9, 12), 5)
    one = piece(cut(image, (7, 4, 17, 14), mask, 3), (7, 4, 17, 14), False, HARD)
    made, visible = compose(image, np.zeros((0, 20, 30), bool), [one])
    np.testing.assert_array_equal(made, image)
    np.testing.assert_array_equal(visible[0], mask)


def test_a_hard_paste_takes_the_object_and_nothing_else() -> None:
    image, target, mask = picture((20, 30)), picture((20, 30), 1), disc((20, 30), (9, 12), 5)
    one = piece(cut(image, (7, 4, 17, 14), mask, 0), (12, 6, 22, 16), False, HARD)
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
    plain, turned = (compose(image, np.zeros((0, 16, 16), bool), [piece(cut(image, box, mask, 2), box, m, HARD)])[1][0]
                     for m in (False, True))  # fmt: skip
    np.testing.assert_array_equal(turned[:, 2:6], plain[:, 2:6][:, ::-1])


@given(st.floats(0.3, 3.0), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_scaled_object_fills_its_box(scale: float, mirror: bool, seed: int) -> None:
    """Box and area of a disc follow the scale, by mask and by box alike."""
    mask = disc((60, 60), (30, 30), 15)
    side = round(30 * scale)
    left = int(np.random.default_rng(seed).integers(0, 110 - side))
    box = (left, 5, left + side, 5 + side)
    for by in (mask, None):
        one = piece(cut(picture((60, 60)), (15, 15, 45, 45), by, 4), box, mirror, HARD)
        shown = compose(picture((110, 110)), np.zeros((0, 110, 110), bool), [one])[1][0]
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - box).max() <= (1 if by is not None else 0)
        wanted = side**2 * (np.pi / 4 if by is not None else 1)
        assert abs(shown.sum() - wanted) <= 0.05 * wanted + 2 * side ** (by is not None)


@given(st.integers(0, 10**6), st.sampled_from(["standard", "large", "none"]))
@settings(max_examples=60, deadline=None)
def test_boxes_and_masks_of_a_frame_agree(seed: int, zoom: str) -> None:
    """The tight box of a moved mask is the moved box, to a pixel, wherever it is inside the canvas."""
    rng = np.random.default_rng(seed)
    frame = Frame.draw((40, 50), (44, 36), Config(zoom=zoom), rng)
    mask = np.zeros((1, 40, 50), bool)
    mask[0, 10:30, 20:40] = True
    moved = frame.masks(mask)[0]
    box = frame.boxes(np.array([[20, 10, 40, 30]], np.float32))[0]
    clipped = box.clip(0, [36, 44, 36, 44])
    assert moved.shape == (44, 36) == frame.image(picture((40, 50))).shape[:2]
    if (clipped[2:] - clipped[:2]).min() < 1.5:
        return
    rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
    assert np.abs([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] - clipped).max() <= 1


def test_a_frame_that_changes_nothing_and_one_that_mirrors() -> None:
    image, mask = picture((8, 10)), disc((8, 10), (3, 3), 2)[None]
    still, turned = Frame.still((8, 10)), Frame.still((8, 10), mirror=True)
    np.testing.assert_array_equal(still.image(image), image)
    np.testing.assert_array_equal(turned.image(image), image[:, ::-1])
    np.testing.assert_array_equal(turned.masks(mask), mask[..., ::-1])
    np.testing.assert_array_equal(
        turned.boxes(np.array([[1, 2, 4, 7]], np.float32)), [[6, 2, 9, 7]]
    )


def test_zoom_stays_in_its_range_and_a_zoomed_out_image_lies_on_grey() -> None:
    for zoom, (low, high) in copy_paste.ZOOMS.items():
        frames = [
            Frame.draw((64, 64), (64, 64), Config(zoom=zoom), np.random.default_rng(k))
            for k in range(200)
        ]
        scales = [frame.scale[0] for frame in frames]
        assert low - 0.01 <= min(scales) and max(scales) <= high + 0.01
        assert max(scales) - min(scales) >= 0.9 * (high - low) - 0.02
    out = next(f for f in frames if True) and Frame((10, 10), (4, 4), (3, 5), (0.5, 0.5), False)
    canvas = out.image(np.zeros((8, 8, 3), np.uint8))
    assert (canvas == copy_paste.GREY).all(2).sum() == 100 - 16 and (canvas[3:7, 5:9] == 0).all()


def test_the_later_piece_is_in_front_and_nothing_is_seen_twice() -> None:
    there = np.stack([disc((30, 30), (15, 15), 12), ~disc((30, 30), (15, 15), 12)])
    cutout = cut(picture((30, 30), 2), (0, 0, 12, 12), None, 0)
    pieces = [
        piece(cutout, (8, 8, 20, 20), False, HARD),
        piece(cutout, (14, 14, 26, 26), False, HARD),
    ]
    _, visible = compose(picture((30, 30)), there, pieces)
    assert visible.sum(0).max() == 1 and visible.any(0).all()
    assert visible[3].sum() == 144 and visible[2].sum() == 144 - 36


def test_a_piece_may_hang_over_the_border_or_miss_the_canvas() -> None:
    cutout = cut(picture((30, 30), 2), (0, 0, 12, 12), None, 0)
    pieces = [piece(cutout, box, False, HARD) for box in ((-6, 24, 6, 36), (40, 40, 52, 52))]
    _, visible = compose(picture((30, 30)), np.zeros((0, 30, 30), bool), pieces)
    assert visible.sum((1, 2)).tolist() == [36, 0]


def test_a_blurred_edge_is_scipys_gaussian() -> None:
    plane = disc((20, 24), (9, 11), 5).astype(np.float32)
    expected = ndimage.gaussian_filter(plane.astype(np.float64), 1.3, mode="constant", radius=4)
    np.testing.assert_allclose(blur(plane, 1.3), expected, atol=1e-5)
    assert blur(plane, 0.0) is plane


def test_a_feathered_box_is_whole_inside_and_fades_outside() -> None:
    cutout = cut(np.full((40, 40, 3), 200, np.uint8), (10, 10, 30, 30), None, 4)
    one = piece(cutout, (10, 10, 30, 30), False, Config(feather=0.2))
    made, visible = compose(np.zeros((40, 40, 3), np.uint8), np.ones((1, 40, 40), bool), [one])
    line = made[20, :, 0].astype(int)
    assert (line[10:30] == 200).all() and line[5] == line[34] == 0
    assert (np.diff(line[6:11]) > 0).all() and 0 < line[6] < 40
    assert visible[1].sum() == 400
    assert visible[0].sum() < 1600 - 400, (
        "what is hardly seen any more under the rim still counts as seen"
    )


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"mirror": 1.5}, {"part": -0.1}, {"edge": 40.0}, {"min_visible": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(**wrong)


def test_it_is_saved_and_loaded_like_a_network(tmp_path: Path) -> None:
    file = tmp_path / "generator.safetensors"
    network = copy_paste.build(Config(zoom="large", edge=2.0), 3)
    checkpoint.save(file, network, "copy_paste", network.config, ["a", "b", "c"], {"seed": 1})
    system, loaded, header = checkpoint.load(file)
    assert system is copy_paste and header["classes"] == ["a", "b", "c"]
    assert copy_paste.sampler(loaded, SamplerOptions()).config == Config(zoom="large", edge=2.0)


def test_a_piece_says_how_it_is_labelled() -> None:
    image, mask = picture((20, 20)), disc((20, 20), (8, 8), 5)
    made: list[Piece] = [
        piece(cut(image, (3, 3, 13, 13), by, 2), (3, 3, 13, 13), False, Config())
        for by in (mask, None)
    ]
    assert [one.by_box for one in made] == [False, True]

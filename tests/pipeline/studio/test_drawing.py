"""Pictures of layouts.

Colors tell objects apart, faint boxes stay behind, sheets have room for all.
"""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.studio.drawing import (
    FAINT,
    GAP,
    PALETTE,
    PAPER,
    UNCLAIMED,
    Mark,
    Strip,
    color,
    difference,
    fit,
    layout_picture,
    legend,
    mask_map,
    picture_size,
    sheet,
)


def test_colors_of_the_first_objects_differ() -> None:
    assert 21 == len({color(number) for number in range(21)})


def test_masks_become_the_color_of_the_highest() -> None:
    stack = np.zeros((3, 2, 2), np.float32)  # the third slot is padding
    stack[0, 0], stack[1, :, 1] = 0.4, 0.6
    expected = [[color(4), color(7)], [UNCLAIMED, color(7)]]
    assert np.array(expected).tolist() == mask_map(stack, [4, 7]).tolist()
    assert (2, 2, 3) == mask_map(stack, []).shape


def test_a_crowded_layout_has_a_legend() -> None:
    labels = ["cow", "tree", "tree", "tree", "cow", "sky", "sky", "tree", "tree"]
    marks = [Mark(i, label, (0, 0, 0.1, 0.1)) for i, label in enumerate(labels)]
    assert "cow 0 4, tree 1-3 7-8, sky 5-6" == legend(marks)
    assert "" == legend(marks[:8])


@pytest.mark.parametrize(
    ("resolution", "size", "expected"),
    [
        (64, None, (160, 160)),
        (200, None, (200, 200)),
        (512, (100, 200), (128, 256)),
        (64, (1, 1000), (1, 160)),
    ],
)
def test_pictures_have_the_shape_of_the_image(resolution, size, expected) -> None:
    assert expected == picture_size(resolution, size)


def test_differences_are_means_over_images_and_channels() -> None:
    image = np.full((2, 2, 3), 10, np.uint8)
    others = np.stack([image, image])
    others[0, 0, 0] = [16, 10, 10]  # 6 of 6 values: a mean of 1
    grey = difference(image, others, 8)
    assert [[8, 0], [0, 0]] == grey[..., 0].tolist() and (grey[..., :1] == grey).all()
    assert 255 == difference(image, others, 1000).max()


def test_the_larger_box_is_behind_whatever_the_order() -> None:
    large, small = Mark(0, "a", (0, 0, 1, 1)), Mark(1, "b", (0.4, 0.4, 0.8, 0.8))
    first, second = (layout_picture(marks, (80, 80)) for marks in ([large, small], [small, large]))
    assert np.array_equal(first, second)
    assert first[60, 32].tolist() == list(color(1))  # the small one's outline is on top


def test_a_faint_box_is_an_outline_only() -> None:
    picture = layout_picture([Mark(0, "a", (0.2, 0.2, 0.9, 0.9), faint=True)], (100, 100))
    assert list(PAPER) == picture[70, 70].tolist()
    assert list(FAINT) == picture[89, 60].tolist()


def test_names_of_boxes_at_one_corner_do_not_lie_on_each_other() -> None:
    marks = [Mark(k, "x", (0.1, 0.1, 0.5 + k / 10, 0.5 + k / 10)) for k in range(3)]
    picture = layout_picture(marks, (160, 160))
    for number in range(3):  # the ground of each name is seen
        assert (picture == np.array(color(number))).all(2).sum() > 60


def test_a_sheet_has_room_for_the_longest_strip() -> None:
    picture = np.full((40, 50, 3), 7, np.uint8)
    short, long = Strip("one", [("", picture)]), Strip("", [("a", picture), ("b" * 99, picture)])
    page = sheet("title", [short, long])
    assert GAP + 2 * (50 + GAP) == page.shape[1]
    assert 3 * 40 * 50 == (page == 7).all(2).sum()


def test_maps_of_owners_are_not_smoothed() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = 200
    assert {0, 200} == set(np.unique(fit(pixels, (7, 5), smooth=False)).tolist())
    assert 2 < len(np.unique(fit(pixels, (7, 5), smooth=True)))


def test_colors_go_round_the_palette_and_come_back_lighter_then_darker() -> None:
    assert color(0) == PALETTE[0]
    assert color(6) == PALETTE[6]
    red, green, blue = PALETTE[1]
    lighter = [round(value + (255 - value) * 0.55) for value in (red, green, blue)]
    darker = [round(value * 0.7) for value in (red, green, blue)]
    assert list(color(8)) == lighter
    assert list(color(15)) == darker
    assert color(22) == color(1)


def test_a_pixel_is_claimed_from_a_hundredth_on() -> None:
    stack = np.array([[[0.0, 0.009, 0.01, 0.5]]], np.float32)
    owners = mask_map(stack, [3])[0].tolist()
    assert owners == [list(UNCLAIMED), list(UNCLAIMED), list(color(3)), list(color(3))]


def test_equal_masks_belong_to_the_first_object() -> None:
    stack = np.full((2, 1, 1), 0.5, np.float32)
    assert mask_map(stack, [5, 2])[0, 0].tolist() == list(color(5))


def test_boxes_are_drawn_at_x_then_y_of_a_picture_that_is_not_square() -> None:
    picture = layout_picture([Mark(0, "a", (0.5, 0.25, 1.0, 0.75))], (80, 200))
    outline = list(color(0))
    assert picture.shape == (80, 200, 3)
    assert picture[59, 150].tolist() == outline
    assert picture[50, 100].tolist() == outline
    assert picture[70, 150].tolist() == list(PAPER)
    assert picture[50, 40].tolist() == list(PAPER)
    inside = picture[50, 150].tolist()
    assert inside not in (outline, list(PAPER))


def test_a_faint_box_lies_behind_a_larger_one_that_the_row_is_about() -> None:
    faint = Mark(0, "a", (0.2, 0.4, 0.6, 0.8), faint=True)
    about = Mark(1, "b", (0.0, 0.0, 0.6, 0.8))
    picture = layout_picture([about, faint], (100, 100))
    assert picture[60, 59].tolist() == list(color(1))


def test_pictures_are_resized_to_height_then_width() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert fit(pixels, (7, 5), smooth=False).shape == (7, 5, 3)
    assert fit(pixels, (7, 5), smooth=True).shape == (7, 5, 3)


def test_differences_have_no_sign() -> None:
    image = np.full((1, 1, 3), 200, np.uint8)
    darker = np.full((1, 1, 1, 3), 190, np.uint8)
    lighter = np.full((1, 1, 1, 3), 210, np.uint8)
    assert difference(image, darker, 8).tolist() == [[[80, 80, 80]]]
    assert difference(image, lighter, 8).tolist() == [[[80, 80, 80]]]


def test_the_pictures_of_a_sheet_stand_in_rows_in_their_order() -> None:
    first, second, third = (np.full((20, 30, 3), value, np.uint8) for value in (3, 5, 9))
    page = sheet("t", [Strip("", [("", first), ("", second)]), Strip("", [("", third)])])
    lefts = {}
    tops = {}
    for value in (3, 5, 9):
        rows, columns = np.nonzero((page == value).all(2))
        lefts[value] = int(columns.min())
        tops[value] = int(rows.min())
        assert len(rows) == 20 * 30
    assert lefts[3] == lefts[9] == GAP
    assert lefts[5] == GAP + 30 + GAP
    assert tops[3] == tops[5] < tops[3] + 20 < tops[9]

"""Shapes of annotation tools: what they cover, how they are joined, what is refused."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import Header
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats import drawn as module
from synthaug.pipeline.formats.checked import CheckedConfig
from synthaug.pipeline.formats.drawn import (
    JOINED,
    Canvas,
    Drawn,
    as_seen,
    corners_of,
    count_flags,
    counts_of,
    drawn_box,
    drawn_mask,
    drawn_polygons,
    ellipse,
    image_folder,
    is_ignore_flag,
    join_groups,
    listed_classes,
    placed_mask,
    rotated,
)
from synthaug.pipeline.formats.validation import CUT, ROUNDED, RecordError

SIZE = (40, 60)  # H, W


class Notes:
    """Keeps what a reader is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, what: str) -> None:
        self.told.append(what)


def canvas(notes: Notes | None = None, cuts: bool = False) -> Canvas:
    return Canvas(SIZE, cuts, notes or Notes())


def area(drawn: Drawn) -> int:
    counts = counts_of(drawn, SIZE)
    assert counts is not None
    return int(masks.area(counts))


def square(x: float, y: float, side: float = 10) -> np.ndarray:
    return corners_of(x, y, x + side, y + side)


# --- geometry ---


def test_a_quarter_turn_is_clockwise_on_the_screen() -> None:
    """The y axis points down: what lies to the right of the center goes below it."""
    (turned,) = rotated(np.array([[12.0, 5.0]]), (10, 5), 90)
    assert turned == pytest.approx([10, 7])


@pytest.mark.parametrize("degrees", [0, 17, 90, 271])
def test_turning_back_is_no_turn(degrees: float) -> None:
    box = corners_of(3, 4, 20, 9)
    there = rotated(box, (7, 7), degrees)
    assert rotated(there, (7, 7), -degrees) == pytest.approx(box)


def test_an_ellipse_has_its_radii_and_nearly_its_area() -> None:
    points = ellipse((30, 20), (12, 6))
    assert points.max(0) == pytest.approx([42, 26])
    assert points.min(0) == pytest.approx([18, 14])
    shape = drawn_polygons("a", [points], canvas())
    assert area(shape) == pytest.approx(math.pi * 12 * 6, rel=0.03)
    standing = ellipse((30, 20), (12, 6), 90)
    assert standing.max(0) == pytest.approx([36, 32], abs=0.05)


def test_a_turned_box_is_the_upright_one_around_it_and_is_told() -> None:
    notes = Notes()
    turned = module.turned_box("a", rotated(square(20, 10), (25, 15), 45), canvas(notes))
    half = 10 / math.sqrt(2)
    assert turned.box == pytest.approx((25 - half, 15 - half, 25 + half, 15 + half))
    assert [module.TURNED] == notes.told
    assert None is counts_of(turned, SIZE)


# --- boxes, polygons, masks ---


def test_a_box_may_be_drawn_from_any_corner() -> None:
    for corners in ((5, 6, 20, 30), (20, 30, 5, 6), (20, 6, 5, 30)):
        assert (5, 6, 20, 30) == drawn_box("a", corners, canvas()).box


def test_a_box_over_the_border_is_cut_and_told_by_a_pixel_only() -> None:
    notes = Notes()
    assert (0, 6, 20, 30) == drawn_box("a", (-0.5, 6, 20, 30), canvas(notes)).box
    assert [ROUNDED] == notes.told
    with pytest.raises(RecordError, match="outside"):
        drawn_box("a", (-3, 6, 20, 30), canvas(notes))
    with pytest.raises(RecordError, match="no extent"):
        drawn_box("a", (5, 6, 5, 30), canvas(notes))


def test_a_box_over_the_border_is_cut_where_that_is_asked_for() -> None:
    notes = Notes()
    assert (0, 6, 20, 40) == drawn_box("a", (-3, 6, 20, 55), canvas(notes, cuts=True)).box
    assert [CUT] == notes.told
    with pytest.raises(RecordError, match="no extent"):
        drawn_box("a", (-9, 6, -3, 30), canvas(cuts=True))


@pytest.mark.parametrize(
    ("left", "top", "box"),
    [
        (-2, -3, (0, 0, 4, 5)),
        (57, 36, (57, 36, 60, 40)),
        (20, -1, (20, 0, 26, 7)),
    ],
)
def test_a_mask_over_the_border_is_cut_where_that_is_asked_for(
    left: int, top: int, box: tuple[int, int, int, int]
) -> None:
    """The part has 8 rows of 6 pixels, each of its own place."""
    part = np.ones((8, 6), bool)
    part[:, 1] = False
    notes = Notes()
    whole = placed_mask(part, left, top, canvas(notes, cuts=True))
    x1, y1, x2, y2 = box
    expected = np.zeros(SIZE, bool)
    expected[y1:y2, x1:x2] = part[y1 - top : y2 - top, x1 - left : x2 - left]
    np.testing.assert_array_equal(whole, expected)
    assert [CUT if min(left, top) < -1 or left > 55 else ROUNDED] == notes.told
    with pytest.raises(RecordError, match=r"its mask of 6x8 at .* lies outside the image"):
        placed_mask(part, left, top, canvas())


@pytest.mark.parametrize(("left", "top"), [(-6, 0), (60, 0), (0, -8), (0, 40), (-99, 99)])
def test_a_mask_beyond_the_border_has_no_pixel(left: int, top: int) -> None:
    whole = placed_mask(np.ones((8, 6), bool), left, top, canvas(cuts=True))
    assert SIZE == whole.shape
    assert not whole.any()


def test_a_polygon_over_the_border_is_cut_in_its_box_and_mask() -> None:
    notes = Notes()
    shape = drawn_polygons("a", [square(-6, 10)], canvas(notes))
    assert (0, 10, 4, 20) == shape.box
    assert 40 == area(shape)
    assert [ROUNDED] == notes.told


@pytest.mark.parametrize(
    ("polygon", "reason"),
    [
        (square(3, 3)[:2], "bad mask"),
        (np.array([[1, 1], [5, np.nan], [9, 9]]), "bad mask"),
        (np.array([[1.2, 5.2], [9, 5.2], [5, 5.2]]), "empty mask"),
        (np.concatenate([square(3, 3), square(3, 3)]), "empty mask"),
        (square(100, 100), "box outside the image"),
    ],
)
def test_polygons_that_show_nothing_are_refused(polygon: np.ndarray, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        drawn_polygons("a", [polygon], canvas())
    assert reason == caught.value.reason


def test_a_mask_gives_its_own_box() -> None:
    mask = np.zeros(SIZE, bool)
    mask[4:9, 20:33] = True
    shape = drawn_mask("a", mask)
    assert (20, 4, 33, 9) == shape.box
    assert 5 * 13 == area(shape)
    with pytest.raises(RecordError, match="covers no pixel"):
        drawn_mask("a", np.zeros(SIZE, bool))


# --- groups ---


def polygon(name: str, x: float) -> Drawn:
    return drawn_polygons(name, [square(x, 10)], canvas())


def test_shapes_of_one_group_and_class_are_one_object() -> None:
    notes = Notes()
    shapes = [(polygon("a", 0), 7), (polygon("a", 30), 7), (polygon("b", 5), 7)]
    joined, other = join_groups(shapes, SIZE, notes)
    assert (0, 10, 40, 20) == joined.box
    assert 200 == area(joined)
    assert ("b", (5, 10, 15, 20)) == (other.name, other.box)
    assert [JOINED] == notes.told


def test_overlapping_parts_are_counted_once() -> None:
    (joined,) = join_groups([(polygon("a", 0), 1), (polygon("a", 5), 1)], SIZE, Notes())
    assert 150 == area(joined)


def test_shapes_without_a_group_and_boxes_of_one_stay_apart() -> None:
    box = Drawn("a", (0, 0, 5, 5))
    notes = Notes()
    shapes = [(polygon("a", 0), None), (polygon("a", 30), None), (box, 1), (box, 1)]
    assert 4 == len(join_groups(shapes, SIZE, notes))
    assert [] == notes.told


def test_a_part_to_be_ignored_makes_the_whole_so() -> None:
    crowd = Drawn("a", (0, 0, 5, 5), (square(0, 0, 5),), is_ignored=True)
    (joined,) = join_groups([(crowd, 1), (polygon("a", 30), 1)], SIZE, Notes())
    assert joined.is_ignored


# --- flags, sizes, classes, folders ---


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("crowd", True, True),
        (" IsCrowd ", "true", True),
        ("difficult", 1, True),
        ("difficult", 2, False),
        ("crowd", "no", False),
        ("occluded", True, False),
    ],
)
def test_flags_for_regions_to_be_ignored(name: str, value: object, expected: bool) -> None:
    assert expected == is_ignore_flag(name, value)


def test_flags_without_a_place_are_counted_where_they_say_something() -> None:
    skipped = Skipped()
    flags = {"occluded": True, "color": "red", "empty": "", "off": "false", "crowd": True}
    count_flags(flags, skipped)
    count_flags({"color": "blue"}, skipped)
    assert Counter({"'color' of objects": 2, "'occluded' of objects": 1}) == skipped.unread


def test_an_image_that_viewers_turn_is_taken_as_it_is_seen() -> None:
    """A tag turns 40 x 60 as stored to 60 x 40 as shown."""
    config = CheckedConfig("x")
    header = Header((40, 60), 6)
    assert ((60, 40), "as_shown") == as_seen(header, None, config)
    assert ((60, 40), "as_shown") == as_seen(header, (60, 40), config)
    assert ((40, 60), "") == as_seen(header, (40, 60), config)
    stored = CheckedConfig("x", turned="as_stored")
    assert ((40, 60), "as_stored") == as_seen(header, None, stored)
    assert ((40, 60), "") == as_seen(Header((40, 60), 1), None, config)
    with pytest.raises(RecordError) as caught:
        as_seen(header, (41, 60), config)
    assert "bad image size" == caught.value.reason


def test_a_list_of_classes_names_each_once(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("__ignore__\n_background_\ncat\ndog\n")
    assert [(1, "cat"), (2, "dog")] == [(c.id, c.name) for c in listed_classes(file)]
    for text in ("__ignore__\n", "cat\ndog\ncat\n"):
        file.write_text(text)
        with pytest.raises(DatasetError, match=r"labels\.txt: must list each class once"):
            listed_classes(file)


def test_pictures_are_looked_for_where_the_option_says_then_beside(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    assert tmp_path == image_folder(file, "", tmp_path)
    (tmp_path / "images").mkdir()
    assert tmp_path / "images" == image_folder(file, "", tmp_path)
    (tmp_path / "other").mkdir()
    assert tmp_path / "other" == image_folder(file, "other", tmp_path)
    with pytest.raises(DatasetError, match="no such folder; correct the option images="):
        image_folder(file, "none", tmp_path)


def test_the_box_of_a_cut_polygon_is_that_of_its_visible_part() -> None:
    strip = np.array([[-100.0, 0], [-90, 0], [20, 35], [10, 35]])
    shape = drawn_polygons("a", [strip], canvas())
    assert (0, 28 + 7 / 11, 20, 35) == pytest.approx(shape.box)


def test_polygons_in_parts_of_the_image_are_told_as_such() -> None:
    part = np.array([[0.1, 0.1], [0.4, 0.1], [0.4, 0.4]])
    with pytest.raises(RecordError, match="are its points parts of the image, 0 to 1"):
        drawn_polygons("a", [part], canvas())

"""Values of records: what passes, what is clipped, and the exact word for what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.validation import (
    CUT,
    ROUNDED,
    Box,
    BoxUnits,
    RecordError,
    clip_reason,
    flag,
    inside_box,
    is_int,
    is_name,
    is_text,
    key_of,
    need,
    number,
    number_in,
)

SIZE = (10, 20)


def refusal(check: Any, *values: Any) -> tuple[str, str]:
    with pytest.raises(RecordError) as caught:
        check(*values)
    assert str(caught.value) == caught.value.detail
    return caught.value.reason, caught.value.detail


def test_what_a_record_must_have_is_returned_or_missed() -> None:
    assert need({"a": None}, "a") is None
    assert refusal(need, {"b": 1}, "a") == ("missing key", "key 'a' is missing")
    assert refusal(need, ["a"], "a") == ("missing key", "is no JSON object")


@pytest.mark.parametrize(("value", "text"), [(7, "7"), ("007", "007"), (-1, "-1"), ("", "")])
def test_an_id_is_a_whole_number_or_a_text(value: Any, text: str) -> None:
    assert key_of({"id": value}, "id") == text


@pytest.mark.parametrize("value", [True, 1.0, None, [1]])
def test_other_ids_are_refused(value: Any) -> None:
    assert refusal(key_of, {"id": value}, "id") == (
        "bad value",
        "id must be a whole number or a text",
    )


def test_truth_values_are_no_whole_numbers() -> None:
    assert [is_int(value) for value in (0, -5, 1 << 70, True, 1.0, "1")] == [True] * 3 + [False] * 3


def test_half_a_character_is_no_text() -> None:
    assert [is_text(value) for value in ("", "naïve", "🐮")] == [True] * 3
    assert [is_text(value) for value in ("\ud83d", "a\udcff", 1, None)] == [False] * 4


def test_numbers_are_finite_and_fit_float32() -> None:
    assert number(3, "x") == 3.0
    assert number(0, "x", low=0.0) == 0.0
    assert np.isfinite(np.float32(number(9.9e37, "x")))
    for value in (math.nan, math.inf, -math.inf, 1e38, "1", None, True, 10**400):
        reason, detail = refusal(number, value, "x")
        assert (reason, detail) == ("bad value", f"x is {value!r:.100}, not a finite number")
    assert refusal(number, -1, "x", 0.0)[1] == "x is -1, not a finite number >= 0"


def test_flags_are_zero_one_or_truth_values() -> None:
    assert [flag({"f": value}, "f", False) for value in (0, 1, True, False)] == [
        False,
        True,
        True,
        False,
    ]
    assert flag({}, "f", True)
    assert flag({"f": None}, "f", True)
    assert refusal(flag, {"f": "1"}, "f", False) == ("bad value", "f is '1', not 0 or 1")


def test_a_box_inside_stays_as_it_is() -> None:
    assert inside_box((0.0, 0.0, 20.0, 10.0), SIZE) == ((0.0, 0.0, 20.0, 10.0), 0.0)


def test_a_box_out_by_a_pixel_is_clipped_and_reported() -> None:
    assert inside_box((-1.0, -0.5, 21.0, 10.25), SIZE) == ((0.0, 0.0, 20.0, 10.0), 1.0)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((-1.5, 0.0, 5.0, 5.0), "1.5"),
        ((0.0, -2.0, 5.0, 5.0), "2"),
        ((0.0, 0.0, 23.0, 5.0), "3"),
        ((0.0, 0.0, 5.0, 14.0), "4"),
    ],
)
def test_a_box_out_by_more_is_refused_at_each_edge(box: Box, pixels: str) -> None:
    assert refusal(inside_box, box, SIZE) == (
        "box outside the image",
        f"bbox lies {pixels} pixels outside the image of 20x10",
    )


def test_a_box_out_by_more_is_cut_where_that_is_asked_for() -> None:
    box, excess = inside_box((-1.5, 0.0, 25.0, 5.0), SIZE, cuts=True)
    assert ((0.0, 0.0, 20.0, 5.0), 5.0) == (box, excess)
    assert clip_reason(excess) == CUT
    assert clip_reason(1.0) == ROUNDED
    assert refusal(inside_box, (21.0, 0.0, 29.0, 5.0), SIZE, True)[0] == "empty box"


@pytest.mark.parametrize(
    "box", [(20.0, 0.0, 21.0, 5.0), (3.0, 10.0, 5.0, 10.5), (4.0, 4.0, 4.0, 5.0)]
)
def test_a_box_of_which_nothing_is_left_is_refused(box: Box) -> None:
    assert refusal(inside_box, box, SIZE) == ("empty box", "bbox has no extent inside the image")


def test_an_extent_that_float32_cannot_hold_is_none() -> None:
    assert refusal(inside_box, (5.0, 0.0, 5.0 + 1e-9, 5.0), SIZE)[0] == "empty box"


EDGE = st.floats(-3, 24, width=32)


@given(EDGE, EDGE, EDGE, EDGE)
def test_what_passes_lies_inside_and_has_an_extent(
    x1: float, y1: float, x2: float, y2: float
) -> None:
    try:
        box, excess = inside_box((x1, y1, x2, y2), SIZE)
    except RecordError:
        return
    assert 0 <= box[0] < box[2] <= 20
    assert 0 <= box[1] < box[3] <= 10
    assert (excess > 0) == (box != (x1, y1, x2, y2))


PART, PIXELS = (0.25, 0.5, 0.5, 0.125), (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([PART, PART], "2 of 2 bboxes"),
        ([PART, PIXELS, PART], "2 of 3 bboxes"),
        ([PART, PIXELS], ""),
        ([(-1, 0, 1, 1)], ""),
        ([], ""),
    ],
)
def test_boxes_that_are_parts_of_their_image_are_told_where_most_are(
    boxes: list[tuple[float, ...]], message: str
) -> None:
    units = BoxUnits()
    for box in boxes:
        units.see(box, SIZE)
    if not message:
        units.check(Path("a.json"))
        return
    with pytest.raises(DatasetError) as caught:
        units.check(Path("a.json"))
    assert str(caught.value).startswith(f"a.json: {message} lie within the first pixel")
    assert "multiply them by its width and height" in str(caught.value)


def test_in_images_of_a_few_pixels_such_boxes_are_right() -> None:
    units = BoxUnits()
    units.see((0, 0, 1, 1), (7, 100))
    units.check(Path("a.json"))


CORNERS = (10.0, 5.0, 30.0, 20.0)  # 300 pixels as corners, 600 as sides


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ([300.0, 300], "2 of 2 bboxes have the area or the mask of two corners"),
        ([300.0, None, 300], "2 of 3 bboxes"),
        ([600.0, 300], ""),
        ([None, "300", True], ""),
    ],
)
def test_corners_are_told_by_their_areas_where_most_have_them(
    areas: list[object], message: str
) -> None:
    units = BoxUnits()
    for area in areas:
        units.see(CORNERS, SIZE, area)
    if not message:
        units.check(Path("a.json"))
        return
    with pytest.raises(DatasetError, match=f"{message}.*x, y, width, height"):
        units.check(Path("a.json"))


def test_corners_are_told_by_their_masks() -> None:
    units = BoxUnits(boxes=2)
    units.see_extent(CORNERS, (10, 5, 30, 20))
    units.see_extent(CORNERS, (10, 5, 40, 25))  # the very place of x, y, width, height
    assert 1 == units.corners


@pytest.mark.parametrize("value", ["", " ", None, 3, "\ud800"])
def test_what_shows_nothing_is_no_name(value: object) -> None:
    assert not is_name(value)


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), (" 2.50 ", 2.5), ("-1e-1", -0.1), (".5", 0.5), ("-0", 0)]
)
def test_numbers_are_read_from_text(text: str, value: float) -> None:
    assert value == number_in(text, "x")


@pytest.mark.parametrize("text", ["", "1_5", "٥", "1,5", "nan", "inf", "1e39", "0x10", "cat"])
def test_what_json_would_not_call_a_number_is_none(text: str) -> None:
    with pytest.raises(RecordError, match=f"x is {text!r}, not a number"):
        number_in(text, "x")

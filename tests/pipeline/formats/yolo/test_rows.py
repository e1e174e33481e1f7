"""Lines of YOLO label files: boxes and polygons in pixels, and what lines may be instead."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.validation import CUT, ROUNDED, RecordError
from synthaug.pipeline.formats.yolo.rows import Columns, Guess, RowReader, Shape

SIZE = (20, 40)  # H, W


def reader(task: str = "", keypoints: int = 0, cuts: bool = False) -> RowReader:
    return RowReader(3, Columns(task, keypoints), Skipped(), cuts)


def read(text: str, own: RowReader | None = None) -> tuple[tuple[int, ...], tuple[Shape, ...]]:
    check = Checker(Path("/x/data.yaml"), "stop")
    return (own or reader()).read(text, SIZE, "image 'a.jpg'", check)


def test_columns_are_class_middle_and_sides_in_parts_of_width_and_height() -> None:
    classes, (box,) = read("2 0.5 0.25 0.5 0.1")
    assert (2,) == classes
    assert [10, 4, 30, 6] == pytest.approx(box.tolist())


def test_empty_lines_are_no_objects() -> None:
    classes, shapes = read("\n0 0.5 0.5 0.1 0.1\n   \n1 0.5 0.5 0.1 0.1\n\n")
    assert (0, 1) == classes
    assert 2 == len(shapes)
    assert ((), ()) == read("")


def test_points_of_a_polygon_are_pixels_and_snap_to_outlines() -> None:
    third = 1 / 3
    _, (polygon,) = read(f"0 {third:.6f} 0.1 0.75 0.1 0.75 0.9")
    assert [30, 2] == polygon[1].tolist(), "0.75 of 40, 0.1 of 20"
    assert polygon[0, 0] == pytest.approx(40 / 3, abs=1e-4)


def test_what_sticks_out_by_rounding_is_clipped_and_counted() -> None:
    own = reader()
    _, (box, polygon) = read("0 0.5 0.5 1.01 0.5\n0 -0.01 0.5 0.5 0.1 0.5 0.9\n", own)
    assert [0, 5, 40, 15] == pytest.approx(box.tolist())
    assert 0 == polygon.min()
    assert {ROUNDED: 2} == dict(own.skipped)


def test_what_sticks_out_by_more_is_refused_or_cut_where_asked() -> None:
    far = "0 0.1 0.5 0.4 0.5"
    with pytest.raises(RecordError, match=r"line 1 of its labels: .* 4 pixels outside"):
        read(far)
    own = reader(cuts=True)
    _, (box, polygon) = read(f"{far}\n0 -0.1 0.5 0.5 0.1 0.5 0.9", own)
    assert [0, 5, 12, 15] == pytest.approx(box.tolist())
    assert (0, 26 / 3) == pytest.approx(tuple(polygon[0].tolist()))  # where the edge enters
    assert {CUT: 2} == dict(own.skipped)
    with pytest.raises(RecordError, match="no extent inside the image"):
        read("0 -0.5 0.1 -0.5 0.9 -0.2 0.5", reader(cuts=True))


def test_a_refused_line_is_left_out_alone_and_named() -> None:
    check = Checker(Path("/x/data.yaml"), "skip")
    text = "0 0.5 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1"
    classes, _ = reader().read(text, SIZE, "image 'a.jpg'", check)
    assert (0, 1) == classes
    (name,) = check.skipped.names["bad label"]
    assert name.startswith("data.yaml: image 'a.jpg': line 2 of its labels: class 9 is not among")


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5", "7 numbers; by kpt_shape a line has 5 and 6"),
        ("obb", "0 0.5 0.5 0.1 0.1", "5 numbers; a turned box has 9"),
        ("detect", "0 0.1 0.1 0.9 0.1 0.5 0.9", "7 numbers; a box has 5"),
        ("", "0 0.5 0.5 0.1 0.1 0.9", "a sixth number may be a confidence"),
        ("", "0 0.5 0.5 0.1 0.1 0.9 0.9 1", "key points need kpt_shape"),
    ],
)
def test_the_wrong_number_of_columns_is_told_with_the_right_one(
    task: str, line: str, message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        read(line, reader(task, 6))


def test_key_points_are_counted_and_not_kept() -> None:
    own = reader("pose", 6)
    classes, shapes = read("1 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.6 0\n0 0.5 0.5 0.1 0.1", own)
    assert (1, 0) == classes
    assert [(4,), (4,)] == [shape.shape for shape in shapes]
    assert {"key points of objects": 1} == own.skipped.unread


# --- what polygons may be instead ---


def seen(*lines: list[float]) -> str:
    guess = Guess()
    for line in lines:
        guess.see(line)
    return guess.told()


BOX = [0, 0.5, 0.5, 0.4, 0.4]


def test_boxes_with_points_inside_may_be_key_points() -> None:
    inside = [0.4, 0.4, 0.6, 0.6]
    assert "kpt_shape" in seen([*BOX, *inside], [*BOX, *inside])
    assert "" == seen([*BOX, *inside], [*BOX, 0.4, 0.4, 0.9, 0.6]), "one lies outside"
    assert "" == seen([*BOX, *inside], [*BOX, *inside, 0.5, 0.5]), "lines of different lengths"


def test_hidden_key_points_may_lie_anywhere() -> None:
    assert "kpt_shape" in seen([*BOX, 0.4, 0.4, 2, 0, 0, 0])
    assert "" == seen([*BOX, 0.4, 0.4, 2, 0, 0, 1]), "a visible one outside"
    assert "" == seen([*BOX, 0.4, 0.4, 0.9, 0.5, 0.5, 0.5]), "no visibility is 0.9"


def test_confidence_and_track_are_told_from_triangles() -> None:
    assert "confidence track" in seen([*BOX, 0.9, 3], [*BOX, 0.5, 4])
    assert "confidence track" not in seen([*BOX, 0.9, 3.5])
    triangle = [0, 0.1, 0.1, 0.9, 0.2, 0.2, 0.9]
    assert "" == seen(triangle)


def test_turned_boxes_are_polygons_like_others() -> None:
    corners = np.array([[0.3, 0.4], [0.6, 0.3], [0.7, 0.6], [0.4, 0.7]]).ravel().tolist()
    assert "" == seen([0, *corners])


def test_an_outline_around_twice_has_no_pixel_and_the_box_stays() -> None:
    own = reader()
    once = "0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.8"
    _, (shape,) = read(f"0 {once} {once}", own)
    assert [4, 4, 20, 16] == pytest.approx(shape.tolist())
    assert {"empty mask, the object keeps its box": 1} == dict(own.skipped)


def test_a_polygon_that_is_cut_keeps_its_shape() -> None:
    """Of a square on its corner 300 pixels are visible; points that were moved leave 200."""
    _, (shape,) = read("0 -0.5 0.5 0 -0.5 0.5 0.5 0 1.5", reader(cuts=True))
    assert 300 == pytest.approx(cv2.contourArea(shape.astype(np.float32)))

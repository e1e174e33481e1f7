"""Rows of the hub: objects in any form of the columns, and what four numbers of a box are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.formats.hub.columns import Columns
from synthaug.pipeline.formats.hub.rows import (
    bytes_of,
    convention_of,
    corners_of,
    objects_of,
    size_of,
)
from synthaug.pipeline.formats.validation import RecordError


def columns(objects: str = "objects") -> Columns:
    return Columns("image", objects, "bbox", "category", "", (), False, True, (), ())


def row(*boxes: list[float], areas: list[float] | None = None) -> dict[str, Any]:
    """Return a row of an image 100 wide and 50 high."""
    objects: dict[str, Any] = {"bbox": list(boxes), "category": [0] * len(boxes)}
    if areas is not None:
        objects["area"] = areas
    return {"objects": objects, "width": 100, "height": 50}


def told(*rows: dict[str, Any]) -> str:
    return convention_of(iter(rows), columns(), Path("/x"))


# --- objects ---


def test_objects_are_lists_of_fields_or_a_list_of_records() -> None:
    records = [{"bbox": [1, 2, 3, 4], "category": 7}, {"bbox": [5, 6, 7, 8], "category": 8}]
    fields = {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": [7, 8]}
    assert records == objects_of({"objects": records}, columns())
    assert records == objects_of({"objects": fields}, columns())
    assert records == objects_of({**fields, "width": 3, "other": [1]}, columns(objects=""))
    assert [] == objects_of({"objects": None}, columns())
    assert [] == objects_of({"objects": {"bbox": [], "category": []}}, columns())


def test_lists_of_different_lengths_are_no_objects() -> None:
    with pytest.raises(RecordError, match="differ in length"):
        objects_of({"objects": {"bbox": [[1, 2, 3, 4]], "category": [1, 2]}}, columns())


# --- what boxes are ---


def test_boxes_that_fit_one_way_only_are_read_so() -> None:
    assert "xywh" == told(row([60, 10, 30, 30]), row([10, 20, 80, 20]))
    assert "xyxy" == told(row([60, 10, 90, 40]), row([80, 20, 100, 50]))
    assert "xywh" == told(), "no box says anything"


def test_areas_decide_where_both_ways_fit() -> None:
    assert "xywh" == told(row([5, 5, 20, 10], areas=[200]))
    assert "xyxy" == told(row([5, 5, 20, 10], areas=[75]))


def test_boxes_that_fit_both_ways_or_neither_ask_for_the_option() -> None:
    for rows in (row([5, 5, 20, 10]), row([5, 5, 20, 10], areas=[3]), row([50, 20, 10, 40])):
        with pytest.raises(DatasetError, match="say boxes=xywh or boxes=xyxy"):
            told(rows)


def test_some_boxes_may_be_wrong() -> None:
    fitting = [[60, 10, 90, 40]] * 20
    assert "xyxy" == told(row(*fitting, [60, 10, 190, 40]))


def test_corners_are_made_of_sides() -> None:
    assert (1, 2, 4, 6) == corners_of([1, 2, 3, 4], "xywh")
    assert (1, 2, 3, 4) == corners_of([1, 2, 3, 4], "xyxy")
    for value in (None, [1, 2, 3], "1 2 3 4", [1, 2, 3, float("nan")]):
        with pytest.raises(RecordError):
            corners_of(value, "xywh")


# --- images ---


@pytest.mark.parametrize("size", [(None, 5), (5, 0), (True, 5), (2.0, 5)])
def test_a_size_that_is_none_is_refused(size: tuple[Any, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        size_of({"width": size[0], "height": size[1]}, columns())
    assert "bad image size" == caught.value.reason


def test_an_image_over_the_limit_is_refused_before_it_is_read() -> None:
    assert (50, 100) == size_of(row(), columns(), 5000)
    with pytest.raises(RecordError, match="100x50 is over max_pixels=4999"):
        size_of(row(), columns(), 4999)


def test_an_image_outside_the_table_is_told_with_its_path() -> None:
    assert b"x" == bytes_of({"bytes": b"x", "path": "a.png"}) == bytes_of(b"x")
    for value in ({"bytes": None, "path": "a.png"}, {"bytes": b"", "path": "a.png"}):
        with pytest.raises(ValueError, match=r"path 'a\.png'.*embed_external_files"):
            bytes_of(value)


def test_parts_of_the_image_are_told_and_what_is_no_box_does_not_decide() -> None:
    with pytest.raises(DatasetError, match=r"2 of 3 bboxes lie within the first pixel"):
        told(row([0.1, 0.2, 0.5, 0.5], [0, 0, 1, 1]), row([5, 5, 20, 8]))
    no_box: Any = None
    assert "xywh" == told(row([30, 5, 8, 8], no_box, [1, 2], [1, 2, 3, "4"]))  # type: ignore[list-item]
    assert "xywh" == told(row(no_box))

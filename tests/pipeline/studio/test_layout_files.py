"""Layouts from our own JSON, COCO files and data sets.

The same boxes whatever the source, one reason per mistake.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.studio.layout_files import SHEET, GivenLayout, read_layout

LAYOUT = {
    "objects": [
        {"class": "sky", "box": [0, 0, 96, 30]},
        {"class": "cow", "box": [8, 30, 40, 60]},
    ],
    "size": [64, 96],
}
COCO = {
    "images": [{"id": 1, "height": 10, "width": 20}, {"id": 5, "height": 50, "width": 100}],
    "categories": [{"id": 3, "name": "cow"}, {"id": 4, "name": "sky", "isthing": 0}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5]},
        {"id": 2, "image_id": 5, "category_id": 3, "bbox": [10, 10, 50, 20]},
        {"id": 3, "image_id": 5, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def test_boxes_are_divided_by_the_size_where_there_is_one(tmp_path: Path) -> None:
    pixels = read_layout(write(tmp_path / "a.json", LAYOUT), None)
    assert ("cow", (8 / 96, 30 / 64, 40 / 96, 60 / 64)) == pixels.objects()[1]
    shares = {"objects": [{"class": "cow", "box": [0, 0, 0.5, 1]}]}
    assert [("cow", (0, 0, 0.5, 1))] == read_layout(
        write(tmp_path / "b.json", shares), None
    ).objects()


def test_a_layout_reads_back_as_it_was_recorded(tmp_path: Path) -> None:
    layout = read_layout(write(tmp_path / "a.json", LAYOUT), None)
    again = read_layout(write(tmp_path / "b.json", layout.record()), None)
    assert (again.names, again.boxes, again.size) == (layout.names, layout.boxes, layout.size)
    empty = GivenLayout("here", (), ())
    assert {"objects": []} == empty.record()
    assert read_layout(write(tmp_path / "c.json", empty.record()), None).objects() == []


def test_a_sheet_says_how_it_was_made(tmp_path: Path) -> None:
    sheet = write(tmp_path / "sheet.json", {SHEET: {"layout": LAYOUT, "seed": 7}})
    layout = read_layout(sheet, None)
    assert 7 == layout.options["seed"] and ("sky", "cow") == layout.names


def test_of_a_coco_file_the_image_is_named_and_crowds_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "coco.json", COCO)
    layout = read_layout(path, "5")
    assert [("cow", (0.1, 0.2, 0.6, 0.6))] == layout.objects()
    assert layout.is_thing("cow") and not layout.is_thing("sky")
    assert layout.objects() == read_layout(path, "id:5").objects()
    assert (10, 20) == read_layout(path, None).size


def test_of_a_data_set_an_image_is_a_position_or_an_id() -> None:
    toy = read_layout("toy:val?count=4", "2")
    by_id = read_layout("toy:val?count=4", "id:" + toy.origin.split()[1])
    assert toy.objects() == by_id.objects() != read_layout("toy:val?count=4", None).objects()
    assert toy.things is not None and "sky" not in toy.things


def test_without_a_data_set_every_class_is_a_thing() -> None:
    assert GivenLayout("here", (), ()).is_thing("sky")


@pytest.mark.parametrize(
    ("change", "image", "message"),
    [
        ({}, "6", r"--image: .* has no image with the id 6"),
        ({"images": []}, None, "it lists no images"),
        ({"images": [{"id": 1, "height": 0, "width": 20}]}, None, "image 1: width and height must"),
        ({"categories": []}, "5", "annotation 2: category_id 3 is not among the categories"),
        (
            {"annotations": [{"id": 9, "image_id": 1, "category_id": 3, "bbox": [0, 0, -5, 5]}]},
            None,
            "annotation 9: ",
        ),
    ],
)
def test_a_wrong_coco_file_is_one_line(
    tmp_path: Path, change: dict[str, Any], image: str | None, message: str
) -> None:
    path = write(tmp_path / "coco.json", COCO | change)
    with pytest.raises((JobError, DatasetError), match=message) as error:
        read_layout(path, image)
    assert "coco.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [64]}, r"size \[64\] must be \[height, width\]"),
        ({"size": [64, 0]}, r"must be \[height, width\]"),
        ({"objects": {}}, "'objects' must be a list"),
        ({"objects": [{"class": "cow", "box": [0, 0, 1]}]}, "must be a list"),
        ({"objects": [{"class": 3, "box": [0, 0, 1, 1]}]}, "'class' must be a text, not 3"),
        ({"objects": [7]}, "object 0 is no JSON object"),
        ({"sise": [1, 1]}, "unknown key 'sise'; did you mean 'size'?"),
    ],
)
def test_a_wrong_layout_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.json", LAYOUT | change)
    with pytest.raises(DatasetError, match=message) as error:
        read_layout(path, None)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_size_is_height_then_width() -> None:
    layout = GivenLayout("here", ("cow",), ((10, 10, 20, 20),), (50, 100))
    assert layout.objects() == [("cow", (0.1, 0.2, 0.2, 0.4))]
    assert layout.record()["size"] == [50, 100]


def test_a_coco_box_is_cut_at_the_border_of_its_own_image(tmp_path: Path) -> None:
    annotation = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [80, 30, 20.5, 20.5]}
    path = write(tmp_path / "coco.json", COCO | {"annotations": [annotation]})
    layout = read_layout(path, "5")
    assert layout.size == (50, 100)
    assert layout.boxes == ((80, 30, 100, 50),)
    annotation["bbox"] = [80, 30, 50, 20]
    path = write(tmp_path / "coco.json", COCO | {"annotations": [annotation]})
    with pytest.raises(DatasetError, match="annotation 1: bbox lies 30 pixels outside"):
        read_layout(path, "5")


def test_one_layout_has_no_images_to_choose_from(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", LAYOUT)
    with pytest.raises(JobError, match="is one layout, not a data set; leave --image out"):
        read_layout(path, "0")


def test_a_reference_that_is_neither_file_nor_data_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="LAYOUT: no such file"):
        read_layout(str(tmp_path / "absent.json"), None)
    with pytest.raises(JobError, match=r"has 4 images, counted from 0; there is no 4"):
        read_layout("toy:val?count=4", "4")
    with pytest.raises(JobError, match="has no image 'x'"):
        read_layout("toy:val?count=4", "id:x")

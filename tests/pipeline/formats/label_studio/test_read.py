"""Label Studio's JSON: percent become pixels, the newest annotation counts, images are found."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.shape_reader import UNLISTED
from tests.pipeline.formats.label_studio.test_brush import channels, packed

H, W = 30, 40


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (W, H)).save(out, "PNG")
    return out.getvalue()


def region(kind: str, label: str | None = "cat", **value: Any) -> dict[str, Any]:
    if label is not None:
        value[kind] = [label]
    size = {"original_width": W, "original_height": H, "image_rotation": 0}
    return {"id": "r1", "type": kind, "value": value} | size


def box(x: float = 10, y: float = 10, width: float = 50, height: float = 50, **more: Any) -> Any:
    return region("rectanglelabels", x=x, y=y, width=width, height=height, **more)


def task(*regions: Any, key: int = 1, image: str = "/data/upload/1/a.png", **more: Any) -> Any:
    annotation = {"id": 5, "was_cancelled": False, "result": list(regions)}
    return {"id": key, "data": {"image": image}, "annotations": [annotation]} | more


def opened(folder: Path, *tasks: Any, option: str = "", image: str = "a.png") -> Any:
    path = folder / "images" / image
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture())
    (folder / "e.json").write_text(json.dumps(list(tasks)))
    return open_dataset(f"label_studio:e.json{option}", folder)


def test_each_kind_of_region_covers_what_it_says(tmp_path: Path) -> None:
    painted = np.zeros((H, W), bool)
    painted[5:9, 6:20] = True
    table = opened(
        tmp_path,
        task(
            box(10, 20, 25, 30),
            region("polygonlabels", points=[[0, 0], [50, 0], [50, 50], [0, 50]]),
            region("ellipselabels", x=50, y=50, radiusX=25, radiusY=20, rotation=0),
            region("brushlabels", format="rle", rle=packed(channels(painted))),
        ),
    )
    found = table[0].objects
    assert found.boxes[[0, 1, 3]].tolist() == [[4, 6, 14, 15], [0, 0, 20, 15], [6, 5, 20, 9]]
    np.testing.assert_allclose(found.boxes[2], [10, 9, 30, 21], atol=1e-4)
    assert found.area[1] == 300
    assert abs(found.area[2] - np.pi * 60) < 6
    assert found.area[3] == 56
    assert [rle is None for rle in found.rle] == [True, False, False, False]


def test_a_turned_box_turns_around_its_first_corner(tmp_path: Path) -> None:
    """20 x 6 pixels from (20, 3), a quarter turned clockwise, reach from x = 14 down to y = 23."""
    table = opened(tmp_path, task(box(50, 10, 50, 20, rotation=90)))
    np.testing.assert_allclose(table[0].objects.boxes[0], [14, 3, 20, 23], atol=1e-4)
    assert table[0].objects.rle == (None,)
    assert table.skipped == {"box drawn at an angle, taken as the upright box around it": 1}


def test_the_ground_truth_then_the_newest_annotation_counts(tmp_path: Path) -> None:
    def annotation(key: int, when: str, width: float, **more: Any) -> dict[str, Any]:
        return {"id": key, "updated_at": when, "result": [box(0, 0, width, 50)]} | more

    old, new = annotation(1, "2024-01-01", 10), annotation(2, "2025-01-01", 20)
    other = annotation(3, "2023-01-01", 30, ground_truth=True)
    cancelled = annotation(4, "2026-01-01", 40, was_cancelled=True)
    for several, width in (([old, new, cancelled], 8), ([old, new, other], 12)):
        table = opened(tmp_path, task(annotations=several, predictions=[{}]))
        assert table[0].objects.boxes[0].tolist() == [0, 0, width, 15]
        assert table.skipped.total() == len(several) - 1 - several.count(cancelled)
        assert table.skipped.unread == {"'predictions' of images": 1}


def test_a_task_without_an_annotation_is_left_out_and_an_empty_one_is_kept(tmp_path: Path) -> None:
    left = task(key=2, annotations=[])
    table = opened(tmp_path, task(), left)
    assert [len(scene.objects) for scene in table] == [0]
    assert isinstance(table.skipped, Skipped)
    assert table.skipped.names == {"task without an annotation, left out": ["e.json: task 2"]}


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/upload/3/0a1b2c3d-street%201.png", "street 1.png"),
        ("/data/upload/3/0a1b2c3d-a.png", "0a1b2c3d-a.png"),
        ("/data/local-files/?d=cams/left/a.png", "cams/left/a.png"),
        ("/data/local-files/?d=store%5Ccams%5Ca.png", "cams/a.png"),
        ("s3://bucket/deep/down/a.png", "down/a.png"),
        ("https://example.invalid/x/a.png?sig=1", "a.png"),
        ("C:\\labels\\a.png", "a.png"),
    ],
)
def test_an_image_is_found_by_the_end_of_its_address(
    address: str, file: str, tmp_path: Path
) -> None:
    table = opened(tmp_path, task(box(), image=address), image=file)
    assert table[0].image_id == file.removesuffix(".png")


def test_an_address_that_fits_two_images_or_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "images" / "right").mkdir(parents=True)
    (tmp_path / "images" / "right" / "a.png").write_bytes(picture())
    address = "/data/upload/1/0a1b2c3d-a.png"
    with pytest.raises(DatasetError, match=r"'left/a.png' and 'right/a.png' both end like"):
        opened(tmp_path, task(box(), image=address), image="left/a.png")
    with pytest.raises(DatasetError, match=r"task 1: its image file 'gone.png' is not in"):
        opened(tmp_path, task(box(), image="/data/upload/1/0a1b2c3d-gone.png"))
    same = "/data/upload/1/left/a.png"
    with pytest.raises(DatasetError, match=r"task 2: its image 'left/a.png' is another task's too"):
        opened(tmp_path, task(box(), image=same), task(box(), key=2, image=same))


def test_the_short_form_is_read(tmp_path: Path) -> None:
    label = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["dog"]}
    size = {"original_width": W, "original_height": H}
    short = {"id": 1, "image": "/data/upload/1/a.png", "label": [label | size], "annotator": 1}
    table = opened(tmp_path, short)
    assert table[0].objects.boxes.tolist() == [[0, 0, 20, 15]]
    assert [category.name for category in table.categories] == ["dog"]


def test_a_plain_shape_takes_the_label_beside_it(tmp_path: Path) -> None:
    plain = region("rectangle", None, x=0, y=0, width=50, height=50)
    beside = region("labels", None, labels=["dog"])
    choice = region("choices", None, choices=["night"])
    relation = {"type": "relation", "from_id": "r1", "to_id": "r1"}
    table = opened(tmp_path, task(plain, beside, choice, relation))
    assert len(table[0].objects) == 1
    assert [category.name for category in table.categories] == ["dog"]
    assert table.skipped.unread == {
        "results of the kind 'choices'": 1,
        "results of the kind 'relation'": 1,
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (box(label="cat") | {"image_rotation": 90}, "image_rotation is 90.*export again"),
        (box(60, 10, 70, 10), "bbox lies 12 pixels outside"),
        (region("rectanglelabels", None, x=0, y=0, width=5, height=5), "it needs one label"),
        (region("rectanglelabels", x=0, y=0, width=5), "key 'height' is missing"),
        (region("polygonlabels", points=[[0, 0], [1]]), r"points must be a list of \[x, y\]"),
        (region("brushlabels", rle=[0, 0, 0, 9]), "9 values, not 40x30 pixels"),
        ({"type": "rectanglelabels"}, "key 'value' is missing"),
        ("text", "is no JSON object"),
    ],
)
def test_a_wrong_region_is_named_or_left_out_alone(
    wrong: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=f"task 1: region 2: .*{message}"):
        opened(tmp_path, task(box() | {"id": "x"}, wrong))
    table = opened(tmp_path, task(box() | {"id": "x"}, wrong), option="?on_bad=skip")
    assert len(table[0].objects) == 1
    assert table.skipped.total() == 1


def test_a_size_that_is_not_the_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the image is 40x30 pixels, its annotation says 50x30"):
        opened(tmp_path, task(box() | {"original_width": 50}))
    (tmp_path / "e.json").write_text("{}")
    with pytest.raises(DatasetError, match="must be a list of tasks"):
        open_dataset("label_studio:e.json", tmp_path)


# --- the exports of other formats, with the names that Label Studio gives them ---


def test_its_yolo_coco_and_voc_folders_are_read_as_they_come(tmp_path: Path) -> None:
    name = "0a1b2c3d-a"
    home = tmp_path / "x"
    (home / "images").mkdir(parents=True)
    (home / "images" / f"{name}.png").write_bytes(picture())
    (home / "labels").mkdir()
    (home / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (home / "classes.txt").write_text("cat\n")
    (home / "notes.json").write_text("{}")
    coco = {
        "images": [{"id": 0, "file_name": f"images\\{name}.png", "width": W, "height": H}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "bbox": [10, 7.5, 20, 15], "iscrowd": 0}
        ],
    }
    (home / "result.json").write_text(json.dumps(coco))
    (home / "Annotations").mkdir()
    bounds = "<xmin>11</xmin><ymin>9</ymin><xmax>30</xmax><ymax>22</ymax>"
    size = f"<size><width>{W}</width><height>{H}</height></size>"
    (home / "Annotations" / f"{name}.xml").write_text(
        f"<annotation><filename>{name}</filename>{size}"
        f"<object><name>cat</name><bndbox>{bounds}</bndbox></object></annotation>"
    )
    boxes = {"yolo": [10, 7.5, 30, 22.5], "coco": [10, 7.5, 30, 22.5], "voc": [10, 8, 30, 22]}
    for form, expected in boxes.items():
        table = open_dataset(f"{form}:x", tmp_path)
        assert table[0].objects.boxes.tolist() == [expected]
        assert table.categories[0].name == "cat"


def test_a_label_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="region 1: it needs one label, not"):
        opened(tmp_path, task(region("rectanglelabels", "", x=1, y=1, width=5, height=5)))


def test_images_that_no_task_names_are_told(tmp_path: Path) -> None:
    for name in ("b.png", "in/größe.png", "left.png"):
        file = tmp_path / "images" / unicodedata.normalize("NFD", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture())
    address = "/data/upload/1/" + unicodedata.normalize("NFC", "größe.png")
    without = task(key=2, image="/data/upload/1/b.png") | {"annotations": []}
    table = opened(tmp_path, task(box()), without, task(box(), key=3, image=address))
    assert 2 == len(table)
    assert ["left.png"] == table.skipped.names[UNLISTED]
    assert 1 == table.skipped["task without an annotation, left out"]

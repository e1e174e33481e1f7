"""YOLO folders, written.

Labels that Ultralytics reads, and what they cannot hold is counted and kept.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.yolo import write as yolo
from synthaug.pipeline.formats.yolo.write import data_yaml, label_text
from tests.hard_scenes import CATEGORIES, SIZE, boxed, masked, png


def test_the_layout_is_what_ultralytics_documents(tmp_path: Path) -> None:
    """Labels lie where the path says labels for images.

    Classes are numbers from 0; every coordinate is in [0, 1].
    """
    lost = yolo.write_splits({"train": masked(), "val": masked()}, Folder.at(tmp_path))
    document = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert document["names"] == {0: "no", 1: CATEGORIES[1].name, 2: CATEGORIES[2].name, 3: "1.0"}
    assert "path" not in document  # then its folder is that of data.yaml
    for split in ("train", "val"):
        for image in sorted((tmp_path / document[split]).iterdir()):
            label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
            rows = [[float(word) for word in row.split()] for row in label.read_text().splitlines()]
            assert all(len(row) > 6 and len(row) % 2 == 1 for row in rows), (
                "a file of polygons holds polygons only"
            )
            assert all(0 <= value <= 1 for row in rows for value in row[1:])
    assert lost == Counter({"ignore regions, left out of the labels (kept in coco/)": 4})


def test_what_labels_cannot_hold_is_in_the_coco_file(tmp_path: Path) -> None:
    yolo.write(masked(), Folder.at(tmp_path))
    table = open_dataset("coco:coco/train.json?images=images/train", tmp_path)
    assert [table[i].provenance for i in range(6)] == [scene.provenance for scene in masked()]
    assert [table[i].objects.iscrowd.tolist() for i in range(6)] == [
        s.objects.iscrowd.tolist() for s in masked()
    ]


def test_one_object_without_a_mask_makes_boxes_of_all_and_is_told(tmp_path: Path) -> None:
    mixed = SceneList(CATEGORIES, [*masked().scenes, boxed().scenes[0]])
    lost = yolo.write_splits({"train": mixed}, Folder.at(tmp_path))
    rows = [
        row for p in (tmp_path / "labels/train").iterdir() for row in p.read_text().splitlines()
    ]
    assert {len(row.split()) for row in rows} == {5}
    assert lost["masks, written as boxes because not every object has one (kept in coco/)"] == 8


def test_masks_of_one_split_alone_make_polygons_of_none(tmp_path: Path) -> None:
    yolo.write_splits({"train": masked(), "val": boxed()}, Folder.at(tmp_path))
    lengths = set()
    for path in sorted((tmp_path / "labels").rglob("*.txt")):
        lengths |= {len(row.split()) for row in path.read_text().splitlines()}
    assert lengths == {5}


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="rename it"):
        yolo.write(SceneList((Category(1, "half \ud800"),), []), Folder.at(tmp_path))


def test_a_gif_becomes_a_png(tmp_path: Path) -> None:
    Image.new("RGB", (40, 24), (200, 0, 0)).save(tmp_path / "x.gif")
    scene = Scene(
        "g",
        *SIZE,
        ImageRef(None, str(tmp_path / "x.gif")),
        Objects.build([0], np.array([[0, 0, 9, 9]])),
    )
    yolo.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path / "out"))
    assert [p.name for p in (tmp_path / "out/images/train").iterdir()] == ["x.png"]


def test_the_coco_file_names_the_same_images(tmp_path: Path) -> None:
    scene = Scene(
        "../x y", *SIZE, ImageRef(png(SIZE)), Objects.build([0], np.array([[0, 0, 9, 9]]))
    )
    yolo.write(SceneList(CATEGORIES, [scene]), Folder.at(tmp_path))
    record = json.loads((tmp_path / "coco/train.json").read_text())["images"][0]
    assert record["scene_id"] == "../x y"
    assert (tmp_path / "images" / "train" / record["file_name"]).is_file()
    assert (tmp_path / "labels" / "train" / record["file_name"]).with_suffix(".txt").is_file()


def test_a_box_is_its_center_and_size_in_parts_of_the_image() -> None:
    objects = Objects.build([2, 0], [[4, 3, 20, 9], [0, 0, 40, 24]])
    scene = Scene("a", 24, 40, ImageRef(), objects)
    assert label_text(scene, polygons=False) == "2 0.3 0.25 0.4 0.25\n0 0.5 0.5 1 1\n"


def test_a_box_out_of_the_image_is_clipped_to_it() -> None:
    scene = Scene("a", 10, 20, ImageRef(), Objects.build([0], [[-5, 0, 10, 15]]))
    assert label_text(scene, polygons=False) == "0 0.25 0.5 0.5 1\n"


def test_a_polygon_is_the_outline_of_the_mask() -> None:
    mask = np.zeros((1, 10, 20), bool)
    mask[0, 2:7, 5:10] = True
    rle = masks.encode(mask)
    scene = Scene("a", 10, 20, ImageRef(), Objects.build([1], [[5, 2, 10, 7]], rle=rle))
    label, *values = label_text(scene, polygons=True).split()
    points = np.array(values, float).reshape(-1, 2) * (20, 10)
    assert label == "1"
    assert masks.from_polygons([points.ravel()], (10, 20)) == rle[0]
    assert label_text(scene, polygons=False) == "1 0.375 0.45 0.25 0.5\n"


def test_ignore_regions_and_empty_images_leave_no_line() -> None:
    scene = Scene("a", 10, 20, ImageRef(), Objects.build([0], [[0, 0, 5, 5]], iscrowd=[True]))
    assert label_text(scene, polygons=False) == ""


def test_data_yaml_names_folders_classes_and_their_ids() -> None:
    text = data_yaml((Category(7, "yes: no", "x", isthing=False),), ["train", "val"])
    assert yaml.safe_load(text) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "yes: no"},
        "synthaug_classes": [{"id": 7, "name": "yes: no", "supercategory": "x", "isthing": False}],
    }

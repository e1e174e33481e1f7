"""VOC folders, written.

Whole pixels from 1, lists of names, and what the format loses is counted.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.voc import write as voc
from synthaug.pipeline.formats.voc.write import annotation, whole_boxes
from tests.hard_scenes import CATEGORIES, boxed, masked


def test_boxes_are_rounded_by_half_a_pixel_and_never_vanish() -> None:
    boxes = np.array(
        [[0.5, 0.49, 3.5, 2.2], [9.7, 4.9, 10, 5], [0.1, 0.2, 0.3, 0.4], [0, 0, 10, 5]], np.float32
    )
    wanted = [[1, 0, 4, 2], [9, 4, 10, 5], [0, 0, 1, 1], [0, 0, 10, 5]]
    assert whole_boxes(boxes, (5, 10)).tolist() == wanted


@pytest.mark.parametrize(
    ("names", "told"),
    [(("a\x01",), "XML cannot spell"), (("\ud800",), "cannot spell"), (("a", "a"), "two classes")],
)
def test_names_that_cannot_be_told_apart_are_refused(
    names: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=told):
        voc.write(
            SceneList(tuple(Category(k, n) for k, n in enumerate(names)), []), Folder.at(tmp_path)
        )


def test_two_splits_with_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="in two splits"):
        voc.write_splits({"train": boxed(), "val": boxed()}, Folder.at(tmp_path))


def test_what_is_lost_is_counted_and_lists_are_plain(tmp_path: Path) -> None:
    lost = voc.write_splits({"train": masked(), "val": boxed()}, Folder.at(tmp_path))
    assert lost["images converted to JPEG"] == 10
    assert lost["masks (kept in coco/)"] == sum(
        rle is not None for s in masked() for rle in s.objects.rle
    )
    assert (tmp_path / "ImageSets/Main/val.txt").read_text().splitlines() == [
        s.image_id for s in boxed()
    ]
    xml = (tmp_path / "Annotations/image-4.xml").read_text()
    assert "<difficult>1</difficult><" not in xml
    assert xml.count("<difficult>1</difficult>") == 1
    assert CATEGORIES[2].name not in xml


def test_an_annotation_is_what_the_development_kit_writes() -> None:
    objects = Objects.build([1, 0], [[0, 0, 20, 10], [3, 4, 5, 6]], iscrowd=[False, True])
    scene = Scene("a", 10, 20, ImageRef(), objects)
    root = fromstring(annotation(scene, "a&b.jpg", (Category(1, "<x>"), Category(2, "cow"))))
    assert root.findtext("filename") == "a&b.jpg"
    assert [root.findtext(f"size/{key}") for key in ("width", "height", "depth")] == [
        "20",
        "10",
        "3",
    ]
    rows = []
    for element in root.findall("object"):
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        rows.append((element.findtext("name"), element.findtext("difficult"), corners))
    assert rows == [
        ("cow", "0", ["1", "1", "20", "10"]),
        ("<x>", "1", ["4", "5", "5", "6"]),
    ]


def test_boxes_off_the_grid_are_counted(tmp_path: Path) -> None:
    lost = voc.write_splits({"train": boxed()}, Folder.at(tmp_path))
    assert lost == {
        "boxes rounded to whole pixels (as they were in coco/)": 4,
        "images converted to JPEG": 4,
    }


def test_masks_and_ids_are_in_the_coco_file(tmp_path: Path) -> None:
    voc.write(masked(), Folder.at(tmp_path))
    table = open_dataset("coco:coco/train.json?images=JPEGImages", tmp_path)
    assert [scene.objects.rle for scene in table][1] == masked()[1].objects.rle
    assert [scene.provenance for scene in table] == [scene.provenance for scene in masked()]

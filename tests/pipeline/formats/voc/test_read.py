"""VOC folders: boxes from 1 with both ends, difficult objects, and XML that may want to do harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.validation import RecordError
from synthaug.pipeline.formats.voc import read as voc
from synthaug.pipeline.formats.voc.write import whole_boxes
from synthaug.pipeline.formats.voc.xml_tree import parse
from tests.hard_scenes import CATEGORIES, boxed, masked

OBJECT = (
    "<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax>"
    "<ymax>20</ymax></bndbox><part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>4</xmax><ymax>4</ymax>"
    "</bndbox></part></object>"
)
FILE = "<annotation><filename>{file}</filename><size><width>40</width><height>20</height></size>{objects}</annotation>"


def text(objects: str = OBJECT.format(name="dog", hard=0), file: str = "a.jpg") -> str:
    return FILE.format(objects=objects, file=file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's set of one image."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "Annotations" / "a.xml").write_text(text())
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    return tmp_path


def test_boxes_count_from_one_and_include_their_end(folder: Path) -> None:
    table = open_dataset("voc:.", folder)
    assert table.categories == (Category(1, "dog"),)
    assert table[0].objects.boxes.tolist() == [[0, 1, 40, 20]]  # parts are no objects


def test_difficult_objects_are_ignored_or_learnt(folder: Path) -> None:
    (folder / "Annotations" / "a.xml").write_text(text(OBJECT.format(name="dog", hard=1)))
    assert open_dataset("voc:.", folder)[0].objects.iscrowd.tolist() == [True]
    assert open_dataset("voc:.?difficult=learn", folder)[0].objects.iscrowd.tolist() == [False]


def test_classes_come_from_a_file_where_one_is_named(folder: Path) -> None:
    (folder / "names.txt").write_text("cat\ndog\n")
    table = open_dataset("voc:.?classes=names.txt&split=all", folder)
    assert ([c.name for c in table.categories], table[0].objects.category.tolist()) == (
        ["cat", "dog"],
        [1],
    )
    (folder / "names.txt").write_text("cat\n")
    with pytest.raises(DatasetError, match="'dog' is not among the classes"):
        open_dataset("voc:.?classes=names.txt", folder)


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>' + text("&c;")
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + text("&x;")
BAD = {
    BOMB: "declares a document type",
    OUTSIDE: "declares a document type",
    text("&c;"): "not well-formed",
    "<annotation>": "not well-formed",
    "": "not well-formed",
    "<a>" * 60 + "</a>" * 60: "nested",
    text(file="../../../etc/passwd"): "leaves",
    text(file="/etc/passwd"): "absolute",
    text(file="none.jpg").replace("<name>", "<nome>").replace("</name>", "</nome>"): "has no name",
    text().replace("<xmin>1<", "<xmin>one<"): "not a number",
    text().replace("<xmin>1<", "<xmin>nan<"): "not a number",
    text().replace("<xmin>1<", "<xmin>41<"): "no extent",
    text().replace("<xmax>40<", "<xmax>90<"): "outside the image",
    text().replace("<width>40<", "<width>0<"): "above 0",
    text().replace("<width>40<", "<width>99999999<"): "max_pixels",
    text().replace("<difficult>0", "<difficult>maybe"): "not 0 or 1",
}


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_annotation_is_one_line_or_counted(folder: Path, number: int) -> None:
    content, told = list(BAD.items())[number]
    (folder / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(DatasetError) as caught:
        open_dataset("voc:.", folder)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "root:" not in str(caught.value)
    table = open_dataset("voc:.?on_bad=skip", folder)
    assert (len(table), sum(table.skipped.values())) == (0, 1)


def test_a_document_type_is_refused_in_any_encoding() -> None:
    data = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16")
    with pytest.raises(RecordError, match="declares"):
        parse(data, "a.xml")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no list": (
        lambda f: (f / "ImageSets/Main/train.txt").rename(f / "ImageSets/Main/val.txt"),
        "there are val",
    ),
    "escape": (lambda f: (f / "ImageSets/Main/train.txt").write_text("../a\n"), "leaves"),
    "twice": (lambda f: (f / "ImageSets/Main/train.txt").write_text("a\na\n"), "listed twice"),
    "no xml": (lambda f: (f / "Annotations/a.xml").unlink(), "is not in"),
    "no image": (lambda f: (f / "JPEGImages/a.jpg").unlink(), "its image"),
    "classes": (lambda f: (f / "classes.json").write_text('[{"id": 1}]'), "classes.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_advice(folder: Path, fault: str) -> None:
    change, told = FAULTS[fault]
    change(folder)
    with pytest.raises(DatasetError) as caught:
        open_dataset("voc:.", folder)
    assert told in str(caught.value)
    assert ";" in str(caught.value)


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

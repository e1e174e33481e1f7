"""VOC folders: boxes from 1 with both ends, difficult objects, and XML that may want to do harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.reference import open_dataset

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
    Image.new("RGB", (40, 20)).save(folder / "JPEGImages" / "b.jpg")
    good = OBJECT.format(name="dog", hard=0)
    (folder / "Annotations" / "b.xml").write_text(text(good, file="b.jpg"))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    table = open_dataset("voc:.?on_bad=skip", folder)
    assert table[len(table) - 1].image_id == "b"
    assert sum(map(len, table.skipped.names.values())) == 1
    (named,) = table.skipped.names.values()
    assert named[0].startswith("Annotations: image 'a': ")
    assert told in named[0]
    if len(table) == 2:  # the object alone is left out
        assert len(table[0].objects) == 0
        assert "object 1" in named[0]


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

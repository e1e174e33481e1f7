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
FILE = "<annotation><filename>{file}</filename>"
FILE += "<size><width>40</width><height>20</height></size>{objects}</annotation>"


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
    "class id": (
        lambda f: (f / "classes.json").write_text(
            '[{"id": Infinity, "name": "a", "supercategory": "", "isthing": true}]'
        ),
        "classes.json",
    ),
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


# --- which picture an annotation belongs to ---


def several(folder: Path, told: dict[str, str], pictures: list[str]) -> None:
    """Annotations by name with the filename they tell.

    The names of the pictures are colours apart.
    """
    for path in (folder / "JPEGImages").iterdir():
        path.unlink()
    for path in (folder / "Annotations").iterdir():
        path.unlink()
    for name in pictures:
        Image.new("RGB", (40, 20)).save(folder / "JPEGImages" / name, "PNG")
    for name, file in told.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text(file=file))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join(told))


def chosen(folder: Path) -> list[str]:
    table = open_dataset("voc:.", folder)
    return [Path(scene.image.path or "").name for scene in table]


def test_the_name_of_the_annotation_goes_before_a_stale_filename(folder: Path) -> None:
    several(folder, {"1": "2.jpg", "2": "3.jpg", "3": "1.jpg"}, ["1.jpg", "2.jpg", "3.jpg"])
    assert chosen(folder) == ["1.jpg", "2.jpg", "3.jpg"]
    skipped = open_dataset("voc:.", folder).skipped
    assert skipped.total() == 3
    (names,) = skipped.names.values()
    assert names[0] == "Annotations: image '1': its filename is '2.jpg'"


@pytest.mark.parametrize("picture", ["1.jpeg", "1.JPG", "1.png", "1.tif"])
@pytest.mark.parametrize("told", ["", "1", "IMG_7.jpg", "1.jpg"])
def test_a_picture_of_another_suffix_is_found(folder: Path, picture: str, told: str) -> None:
    several(folder, {"1": told}, [picture])
    assert chosen(folder) == [picture]
    assert not open_dataset("voc:.", folder).skipped


def test_the_filename_counts_where_nothing_else_tells(folder: Path) -> None:
    several(folder, {"1": "photo.jpg"}, ["photo.jpg"])
    assert chosen(folder) == ["photo.jpg"]
    several(folder, {"1": "1.png"}, ["1.jpg", "1.png"])
    assert chosen(folder) == ["1.png"]
    several(folder, {"1": ""}, ["1.jpg", "1.png"])
    with pytest.raises(DatasetError, match=r"'1\.jpg' and '1\.png' are both called so"):
        open_dataset("voc:.", folder)


def test_lists_of_one_class_hold_the_images_that_show_it(folder: Path) -> None:
    several(folder, dict.fromkeys("abc", ""), ["a.jpg", "b.jpg", "c.jpg"])
    (folder / "ImageSets" / "Main" / "dog_train.txt").write_text("a  1\nb -1\nc  0\n")
    table = open_dataset("voc:.?split=dog_train", folder)
    assert [scene.image_id for scene in table] == ["a", "c"]
    assert table.skipped == {"image that does not show the class of the list": 1}


def test_the_one_folder_of_labelimg_is_read(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (40, 20)).save(flat / "a.jpg")
    (flat / "a.xml").write_text(text())
    table = open_dataset("voc:flat", tmp_path)
    assert table[0].objects.boxes.tolist() == [[0, 1, 40, 20]]


def test_a_bad_object_goes_and_the_others_of_its_image_stay(folder: Path) -> None:
    good = OBJECT.format(name="dog", hard=0)
    bad = good.replace("<xmax>40<", "<xmax>90<")
    (folder / "Annotations" / "a.xml").write_text(text(good + bad + good))
    with pytest.raises(DatasetError, match="image 'a': object 2: bbox lies 50 pixels outside"):
        open_dataset("voc:.", folder)
    table = open_dataset("voc:.?on_bad=skip", folder)
    assert len(table[0].objects) == 2
    assert table.skipped == {"box outside the image": 1}


def test_classes_of_cvats_label_map_are_taken_in_its_order(folder: Path) -> None:
    lines = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:4,5,6:a,b:c\n"
    (folder / "labelmap.txt").write_text(lines)
    table = open_dataset("voc:.", folder)
    assert table.categories == (Category(1, "cat"), Category(2, "dog"))
    assert table[0].objects.category.tolist() == [1]
    (folder / "labelmap.txt").write_text(lines + "cat:9,9,9::\n")
    with pytest.raises(DatasetError, match=r"labelmap\.txt: must list each class once"):
        open_dataset("voc:.", folder)


def test_annotations_in_a_folder_per_class_are_found_by_their_name(folder: Path) -> None:
    (folder / "Annotations" / "dog").mkdir()
    (folder / "Annotations" / "a.xml").rename(folder / "Annotations" / "dog" / "a.xml")
    assert open_dataset("voc:.", folder)[0].objects.boxes.tolist() == [[0, 1, 40, 20]]
    (folder / "Annotations" / "cat").mkdir()
    (folder / "Annotations" / "cat" / "a.xml").write_text(text())
    with pytest.raises(DatasetError, match="'cat/a' and 'dog/a' are both called so"):
        open_dataset("voc:.", folder)


def test_boxes_that_are_parts_of_the_image_are_told(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    box = "<bndbox><xmin>0.1</xmin><ymin>0.2</ymin><xmax>0.5</xmax><ymax>1.0</ymax></bndbox>"
    Image.new("RGB", (40, 20)).save(folder / "JPEGImages" / "a.jpg")
    objects = f"<object><name>dog</name>{box}</object>"
    (folder / "Annotations" / "a.xml").write_text(text(objects))
    with pytest.raises(DatasetError, match="1 of 1 bboxes lie within the first pixel"):
        open_dataset("voc:.", folder)


def test_an_image_without_an_annotation_is_named_where_all_are_read(folder: Path) -> None:
    Image.new("RGB", (40, 20)).save(folder / "JPEGImages" / "b.jpg")
    reason = "image without an annotation file, left out"
    assert {reason: ["b.jpg"]} == open_dataset("voc:.?split=all", folder).skipped.names
    assert not open_dataset("voc:.", folder).skipped  # the list leaves it out


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (OBJECT.format(name=" ", hard=0), "object 1: the name of an object is empty"),
        (OBJECT.format(name="dog</name><name>cat", hard=0), "an object has more than one name"),
    ],
)
def test_an_object_has_one_name(folder: Path, objects: str, message: str) -> None:
    (folder / "Annotations" / "a.xml").write_text(text(objects))
    with pytest.raises(DatasetError, match=message):
        open_dataset("voc:.", folder)


def test_masks_and_polygons_are_counted_as_not_kept(folder: Path) -> None:
    polygon = "<polygon><x1>1</x1><y1>1</y1></polygon>"
    objects = OBJECT.format(name="dog", hard=0).replace("<bndbox>", f"{polygon}<bndbox>", 1)
    content = text(objects).replace("<size>", "<segmented>1</segmented><size>")
    (folder / "Annotations" / "a.xml").write_text(content)
    unread = open_dataset("voc:.", folder).skipped.unread
    assert 1 == unread["'polygon' of objects"] == unread["masks of images ('segmented')"]


def test_somebody_elses_classes_json_is_told_with_a_way_out(folder: Path) -> None:
    (folder / "classes.json").write_text('["dog"]')
    with pytest.raises(DatasetError, match="rename it, or name the classes with classes=FILE"):
        open_dataset("voc:.", folder)

"""YOLO folders: what Ultralytics reads into them, and every mistake named or counted."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.yolo import read as yolo
from tests.hard_scenes import masked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's set: two images of 20 x 40, one labelled."""
    for part in ("images/train", "labels/train"):
        (tmp_path / part).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (40, 20)).save(tmp_path / "images" / "train" / f"{name}.jpg")
    (tmp_path / "labels" / "train" / "a.txt").write_text(
        "1 0.5 0.5 0.5 0.25\n\n0 0 0 0.5 0 0.5 1 0 1\n"
    )
    (tmp_path / "data.yaml").write_text(
        "train: images/train\nval: images/train\nnames: [cat, dog]\n"
    )
    return tmp_path


def test_a_set_of_somebody_else_is_read(folder: Path) -> None:
    table = open_dataset("yolo:.", folder)
    assert [c.name for c in table.categories] == ["cat", "dog"]
    scene = table[0]
    assert (scene.image_id, scene.objects.category.tolist()) == ("a", [1, 0])
    assert scene.objects.boxes.tolist() == [[10, 7.5, 30, 12.5], [0, 0, 20, 20]]
    assert scene.objects.area.tolist() == [100, 400]
    assert scene.objects.rle[0] is None
    assert len(table[1].objects) == 0


def test_a_folder_beside_the_file_that_is_called_one_up_is_found(folder: Path) -> None:
    (folder / "data.yaml").write_text("train: ../images/train\nnames: {0: cat, 1: dog}\n")
    assert len(open_dataset("yolo:data.yaml", folder)) == 2


def test_val_may_be_called_validation(folder: Path) -> None:
    (folder / "data.yaml").write_text(
        "train: images/train\nvalidation: images/train\nnames: [cat, dog]\n"
    )
    assert len(open_dataset("yolo:.?split=val", folder)) == 2


def test_a_list_of_images_is_read(folder: Path) -> None:
    (folder / "list.txt").write_text("./images/train/b.jpg\nimages/train/a.jpg\n")
    (folder / "data.yaml").write_text("train: list.txt\nnames: [cat, dog]\n")
    table = open_dataset("yolo:.", folder)
    assert [len(table[i].objects) for i in range(2)] == [0, 2]


def test_images_elsewhere_are_named_by_an_option(folder: Path) -> None:
    (folder / "data.yaml").write_text("path: /somewhere/else\ntrain: x\nnames: [cat, dog]\n")
    with pytest.raises(DatasetError, match="images=FOLDER"):
        open_dataset("yolo:.", folder)
    assert len(open_dataset("yolo:.?images=images/train", folder)) == 2


LABELS = {
    "2 0.5 0.5 0.1 0.1": "class 2 is not among the 2 names",
    "0.5 0.5 0.5 0.1 0.1": "class 0.5",
    "0 0.5 0.5 0.1": "4 numbers",
    "0 0.5 0.5 0.1 0.1 0.9": "6 numbers",
    "0 0.5 0.5 0 0.1": "no extent",
    "0 0.5 nan 0.1 0.1": "a column is 'nan', not a number",
    "0 20 10 5 5": "not between 0 and 1",
    "0 0.9 0.5 0.9 0.1": "outside the image",
    "cat 0.5 0.5 0.1 0.1": "a column is 'cat', not a number; a line is the class, as its number",
    "0 0.1 0.1 0.1 0.1 0.1 0.1": "no extent",
}


@pytest.mark.parametrize("text", LABELS)
def test_a_bad_label_is_named_with_its_line_or_counted(folder: Path, text: str) -> None:
    (folder / "labels" / "train" / "b.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{text}\n")
    with pytest.raises(DatasetError) as caught:
        open_dataset("yolo:.", folder)
    assert "'b.jpg'" in str(caught.value)
    assert "line 2" in str(caught.value)
    assert LABELS[text] in str(caught.value)
    table = open_dataset("yolo:.?on_bad=skip", folder)
    assert [len(scene.objects) for scene in table] == [2, 1]  # the good line of b stays
    assert table.skipped.total() == 1
    (names,) = table.skipped.names.values()
    assert "image 'b.jpg': line 2" in names[0]


def turn(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "images" / "train" / "b.jpg", exif=exif)


def write_yaml(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "data.yaml").write_text(text)


TENS = [f"n{k}: &n{k} [{', '.join([f'*n{k - 1}'] * 10)}]" for k in range(1, 12)]
BOMB = "\n".join(
    ["n0: &n0 [a]", *TENS, "train: images/train", "names: *n11"]
)  # a list of 10 to the 11th

FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "turned": (turn, "EXIF"),
    "twins": (lambda f: Image.new("RGB", (9, 9)).save(f / "images/train/a.png"), "same labels"),
    "broken": (lambda f: (f / "images/train/b.jpg").write_bytes(b"no"), "cannot be decoded"),
    "link": (lambda f: (f / "labels/train/b.txt").symlink_to("/etc/hostname"), "leaves"),
    "no yaml": (lambda f: (f / "data.yaml").unlink(), "cannot be read"),
    "bad yaml": (write_yaml("a: [1"), "not valid YAML"),
    "bomb": (write_yaml(BOMB), "'names' must list the classes as texts, not list"),
    "list": (write_yaml("- 1"), "no data.yaml"),
    "tag": (write_yaml("names: !!python/object/apply:os.system [ls]"), "not valid YAML"),
    "no split": (write_yaml("val: images/train\nnames: [a]"), "names no images for split 'train'"),
    "no names": (write_yaml("train: images/train"), "'names' is missing"),
    "names without quotes": (write_yaml("train: images/train\nnames: [no, yes]"), "in quotes"),
    "a gap": (write_yaml("train: images/train\nnames: {0: a, 2: b}"), "from 0 to 1"),
    "escape": (write_yaml("train: ../../etc\nnames: [a]"), "no folder beside it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_advice(folder: Path, fault: str) -> None:
    change, told = FAULTS[fault]
    change(folder)
    with pytest.raises(DatasetError) as caught:
        open_dataset("yolo:.", folder)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_an_unknown_split_is_refused(folder: Path) -> None:
    with pytest.raises(JobError, match="use train, val, test"):
        open_dataset("yolo:.?split=training", folder)


def test_after_an_edit_of_the_names_ids_run_from_one(tmp_path: Path) -> None:
    yolo.write(masked(), Folder.at(tmp_path))
    text = (tmp_path / "data.yaml").read_text()
    (tmp_path / "data.yaml").write_text(text.replace("0: 'no'", "0: other"))
    assert open_dataset("yolo:.", tmp_path).categories[0] == Category(1, "other")


# --- where images and labels lie ---


def lay(home: Path, images: str, labels: str, stems: str = "ab", label: str = "{}.txt") -> None:
    """Images of 40 x 20 and a label file for each, a box of 20 x 10 in the middle."""
    (home / images).mkdir(parents=True, exist_ok=True)
    (home / labels).mkdir(parents=True, exist_ok=True)
    for stem in stems:
        Image.new("RGB", (40, 20)).save(home / images / f"{stem}.jpg")
        (home / labels / label.format(stem)).write_text("0 0.5 0.5 0.5 0.5\n")


def describe(home: Path, train: str, more: str = "") -> None:
    (home / "data.yaml").write_text(f"train: {train}\nnames: [cat, dog]\n{more}")


@pytest.mark.parametrize(
    ("images", "labels", "label"),
    [
        ("Images", "Labels", "{}.txt"),
        ("train/imgs", "train/labels", "{}.txt"),
        ("train", "train/label", "{}.txt"),
        ("images/train", "labels/val", "{}.txt"),
        ("images/train", "labels/train", "{}.jpg.txt"),
        ("images/train", "labels/train", "{}.TXT"),
    ],
)
def test_a_set_whose_labels_are_not_found_is_refused_and_told_where_they_are(
    tmp_path: Path, images: str, labels: str, label: str
) -> None:
    lay(tmp_path, images, labels, label=label)
    describe(tmp_path, images)
    with pytest.raises(DatasetError) as caught:
        open_dataset("yolo:.", tmp_path)
    assert "not one of 2 images has a label file" in str(caught.value)
    assert f"there is {tmp_path / labels / label.format('a')}" in str(caught.value)
    table = open_dataset("yolo:.?annotations=optional", tmp_path)
    assert (len(table), table.has_labels) == (2, False)


def test_labels_are_looked_for_inside_the_set_wherever_it_lies(tmp_path: Path) -> None:
    """Beside the images here, though a folder above the set is called images."""
    home = tmp_path / "images" / "mine"
    lay(home, "photos", "photos")
    describe(home, "photos")
    stranger = tmp_path / "labels" / "mine" / "photos"
    stranger.mkdir(parents=True)
    (stranger / "a.txt").write_text("1 0.5 0.5 1 1\n")
    table = open_dataset(f"yolo:{home}", tmp_path)
    assert [scene.objects.category.tolist() for scene in table] == [[0], [0]]
    assert table[0].objects.boxes.tolist() == [[10, 5, 30, 15]]


def test_images_without_labels_and_labels_without_images_are_named(folder: Path) -> None:
    (folder / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    table = open_dataset("yolo:.", folder)
    assert table.skipped == {
        "image without a label file, taken as one without objects": 1,
        "label file without an image": 1,
    }
    assert [names[0].rsplit("/", 1)[1] for names in table.skipped.names.values()] == [
        "b.jpg",
        "gone.txt",
    ]


def test_frames_of_several_cameras_keep_their_own_labels(tmp_path: Path) -> None:
    lay(tmp_path, "cam1/images", "cam1/labels")
    lay(tmp_path, "cam2/images", "cam2/labels")
    (tmp_path / "cam2" / "labels" / "a.txt").write_text("1 0.25 0.25 0.5 0.5\n")
    describe(tmp_path, "[cam1/images, cam2/images]")
    table = open_dataset("yolo:.", tmp_path)
    assert [scene.image_id for scene in table] == [
        "cam1/images/a",
        "cam1/images/b",
        "cam2/images/a",
        "cam2/images/b",
    ]
    assert [scene.objects.category.tolist() for scene in table] == [[0], [0], [1], [0]]
    assert table[2].objects.boxes.tolist() == [[0, 0, 20, 10]]


def test_a_linked_folder_inside_the_set_is_read_one_outside_is_told(tmp_path: Path) -> None:
    home = tmp_path / "set"
    lay(home, "images", "labels")
    lay(home, "inner", "labels/more", "c")
    lay(tmp_path, "elsewhere", "set/labels/far", "d")
    (home / "images" / "more").symlink_to(home / "inner")
    (home / "images" / "far").symlink_to(tmp_path / "elsewhere")
    describe(home, "images")
    table = open_dataset("yolo:set", tmp_path)
    assert [scene.image_id for scene in table] == ["a", "b", "more/c"]
    assert [len(scene.objects) for scene in table] == [1, 1, 1]
    assert "linked folder that leaves the set" in next(iter(table.skipped))
    followed = open_dataset("yolo:set?links=follow", tmp_path)
    assert [scene.image_id for scene in followed] == ["a", "b", "far/d", "more/c"]
    assert len(followed[2].objects) == 1


def test_a_split_that_is_a_link_is_told_and_can_be_followed(tmp_path: Path) -> None:
    home = tmp_path / "set"
    lay(tmp_path, "pool", "set/labels/train")
    (home / "images").mkdir()
    (home / "images" / "train").symlink_to(tmp_path / "pool")
    describe(home, "images/train")
    with pytest.raises(DatasetError, match=r"'images/train' is a link to .*pool.*links=follow"):
        open_dataset("yolo:set", tmp_path)
    table = open_dataset("yolo:set?links=follow", tmp_path)
    assert [len(scene.objects) for scene in table] == [1, 1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "MPO", "TIFF"])
def test_a_turned_image_of_any_format_needs_a_word(tmp_path: Path, kind: str) -> None:
    lay(tmp_path, "images", "labels")
    tags = Image.Exif()
    tags[0x0112] = 6
    extra = {"save_all": True, "append_images": []} if kind == "MPO" else {}
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.jpg", kind, exif=tags, **extra)
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.25 1 0.5\n")
    describe(tmp_path, "images")
    with pytest.raises(DatasetError, match=r"say turned=as_shown .* or turned=as_stored"):
        open_dataset("yolo:.", tmp_path)
    shown = open_dataset("yolo:.?turned=as_shown", tmp_path)[0]
    assert (shown.size, shown.objects.boxes.tolist()) == ((40, 20), [[0, 0, 20, 20]])
    stored = open_dataset("yolo:.?turned=as_stored", tmp_path)[0]
    assert (stored.size, stored.objects.boxes.tolist()) == ((20, 40), [[0, 0, 40, 10]])


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfimages/a.jpg\r\nimages/b.jpg\r\n",
        b"images\\a.jpg\r\nimages\\b.jpg\r\n",
        b"data/images/a.jpg\ndata/images/b.jpg\n",
        "images/a.jpg\nimages/b.jpg".encode("utf-16"),
    ],
)
def test_lists_of_other_tools_are_read(tmp_path: Path, text: bytes) -> None:
    lay(tmp_path, "images", "labels")
    (tmp_path / "train.txt").write_bytes(text)
    describe(tmp_path, "train.txt")
    assert [len(scene.objects) for scene in open_dataset("yolo:.", tmp_path)] == [1, 1]


@pytest.mark.parametrize(("file", "text"), [("classes.txt", "cat\ndog\n"), ("obj.names", "cat\n")])
def test_exports_without_a_yaml_are_read(tmp_path: Path, file: str, text: str) -> None:
    """Label Studio's has classes.txt.

    CVAT's of Darknet's layout a list, images and labels together.
    """
    (tmp_path / file).write_text(text)
    if file == "classes.txt":
        lay(tmp_path, "images", "labels")
    else:
        lay(tmp_path, "obj_train_data", "obj_train_data")
        names = "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n"
        (tmp_path / "train.txt").write_text(names)
    table = open_dataset("yolo:.", tmp_path)
    assert [scene.objects.boxes.tolist() for scene in table] == [[[10, 5, 30, 15]]] * 2


# --- what the columns are ---

BOX = "0 0.45 0.5 0.4 0.4"  # of an image of 40 x 20: 10 6 26 14


@pytest.mark.parametrize(
    ("points", "shape"),
    [
        (" 0.26 0.32 0.64 0.32 0.64 0.68 0.26 0.68", "[4, 2]"),
        (" 0.26 0.32 1 0.64 0.32 1 0.64 0.68 1 0.26 0.68 0", "[4, 3]"),
        (" 0.26 0.32 2 0.64 0.32 2 0.64 0.68 2", "[3, 3]"),
    ],
)
def test_key_points_are_no_outline(folder: Path, points: str, shape: str) -> None:
    for name in "ab":
        (folder / "labels" / "train" / f"{name}.txt").write_text(f"{BOX}{points}\n{BOX}\n")
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(f"{text}kpt_shape: {shape}\n")
    table = open_dataset("yolo:.", folder)
    for scene in table:
        assert scene.objects.boxes.round(4).tolist() == [[10, 6, 26, 14]] * 2
        assert scene.objects.rle == (None, None)
    assert table.skipped.unread == {"key points of objects": 2}
    (folder / "data.yaml").write_text(text)  # nobody says so: then the lines are not believed
    with pytest.raises(DatasetError, match=r"kpt_shape in data\.yaml"):
        open_dataset("yolo:.", folder)


def test_confidences_and_tracks_are_no_corner(folder: Path) -> None:
    for name, track in (("a", 1), ("b", 0)):
        (folder / "labels" / "train" / f"{name}.txt").write_text(f"{BOX} 0.87 {track}\n")
    with pytest.raises(DatasetError, match="class cx cy w h confidence track"):
        open_dataset("yolo:.", folder)


def test_turned_boxes_and_polygons_are_still_read(folder: Path) -> None:
    corners = "0 0.25 0.3 0.65 0.3 0.65 0.7 0.25 0.7\n"
    for name in "ab":
        (folder / "labels" / "train" / f"{name}.txt").write_text(corners)
    for option in ("", "?task=obb", "?task=segment"):
        scene = open_dataset(f"yolo:.{option}", folder)[0]
        assert scene.objects.boxes.round(4).tolist() == [[10, 6, 26, 14]]
        assert scene.objects.area.tolist() == [128]
    with pytest.raises(DatasetError, match="9 numbers; a box has 5"):
        open_dataset("yolo:.?task=detect", folder)
    ring = "1 0.5 0.1 0.9 0.3 0.9 0.7 0.5 0.9 0.1 0.7\n"  # a polygon of five points in each image
    for name in "ab":
        (folder / "labels" / "train" / f"{name}.txt").write_text(ring)
    assert open_dataset("yolo:.", folder)[0].objects.rle[0] is not None


def test_labels_of_another_encoding_are_named(folder: Path) -> None:
    (folder / "labels" / "train" / "a.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.5 0.5\r\n")
    assert len(open_dataset("yolo:.", folder)[0].objects) == 1
    (folder / "labels" / "train" / "a.txt").write_bytes(b"0 0.5 0.5 0.5 0.5 # gr\xf6\xdfe")
    with pytest.raises(DatasetError, match=r"image 'a\.jpg': a\.txt is no UTF-8 text"):
        open_dataset("yolo:.", folder)


@pytest.mark.parametrize("line", ["0 0.1 0.1 0.5 0.1 0.9 0.1001", "0 0.1 0.1 0.1001 0.5 0.1 0.9"])
def test_a_polygon_without_a_pixel_is_a_box(folder: Path, line: str) -> None:
    (folder / "labels/train/a.txt").write_text(line)
    table = open_dataset("yolo:.", folder)
    assert isinstance(table.skipped, Skipped)
    assert 1 == table.skipped["empty mask, the object keeps its box"]
    objects = table[0].objects
    assert (None,) == objects.rle
    assert (objects.boxes[0, 2:] > objects.boxes[0, :2]).all()


def test_a_box_that_reaches_out_is_cut_where_that_is_asked_for(folder: Path) -> None:
    (folder / "labels/train/a.txt").write_text("0 0.9 0.5 0.4 0.2")
    with pytest.raises(DatasetError, match="pixels outside the image"):
        open_dataset("yolo:.", folder)
    table = open_dataset("yolo:.?outside=clip", folder)
    width = table[0].width
    assert width == table[0].objects.boxes[0, 2]
    assert 1 == table.skipped["box reaching out of its image, cut"]


def test_a_label_file_spelt_in_another_way_is_that_of_its_image(folder: Path) -> None:
    name = "größe"
    image, label = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    Image.new("RGB", (40, 20)).save(folder / "images" / "train" / f"{image}.png")
    (folder / "labels" / "train" / f"{label}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    table = open_dataset("yolo:.", folder)
    found = {scene.image_id: len(scene.objects) for scene in table}
    assert found[image] == 1
    assert "label file without an image" not in table.skipped


def test_commas_between_columns_are_hinted_at(folder: Path) -> None:
    (folder / "labels" / "train" / "a.txt").write_text("0,0.5,0.5,0.5,0.5\n")
    with pytest.raises(DatasetError, match="spaces separate the columns"):
        open_dataset("yolo:.", folder)

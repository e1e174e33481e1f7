"""YOLO folders: what Ultralytics reads into them, and every mistake named or counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Category
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
    "0 0.5 nan 0.1 0.1": "not between 0 and 1",
    "0 20 10 5 5": "not between 0 and 1",
    "0 0.9 0.5 0.9 0.1": "outside the image",
    "cat 0.5 0.5 0.1 0.1": "could not convert",
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

"""Where the parts of a YOLO folder are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.yolo.layout import (
    Described,
    Listed,
    categories_of,
    columns_of,
    describe,
    label_file,
    listed_images,
)
from synthaug.pipeline.formats.yolo.write import EXTRA

FILE = Path("/x/data.yaml")


def told(folder: Path, text: str) -> Described:
    (folder / "data.yaml").write_text(text)
    return describe(folder)


def listed(described: Described, split: str = "train", images: Path | None = None) -> list[Listed]:
    return list(listed_images(described, split, images, False, Skipped()))


def lay(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


# --- data.yaml ---


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("names: [a]")
    described = describe(tmp_path / "train.yaml")
    assert {"names": ["a"]} == described.document
    assert tmp_path == described.home
    with pytest.raises(DatasetError, match=r"there is train\.yaml: name the file itself"):
        describe(tmp_path)


def test_the_digest_is_that_of_the_text(tmp_path: Path) -> None:
    first = told(tmp_path, "names: [a]").digest
    assert first == told(tmp_path, "names: [a]").digest
    assert first != told(tmp_path, "names:  [a]").digest


def test_a_list_of_names_stands_for_a_yaml(tmp_path: Path) -> None:
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    described = describe(tmp_path)
    assert ["cat", "dog"] == described.document["names"]
    assert "valid.txt" == described.document["val"]
    (tmp_path / "classes.txt").write_text("cow\n")
    assert ["cow"] == describe(tmp_path).document["names"], "Label Studio's comes first"
    assert not describe(tmp_path).is_ours


# --- columns ---


@pytest.mark.parametrize(
    ("document", "option", "expected"),
    [
        ({}, "", ("", 0)),
        ({}, "segment", ("segment", 0)),
        ({"task": "obb"}, "", ("obb", 0)),
        ({"task": "obb"}, "detect", ("detect", 0)),
        ({"task": "classify"}, "", ("", 0)),
        ({"kpt_shape": [17, 3]}, "", ("pose", 51)),
        ({"kpt_shape": [4, 2], "task": "pose"}, "", ("pose", 8)),
        ({"kpt_shape": [17, 3]}, "segment", ("segment", 0)),
    ],
)
def test_what_the_columns_are_is_told_by_the_option_or_the_file(
    document: dict[str, Any], option: str, expected: tuple[str, int]
) -> None:
    columns = columns_of(Described(FILE, document, ""), option)
    assert expected == (columns.task, columns.keypoints)


@pytest.mark.parametrize("shape", [17, [17], [17, 4], [0, 2], [True, 2], "17 3", None])
def test_key_points_without_a_shape_are_refused(shape: Any) -> None:
    with pytest.raises(DatasetError, match=r"data\.yaml: kpt_shape must be \[number"):
        columns_of(Described(FILE, {"kpt_shape": shape}, ""), "pose")


# --- classes ---


def test_numbered_names_come_in_the_order_of_their_numbers() -> None:
    document = {"names": {"10": "k", **{k: chr(97 + k) for k in range(10)}}}
    names = [category.name for category in categories_of(document, FILE)]
    assert list("abcdefghijk") == names


def test_classes_of_our_own_export_get_their_ids_back() -> None:
    cat = {"id": 17, "name": "cat", "supercategory": "animal"}
    dog = {"id": 18, "name": "dog", "isthing": False}
    document = {"names": ["cat", "dog"], EXTRA: [cat, dog]}
    first, second = categories_of(document, FILE)
    assert (17, "animal", True) == (first.id, first.supercategory, first.isthing)
    assert (18, "", False) == (second.id, second.supercategory, second.isthing)
    for wrong in (
        [cat],
        [dog, cat],
        [cat, {**dog, "id": 17}],
        [cat, {**dog, "id": "18"}],
        [cat, "dog"],
        "both",
    ):
        again = categories_of({**document, EXTRA: wrong}, FILE)
        assert [1, 2] == [category.id for category in again], "somebody has edited the file"


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(DatasetError, match="two classes are called 'cat'; rename one"):
        categories_of({"names": ["cat", "dog", "cat"]}, FILE)


# --- images ---


def test_a_split_of_several_folders_keeps_the_names_of_its_folders(tmp_path: Path) -> None:
    lay(tmp_path, "a/images/1.jpg", "b/images/1.jpg")
    described = told(tmp_path, "names: [x]\ntrain: [a/images, b/images]")
    first, second = listed(described)
    assert (["a/images/1.jpg"], ["b/images/1.jpg"]) == (first.names, second.names)
    assert ("", "") == (first.strip, second.strip), "both have a 1.jpg"
    (alone,) = listed(told(tmp_path, "names: [x]\ntrain: a/images"))
    assert "a/images/" == alone.strip
    assert alone.is_whole


@pytest.mark.parametrize(
    ("path", "train"),
    [
        ("", "../train/images"),
        ("/home/somebody/set", "train/images"),
        ("", "train\\images"),
        (".", "train/images"),
        ("train", "images"),
    ],
)
def test_folders_are_found_as_tools_write_them(tmp_path: Path, path: str, train: str) -> None:
    lay(tmp_path, "train/images/1.jpg")
    (one,) = listed(told(tmp_path, f"names: [x]\npath: '{path}'\ntrain: '{train}'"))
    assert ["train/images/1.jpg"] == one.names


@pytest.mark.parametrize("entry", ["[[a]]", "[3]", '"a\\0b"'])
def test_a_split_that_is_no_name_is_refused(tmp_path: Path, entry: str) -> None:
    described = told(tmp_path, f"names: [x]\ntrain: {entry}")
    with pytest.raises(DatasetError, match="must be names of folders, not"):
        listed(described)


def test_an_unknown_split_suggests_one_that_is_there(tmp_path: Path) -> None:
    described = told(tmp_path, "names: [x]\ntrain: a\ntest: b")
    with pytest.raises(DatasetError, match=r"split 'tset'.*test"):
        listed(described, "tset")


def test_names_of_a_list_are_taken_as_they_are_written(tmp_path: Path) -> None:
    lay(tmp_path, "images/1.jpg", "images/2.jpg", "obj/3.jpg")
    lines = ["./images/1.jpg", f"{tmp_path}/images/2.jpg", "data/obj/3.jpg", "images\\1.jpg"]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (one,) = listed(told(tmp_path, "names: [x]\ntrain: train.txt"))
    assert ["images/1.jpg", "images/2.jpg", "obj/3.jpg", "images/1.jpg"] == one.names
    assert not one.is_whole


# --- labels ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("images/train/1.jpg", "labels/train/1.txt"),
        ("train/images/1.v2.jpg", "train/labels/1.v2.txt"),
        ("images/images/1.jpg", "images/labels/1.txt"),
        ("photos/1.jpg", "photos/1.txt"),
        ("images.jpg", "images.txt"),
    ],
)
def test_labels_lie_where_the_last_folder_images_is_called_labels(name: str, expected: str) -> None:
    home = Path("/data/images/set")
    assert home / expected == label_file(home, name, home)


def test_a_folder_of_an_option_may_itself_be_the_one_called_images(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    described = told(tmp_path / "set", "names: [x]")
    for inner in ("images", "images/train"):
        lay(tmp_path, f"else/{inner}/1.jpg")
        (one,) = listed(described, images=tmp_path / "else" / inner)
        assert tmp_path / "else" == one.label_root
        label = label_file(one.root, one.names[0], one.label_root)
        assert (
            inner.replace("images", "labels")
            == label.parent.relative_to(tmp_path / "else").as_posix()
        )
    with pytest.raises(DatasetError, match="no such folder; correct the option images="):
        listed(described, images=tmp_path / "none")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the key 'names' is there twice; keep one"):
        told(tmp_path, "train: a\nnames: [cat, dog]\nnames: [dog, cat]\n")


def test_a_class_without_a_name_is_refused() -> None:
    for name in ("", " "):
        with pytest.raises(DatasetError, match="'names' must list the classes as texts"):
            categories_of({"names": [name, "dog"]}, FILE)


def test_a_count_of_classes_that_is_not_that_of_the_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nc is 3 and 'names' lists 2 classes; correct one"):
        categories_of({"names": ["cow", "dog"], "nc": 3}, tmp_path / "data.yaml")
    assert 2 == len(categories_of({"names": ["cow", "dog"], "nc": 2}, tmp_path / "data.yaml"))

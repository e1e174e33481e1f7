"""LVIS files: what the official form says and ours adds, both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.lvis import read as lvis
from synthaug.pipeline.formats.reference import open_dataset
from tests.hard_scenes import CATEGORIES, SIZE, boxed, masked, png


def repeated(count: int, category: int, made: bool = False, source: str = "human") -> list[Scene]:
    """Images that show one object each."""
    ref = replace(boxed()[0].image, data=png(SIZE))
    origin = Provenance(1, "g", "", "", "") if made else None
    found = Objects.build([category], np.array([[1, 1, 9, 9]]), source=[source])
    name = f"{category}{source}"
    return [
        Scene(
            f"{name}{i}",
            *SIZE,
            ref,
            replace(found, id=np.array([crc32(f"{name}{i}".encode()) + 1])),
            None,
            origin,
        )
        for i in range(count)
    ]


def classes(folder: Path, split: str = "train") -> dict[str, Any]:
    document = json.loads((folder / f"lvis_{split}.json").read_text())
    return {record["name"]: record for record in document["categories"]}


def test_rare_and_common_are_told_by_what_people_labelled_in_training(tmp_path: Path) -> None:
    people = [*repeated(10, 0), *repeated(11, 1), *repeated(101, 2)]
    train = SceneList(CATEGORIES, [*people, *repeated(200, 0, made=True, source="synthetic")])
    lvis.write_splits(
        {"train": train, "val": SceneList(CATEGORIES, repeated(2, 2))}, Folder.at(tmp_path)
    )
    for split in ("train", "val"):
        assert [c["frequency"] for c in classes(tmp_path, split).values()] == ["r", "c", "f", "r"]
    assert classes(tmp_path)["no"]["image_count"] == 210
    assert classes(tmp_path, "val")["no"]["image_count"] == 0


def test_synthetic_images_alone_are_counted_themselves(tmp_path: Path) -> None:
    lvis.write(
        SceneList(CATEGORIES, repeated(11, 0, made=True, source="synthetic")), Folder.at(tmp_path)
    )
    assert classes(tmp_path)["no"]["frequency"] == "c"


def test_a_detectors_labels_say_nothing_of_what_is_absent(tmp_path: Path) -> None:
    lvis.write(SceneList(CATEGORIES, repeated(1, 1, source="pseudo")), Folder.at(tmp_path))
    image = json.loads((tmp_path / "lvis_train.json").read_text())["images"][0]
    assert (image["neg_category_ids"], image["not_exhaustive_category_ids"]) == ([], [2])


def test_ids_that_run_from_one_stay(tmp_path: Path) -> None:
    table = SceneList((Category(1, "a"), Category(2, "b")), [])
    lvis.write(table, Folder.at(tmp_path))
    assert [c["id"] for c in classes(tmp_path).values()] == [1, 2]
    assert open_dataset("lvis:lvis_train.json", tmp_path).categories == table.categories


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file as LVIS publishes it: no file_name, no iscrowd."""
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    (tmp_path / "coco" / "val2017" / "000000000139.png").write_bytes(png(SIZE))
    image = {
        "id": 139,
        "width": 40,
        "height": 24,
        "neg_category_ids": [2],
        "not_exhaustive_category_ids": [],
    }
    document = {
        "info": {},
        "licenses": [],
        "images": [image | {"coco_url": "http://images.cocodataset.org/val2017/000000000139.png"}],
        "annotations": [
            {"id": 1, "image_id": 139, "category_id": 1, "bbox": [2, 3, 10, 5], "area": 50.0,
             "segmentation": [[2, 3, 12, 3, 12, 8, 2, 8]]}
        ],
        "categories": [{"id": 1, "name": "aerosol_can", "frequency": "c", "synset": "x", "synonyms": ["a"], "def": ""},
                       {"id": 2, "name": "air", "frequency": "r"}],
    }  # fmt: skip
    (tmp_path / "lvis.json").write_text(json.dumps(document))
    return tmp_path


def test_an_official_file_is_read_by_its_urls(official: Path) -> None:
    table = open_dataset("lvis:lvis.json?images=coco", official)
    assert table[0].objects.boxes.tolist() == [[2, 3, 12, 8]]
    assert str(table[0].image.path).endswith("val2017/000000000139.png")
    assert [c.name for c in table.categories] == ["aerosol_can", "air"]


@pytest.mark.parametrize(
    ("url", "told"),
    [("http://x/../../etc/passwd", "is not in"), ("../..", "absolute or leaves"), (5, "file_name")],
)
def test_a_bad_url_is_one_line(official: Path, url: Any, told: str) -> None:
    document = json.loads((official / "lvis.json").read_text())
    document["images"][0]["coco_url"] = url
    (official / "lvis.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=told) as caught:
        open_dataset("lvis:lvis.json?images=coco", official)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, 3, [3], [{}], "x"])
def test_what_is_no_lvis_file_is_one_line(official: Path, key: str, value: Any) -> None:
    document = json.loads((official / "lvis.json").read_text())
    document[key] = value
    (official / "lvis.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError) as caught:
        open_dataset("lvis:lvis.json?images=coco", official)
    assert "lvis.json" in str(caught.value)


def test_what_lvis_has_another_form_for_is_counted(tmp_path: Path) -> None:
    mixed = SceneList(CATEGORIES, [*masked().scenes, *boxed().scenes])
    lost = lvis.write_splits({"train": mixed}, Folder.at(tmp_path))
    assert sorted(lost.values()) == [2, 4]

"""LVIS files, written.

Ids from 1, polygons, frequencies, and which classes are known to be absent.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.lvis import write as lvis
from synthaug.pipeline.formats.lvis.write import frequency
from synthaug.pipeline.formats.reference import open_dataset
from tests.hard_scenes import CATEGORIES, SIZE, boxed, content, masked, png


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


def test_what_lvis_has_another_form_for_is_counted(tmp_path: Path) -> None:
    mixed = SceneList(CATEGORIES, [*masked().scenes, *boxed().scenes])
    lost = lvis.write_splits({"train": mixed}, Folder.at(tmp_path))
    assert sorted(lost.values()) == [2, 4]


def test_ids_of_lvis_run_from_one_and_nothing_has_a_crowd_flag(tmp_path: Path) -> None:
    lvis.write(masked(), Folder.at(tmp_path))
    document = json.loads((tmp_path / "lvis_train.json").read_text())
    assert [a["id"] for a in document["annotations"]] == list(
        range(1, len(document["annotations"]) + 1)
    )
    assert not any("iscrowd" in a for a in document["annotations"])
    assert all(
        isinstance(a["segmentation"], list) and a["segmentation"] for a in document["annotations"]
    )
    crowd = document["images"][4]
    assert (crowd["not_exhaustive_category_ids"], crowd["neg_category_ids"]) == ([1], [2, 3, 4])
    assert crowd["coco_url"].split("/")[-2:] == ["train", "image-4.png"]
    for i, image in enumerate(document["images"]):
        assert content(masked()[i].image) == (tmp_path / "images" / image["file_name"]).read_bytes()


@pytest.mark.parametrize(
    ("num_images", "letter"), [(0, "r"), (10, "r"), (11, "c"), (100, "c"), (101, "f")]
)
def test_frequencies_are_those_of_the_paper(num_images: int, letter: str) -> None:
    assert frequency(num_images) == letter


def test_counts_are_of_images_and_of_instances(tmp_path: Path) -> None:
    lvis.write(masked(), Folder.at(tmp_path))
    counts = {}
    for name, record in classes(tmp_path).items():
        counts[name] = (record["image_count"], record["instance_count"])
    names = [category.name for category in CATEGORIES]
    assert counts == {names[0]: (2, 2), names[1]: (3, 3), names[2]: (2, 3), names[3]: (0, 0)}


def test_a_polygon_covers_the_pixels_of_a_solid_mask(tmp_path: Path) -> None:
    lvis.write(masked(), Folder.at(tmp_path))
    records = json.loads((tmp_path / "lvis_train.json").read_text())["annotations"]
    scene = masked()[1]
    outlines = [record["segmentation"] for record in records if record["image_id"] == 2]
    for outline, rle in zip(outlines, scene.objects.rle, strict=True):
        assert masks.from_polygons([np.array(ring) for ring in outline], SIZE) == rle


def test_an_object_without_a_mask_has_its_box_as_polygon(tmp_path: Path) -> None:
    lvis.write(boxed(), Folder.at(tmp_path))
    record = json.loads((tmp_path / "lvis_train.json").read_text())["annotations"][0]
    assert record["segmentation"] == [[0.0, 0.0, 3.25, 0.0, 3.25, 2.5, 0.0, 2.5]]
    assert record["box_only"] == 1

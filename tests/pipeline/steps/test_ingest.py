"""Ingest.

Every readable image once, labels of unlabelled images put aside, and whatever is lost is counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps import ingest
from tests.paths import JOBS

CLASSES = (Category(3, "kite"), Category(7, "house"), Category(8, "sky", isthing=False))
HEIGHT, WIDTH = 6, 10


@cache
def smoke_job() -> Job:
    return load_job(JOBS / "smoke.yaml", ["cluster.executor=serial"])


def scene_of(name: str, labels: list[int]) -> Scene:
    """An image of a shade of its own; object k lies in columns k to k + 2."""
    shade = sum(name.encode()) % 250
    pixels = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
    boxes = [[left, 1, left + 2, 5] for left in range(len(labels))]
    objects = Objects.build(labels, boxes)
    return Scene(name, HEIGHT, WIDTH, ImageRef(encode(pixels, "png"), f"{name}.png"), objects)


def broken(name: str) -> Scene:
    return replace(scene_of(name, [1]), image=ImageRef(b"no image", f"{name}.png"))


LABELLED = [scene_of("a0", [0, 1]), scene_of("a1", []), scene_of("a2", [1, 1, 2])]
VALIDATION = [scene_of("v0", [2]), scene_of("v1", [0])]
UNLABELLED = [scene_of("u0", [0, 0]), scene_of("u1", [1])]
SETS = {"labelled": LABELLED, "validation": VALIDATION, "unlabelled": UNLABELLED}


class House:
    """A folder of data sets, the job that names them, and the step's own folder."""

    def __init__(self, root: Path, on_bad: str = "stop", **sets: list[Scene]) -> None:
        self.root = root
        references = {}
        for split, scenes in {**SETS, **sets}.items():
            parquet.write(SceneList(CLASSES, scenes), Folder.at(root / "data" / split))
            references[split] = f"parquet:{root}/data/{split}"
        job = smoke_job()
        self.job = replace(job, data=replace(job.data, on_bad=on_bad, **references))
        self.folder = Folder.at(root / "ingest")
        self.lines: list[str] = []

    def run(self) -> dict[str, Any]:
        executor = SerialExecutor()
        context = Context(self.job, self.folder, {}, executor, self.lines.append, lambda *_: None)
        return ingest.run(context)

    def scenes(self, split: str) -> list[Scene]:
        return list(parquet.open_table(self.folder.sub(split)))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def same_labels(expected: Objects, found: Objects) -> None:
    np.testing.assert_array_equal(expected.category, found.category)
    np.testing.assert_array_equal(expected.boxes, found.boxes)


@pytest.mark.parametrize("split", ["labelled", "validation"])
def test_images_and_labels_arrive_as_they_are_in_their_order(house: House, split: str) -> None:
    house.run()
    for expected, found in zip(SETS[split], house.scenes(split), strict=True):
        assert expected.image_id == found.image_id
        assert (HEIGHT, WIDTH) == found.size
        np.testing.assert_array_equal(decode(expected), decode(found))
        same_labels(expected.objects, found.objects)


def test_unlabelled_images_lose_their_labels_and_nothing_else(house: House) -> None:
    house.run()
    for expected, found in zip(UNLABELLED, house.scenes("unlabelled"), strict=True):
        assert expected.image_id == found.image_id
        np.testing.assert_array_equal(decode(expected), decode(found))
        assert 0 == len(found.objects)
        assert found.panoptic is None


def test_labels_that_were_put_aside_are_whole_and_carry_no_pixels(house: House) -> None:
    house.run()
    for expected, found in zip(UNLABELLED, house.scenes("unlabelled/truth"), strict=True):
        assert expected.image_id == found.image_id
        assert not found.image.data
        same_labels(expected.objects, found.objects)


def test_the_manifest_counts_labels_by_class_and_keeps_hidden_ones_apart(house: House) -> None:
    splits = house.run()["splits"]
    assert {"kite": 1, "house": 3, "sky": 1} == splits["labelled"]["objects"]
    assert {"kite": 1, "sky": 1} == splits["validation"]["objects"]
    assert {} == splits["unlabelled"]["objects"]
    assert {"kite": 2, "house": 1} == splits["unlabelled"]["truth"]
    assert {} == splits["labelled"]["truth"]
    assert [3, 2, 2] == [splits[split]["images"] for split in SETS]


def test_the_labelled_images_are_measured_without_their_crowds(tmp_path: Path) -> None:
    crowd = scene_of("crowd", [1])
    whole = np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    objects = replace(crowd.objects, boxes=whole, layout_boxes=whole, iscrowd=np.array([True]))
    house = House(tmp_path, labelled=[*LABELLED, crowd.with_objects(objects)])
    measured = house.run()["measured"]
    side = 8**0.5 / HEIGHT  # each object is 2 by 4 pixels
    assert measured.pop("objects") == pytest.approx((side, side, side), abs=1e-5)
    assert measured == {"images": 4, "shorter": HEIGHT, "longer": WIDTH}


def test_classes_keep_the_users_ids_and_say_which_are_stuff(house: House) -> None:
    expected = [
        {"id": 3, "name": "kite", "isthing": True},
        {"id": 7, "name": "house", "isthing": True},
        {"id": 8, "name": "sky", "isthing": False},
    ]
    assert expected == house.run()["classes"]


def test_the_user_sees_images_and_objects_of_each_split(house: House) -> None:
    house.run()
    expected = [
        "  labelled: 3 images, 5 objects",
        "  validation: 2 images, 2 objects",
        "  unlabelled: 2 images, 0 objects",
    ]
    assert expected == house.lines


# ---- Bad images ----


def test_a_broken_image_stops_the_run_by_its_name(tmp_path: Path) -> None:
    house = House(tmp_path, labelled=[*LABELLED, broken("bad")])
    with pytest.raises(DatasetError, match="the image cannot be decoded"):
        house.run()


def test_a_broken_image_that_may_be_skipped_is_counted_and_the_others_stay(
    tmp_path: Path,
) -> None:
    scenes = [LABELLED[0], broken("bad"), LABELLED[2]]
    house = House(tmp_path, "skip", labelled=scenes)
    report = house.run()["splits"]["labelled"]
    assert ["a0", "a2"] == [scene.image_id for scene in house.scenes("labelled")]
    assert 2 == report["images"]
    assert {"kite": 1, "house": 3, "sky": 1} == report["objects"]
    assert 1 == report["skipped"]["unreadable image or map"]
    assert "  labelled: 2 images, 5 objects" == house.lines[0]
    assert house.lines[1].endswith("1  object of an unreadable image")
    assert house.lines[2].endswith("1  unreadable image or map")
    assert "- bad.png: the image cannot be decoded" in house.lines[3]
    listed = house.folder.read_bytes("skipped.txt").decode()
    assert listed.startswith(
        "labelled: unreadable image or map: bad.png: the image cannot be decoded"
    )


def test_a_broken_unlabelled_image_has_no_labels_put_aside(tmp_path: Path) -> None:
    house = House(tmp_path, "skip", unlabelled=[broken("bad"), *UNLABELLED])
    report = house.run()["splits"]["unlabelled"]
    ids = [scene.image_id for scene in house.scenes("unlabelled")]
    hidden = [scene.image_id for scene in house.scenes("unlabelled/truth")]
    assert ["u0", "u1"] == ids == hidden
    assert {"kite": 2, "house": 1} == report["truth"]


def test_without_a_readable_validation_image_nothing_can_be_measured(tmp_path: Path) -> None:
    house = House(tmp_path, "skip", validation=[broken("bad")])
    with pytest.raises(DatasetError) as caught:
        house.run()
    message = "data.validation: not one image is in the data set; name one that has images"
    assert message == str(caught.value)


# ---- Shards and keys ----


def test_shards_cut_the_set_and_lose_no_image(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "SHARD", 2)
    report = house.run()["splits"]["labelled"]
    names = [name for name in house.folder.sub("labelled").names() if name.endswith(".parquet")]
    assert ["part-00000.parquet", "part-00001.parquet"] == names
    assert ["a0", "a1", "a2"] == [scene.image_id for scene in house.scenes("labelled")]
    assert {"kite": 1, "house": 3, "sky": 1} == report["objects"]
    hidden = Counter(scene.image_id for scene in house.scenes("unlabelled/truth"))
    assert Counter(["u0", "u1"]) == hidden


def test_a_second_run_reads_no_image_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first = house.run()

    def refuse(*_: Any) -> None:
        raise AssertionError("an image was read again")

    monkeypatch.setattr(ingest, "read_scene", refuse)
    assert first == house.run()


def test_settings_change_with_the_content_of_every_set(tmp_path: Path) -> None:
    usual = ingest.settings(House(tmp_path / "usual").job)["fingerprints"]
    for split in SETS:
        changed = {split: [*SETS[split], scene_of("new", [0])]}
        other = ingest.settings(House(tmp_path / split, **changed).job)["fingerprints"]
        differing = [name for name in SETS if usual[name] != other[name]]
        assert [split] == differing


def test_the_seed_is_in_the_settings_only_where_images_are_held_out(house: House) -> None:
    named = ingest.settings(replace(house.job, seed=4))
    assert ingest.settings(replace(house.job, seed=5)) == named
    data = replace(house.job.data, validation="")
    first = ingest.settings(replace(house.job, seed=4, data=data))
    second = ingest.settings(replace(house.job, seed=5, data=data))
    assert (4, 5) == (first["seed"], second["seed"])

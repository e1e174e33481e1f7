"""What every format that is read promises, over the dict of formats.

A new one is tested without a line here.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core import images
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Dataset, Objects, Scene, SceneList
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats import FORMATS, load_format
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.validation import CUT
from tests.hard_scenes import differences
from tests.pipeline.formats.samples import (
    CAR,
    HEIGHT,
    WIDTH,
    Thing,
    advice,
    holds_of,
    sample_table,
    write_sample,
)

BARE = ("images",)  # there are no labels; tests/pipeline/formats/test_images.py
NAMES = [name for name in sorted(FORMATS) if name not in BARE]
DRAWN = ("toy",)  # there are no files
READ = [name for name in NAMES if name not in DRAWN]
OWN_TABLES = ("hf", "parquet")  # checked when they were written
IN_TABLES = ("hub",)  # images are no files; tests/pipeline/formats/hub/test_read.py
CHECKED = [name for name in READ if name not in (*OWN_TABLES, *IN_TABLES)]

ONE = [Thing((3, 4, 13, 24))]
CORNERS = [Thing((0, 0, 5, 4)), Thing((WIDTH - 6, HEIGHT - 3, WIDTH, HEIGHT), CAR)]
WHOLE = [Thing((0, 0, WIDTH, HEIGHT), CAR)]
CROWD = [Thing((2, 2, 8, 9)), Thing((10, 3, 38, 20), iscrowd=True)]


def opened(name: str, folder: Path, *pictures: Sequence[Thing], option: str = "") -> Dataset:
    """Write images with these objects and open them under one more option."""
    return open_dataset(
        with_option(write_sample(name, sample_table(*pictures), folder), option), folder
    )


def with_option(reference: str, option: str) -> str:
    if not option:
        return reference
    return f"{reference}{'&' if '?' in reference else '?'}{option}"


def content(dataset: Dataset, scene: Scene) -> list[tuple[str, list[float], bool]]:
    """The class, box and crowd flag of every object, in an order that no format decides."""
    objects = scene.objects
    rows = []
    for category, box, crowd in zip(objects.category, objects.boxes, objects.iscrowd, strict=True):
        rows.append((dataset.categories[category].name, box.tolist(), bool(crowd)))
    return sorted(rows)


def expected(name: str, things: Sequence[Thing]) -> list[tuple[str, list[float], bool]]:
    rows = []
    for thing in things:
        if thing.iscrowd and holds_of(name).crowds == "no":
            continue
        class_name = "car" if thing.category == CAR else "person"
        rows.append((class_name, [float(v) for v in thing.box], thing.iscrowd))
    return sorted(rows)


@pytest.mark.parametrize("name", READ)
def test_a_set_without_images_is_empty(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path)
    assert len(dataset) == 0
    assert list(dataset) == []
    assert not dataset.skipped
    with pytest.raises(IndexError):
        dataset[0]


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(
    "things",
    [[], ONE, CORNERS, WHOLE, CROWD],
    ids=["no object", "one object", "at the border", "the whole image", "with a crowd"],
)
def test_objects_are_read_as_they_were_written(
    name: str, things: list[Thing], tmp_path: Path
) -> None:
    dataset = opened(name, tmp_path, ONE, things)
    assert [scene.image_id for scene in dataset] == ["1", "2"]
    assert content(dataset, dataset[0]) == expected(name, ONE)
    assert content(dataset, dataset[1]) == expected(name, things), advice(name)


@pytest.mark.parametrize("name", NAMES)
def test_scenes_keep_the_conventions_of_the_house(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path, ONE, [], CORNERS)
    ids: list[int] = []
    for scene in dataset:
        objects = scene.objects
        ids += objects.id.tolist()
        assert images.decode(scene).shape == (scene.height, scene.width, 3)
        assert objects.boxes.dtype == np.float32
        assert (objects.boxes[:, :2] >= 0).all()
        assert (objects.boxes[:, 2:] <= (scene.width, scene.height)).all()
        assert (objects.boxes[:, :2] < objects.boxes[:, 2:]).all()
        assert set(objects.category.tolist()) <= set(range(len(dataset.categories)))
    assert min(ids) >= 1
    assert len(set(ids)) == len(ids)
    assert len({scene.image_id for scene in dataset}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_iteration_is_indexing_and_reading_again_gives_the_same(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path, ONE, CROWD, CORNERS)
    scenes = list(dataset)
    assert len(scenes) == len(dataset) == 3
    for index in (2, 0, 1):
        assert not differences(scenes[index], dataset[index])


@pytest.mark.parametrize("name", NAMES)
def test_there_is_nothing_beyond_either_end(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path, ONE, CROWD, CORNERS)
    for index in (3, 4, -4, 10**9):
        with pytest.raises(IndexError):
            dataset[index]
    try:
        last = dataset[-1]
    except IndexError:
        return
    assert not differences(last, dataset[2])


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_can_be_sent_to_a_worker(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path, ONE, CROWD)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint() == dataset.fingerprint()
    assert not differences(copy[1], dataset[1])


@pytest.mark.parametrize("name", READ)
def test_categories_do_not_depend_on_what_the_images_show(name: str, tmp_path: Path) -> None:
    full = opened(name, tmp_path / "a", ONE, CORNERS)
    before = full.categories
    list(full)
    assert full.categories == before
    if holds_of(name).classes:
        assert opened(name, tmp_path / "b").categories == before, advice(name)
    assert len({category.id for category in before}) == len(before)
    assert {"person", "car"} <= {category.name for category in before}


@pytest.mark.parametrize("name", READ)
def test_the_fingerprint_is_of_the_content_alone(name: str, tmp_path: Path) -> None:
    first = opened(name, tmp_path / "a", ONE, CROWD)
    mark = first.fingerprint()
    list(first)
    assert first.fingerprint() == mark
    assert opened(name, tmp_path / "elsewhere", ONE, CROWD).fingerprint() == mark
    others = [[ONE, CROWD, []], [ONE], [ONE, CORNERS], [[], CROWD]]
    marks = {mark}
    for number, pictures in enumerate(others):
        marks.add(opened(name, tmp_path / str(number), *pictures).fingerprint())
    assert len(marks) == 5


@pytest.mark.parametrize("name", CHECKED)
def test_the_fingerprint_does_not_depend_on_how_it_is_read(name: str, tmp_path: Path) -> None:
    mark = opened(name, tmp_path / "a", ONE, CROWD).fingerprint()
    for option in ("on_bad=skip", "max_pixels=5000"):
        other = opened(name, tmp_path / option, ONE, CROWD, option=option)
        assert other.fingerprint() == mark


@pytest.mark.parametrize("name", READ)
def test_a_set_that_is_not_there_is_one_line(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    reference = write_sample(name, sample_table(ONE), folder)
    shutil.rmtree(folder)
    with pytest.raises(DatasetError) as caught:
        open_dataset(reference, folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


# --- broken records ---


@pytest.mark.parametrize("name", CHECKED)
def test_checked_formats_have_the_two_options(name: str) -> None:
    names = {field.name for field in fields(load_format(name).Config)}
    assert {"on_bad", "max_pixels"} <= names


def break_image(folder: Path, image_id: str) -> None:
    """Put a folder where each image file of an id is, which no reader can take for an image."""
    paths = [*folder.rglob(f"{image_id}[._]*png"), *folder.rglob(f"{image_id}[._]*jpg")]
    assert paths
    for path in paths:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("name", CHECKED)
def test_a_broken_record_stops_the_reading_and_is_named(name: str, tmp_path: Path) -> None:
    reference = write_sample(name, sample_table(ONE, CORNERS, ONE), tmp_path)
    break_image(tmp_path, "2")
    with pytest.raises(DatasetError) as caught:
        open_dataset(reference, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    file, _, rest = message.partition(": ")
    assert Path(file).exists()
    assert Path(file).is_relative_to(tmp_path)
    assert re.match(r"\w+ '?2\b", rest), message
    assert message.endswith("correct it, or leave such records out with on_bad=skip")


@pytest.mark.parametrize("name", CHECKED)
def test_a_broken_record_is_left_out_and_counted(name: str, tmp_path: Path) -> None:
    good = opened(name, tmp_path / "good", ONE, CORNERS, CROWD)
    folder = tmp_path / "bad"
    reference = write_sample(name, sample_table(ONE, CORNERS, CROWD), folder)
    break_image(folder, "2")
    dataset = open_dataset(with_option(reference, "on_bad=skip"), folder)
    assert [scene.image_id for scene in dataset] == ["1", "3"]
    assert (dataset.skipped - good.skipped).total() >= 1
    for mine, theirs in ((0, 0), (1, 2)):
        assert content(dataset, dataset[mine]) == content(good, good[theirs])


@pytest.mark.parametrize("name", CHECKED)
def test_an_image_over_max_pixels_is_a_broken_record(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"{WIDTH}x{HEIGHT}.* over max_pixels=1199"):
        opened(name, tmp_path / "a", ONE, option=f"max_pixels={WIDTH * HEIGHT - 1}")
    assert len(opened(name, tmp_path / "b", ONE, option=f"max_pixels={WIDTH * HEIGHT}")) == 1


# --- boxes that reach out of their image ---


# the writers of `voc` and `yolo` keep boxes inside: tests of their own have what lies outside
OF_BOXES = ("coco", "cvat", "hub", "label_studio", "labelme", "lvis")


def reaching_out(name: str, folder: Path) -> str:
    """Write a box that lies inside and one that sticks out to the left and below; no masks."""
    table = sample_table(ONE, ONE)
    boxes = [(-5, 9, 13, HEIGHT + 4), (20, 2, 30, 12)]
    objects = Objects.build([CAR, CAR], boxes, id=[7, 8])
    scenes = [table[0], table[1].with_objects(objects)]
    return write_sample(name, SceneList(table.categories, scenes), folder)


@pytest.mark.parametrize("name", OF_BOXES)
def test_a_box_that_reaches_out_is_refused_or_cut(name: str, tmp_path: Path) -> None:
    reference = reaching_out(name, tmp_path)
    with pytest.raises(DatasetError, match="pixels outside the image"):
        open_dataset(reference, tmp_path)
    skipped = open_dataset(with_option(reference, "on_bad=skip"), tmp_path)
    assert [("car", [20, 2, 30, 12], False)] == content(skipped, skipped[1])
    cut = open_dataset(with_option(reference, "outside=clip"), tmp_path)
    assert [("car", [0, 9, 13, HEIGHT], False), ("car", [20, 2, 30, 12], False)] == content(
        cut, cut[1]
    )
    assert 1 == cut.skipped[CUT]
    assert 0 == Skipped(cut.skipped).wrong[CUT]

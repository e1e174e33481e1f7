"""The data sets of a job.

Held-out images are nobody's training images, and classes agree in every split.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps import inputs
from synthaug.pipeline.steps.inputs import (
    check_file,
    check_sides,
    check_size,
    check_split,
    open_inputs,
)
from tests.paths import JOBS

CLASSES = (Category(3, "kite"), Category(7, "house"))


@cache
def smoke_job() -> Job:
    return load_job(JOBS / "smoke.yaml", ["cluster.executor=serial"])


def job_of(seed: int = 0, **data: object) -> Job:
    """A job of 20 toy images without further sets, unless `data` names some."""
    usual = {"labelled": "toy:train?count=20", "validation": "", "unlabelled": ""}
    job = smoke_job()
    return replace(job, seed=seed, data=replace(job.data, **{**usual, **data}))


def scene_of(name: str, height: int = 4, width: int = 6) -> Scene:
    pixels = np.zeros((height, width, 3), np.uint8)
    objects = Objects.build([0], [[0, 0, 2, 2]])
    return Scene(name, height, width, ImageRef(encode(pixels, "png")), objects)


def table_of(count: int, classes: tuple[Category, ...] = CLASSES) -> SceneList:
    return SceneList(classes, [scene_of(f"{number:02d}") for number in range(count)])


def names(table: object) -> list[str]:
    return [scene.image_id for scene in table]  # type: ignore[attr-defined]


def test_strips_that_shrink_to_nothing_are_refused() -> None:
    """At 128 pixels, 213 at most, 12 rows of 2000 columns become 1.3 of a pixel, 2 become 0.2."""
    config = smoke_job().detector.config
    config = replace(config, image_size=128, max_size=213)
    check_sides(scene_of("strip", 12, 2000), config)
    check_sides(scene_of("tall", 900, 6), config)
    for size in ((2, 2000), (2000, 2)):
        with pytest.raises(DatasetError, match=r"shrinks to less than a pixel at .*max_size=213"):
            check_sides(scene_of("strip", *size), config)


# ---- Held-out images ----


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 40), st.floats(0.01, 0.9), st.integers(0, 5))
def test_each_image_is_trained_on_or_held_out_and_never_both(
    count: int, fraction: float, seed: int
) -> None:
    table = table_of(count)
    expected = max(1, round(fraction * count))
    if expected >= count:
        with pytest.raises(JobError, match=r"^data\.validation_fraction: .* leaves no image"):
            inputs._hold_out(table, fraction, seed)
        return
    train, held_out = inputs._hold_out(table, fraction, seed)
    assert expected == len(held_out)
    assert not set(names(train)) & set(names(held_out))
    assert sorted(names(train) + names(held_out)) == names(table)


def test_the_larger_part_is_trained_on() -> None:
    splits = open_inputs(job_of(validation_fraction=0.25)).splits
    assert 15 == len(splits["labelled"])
    assert 5 == len(splits["validation"])


def test_what_is_held_out_follows_the_seed_and_nothing_else() -> None:
    def held_out(seed: int) -> list[str]:
        return names(open_inputs(job_of(seed)).splits["validation"])

    assert held_out(1) == held_out(1)
    drawn = {tuple(held_out(seed)) for seed in range(6)}
    assert len(drawn) > 1


def test_images_of_both_parts_keep_the_order_of_the_data_set() -> None:
    splits = open_inputs(job_of(3)).splits
    for split in ("labelled", "validation"):
        assert sorted(names(splits[split])) == names(splits[split])


def test_one_image_is_held_out_of_a_small_set_and_the_only_one_never() -> None:
    train, held_out = inputs._hold_out(table_of(3), 0.01, 0)
    assert (2, 1) == (len(train), len(held_out))
    with pytest.raises(JobError) as caught:
        inputs._hold_out(table_of(1), 0.15, 0)
    message = (
        "data.validation_fraction: 0.15 leaves no image to train on; name a data.validation set"
    )
    assert message == str(caught.value)


def test_nothing_is_held_out_where_a_validation_set_is_named() -> None:
    splits = open_inputs(job_of(validation="toy:val?count=3")).splits
    assert 20 == len(splits["labelled"])
    assert 3 == len(splits["validation"])
    assert not set(names(splits["labelled"])) & set(names(splits["validation"]))


# ---- Which sets are opened ----


def test_splits_come_in_the_order_of_the_data_flow() -> None:
    splits = open_inputs(job_of(unlabelled="toy:unlabelled?count=2")).splits
    assert ["labelled", "validation", "unlabelled"] == list(splits)
    assert 2 == len(splits["unlabelled"])


def test_without_unlabelled_images_there_is_no_such_split() -> None:
    assert ["labelled", "validation"] == list(open_inputs(job_of()).splits)


def test_relative_paths_start_at_the_root_of_the_data(tmp_path: Path) -> None:
    parquet.write(table_of(5), Folder.at(tmp_path / "data" / "photos"))
    opened = open_inputs(job_of(root=str(tmp_path / "data"), labelled="parquet:photos"))
    assert CLASSES == opened.categories
    assert 5 == sum(len(table) for table in opened.splits.values())


def test_a_set_without_an_image_is_one_line(tmp_path: Path) -> None:
    parquet.write(SceneList(CLASSES, []), Folder.at(tmp_path / "none"))
    with pytest.raises(DatasetError) as caught:
        open_inputs(job_of(labelled=f"parquet:{tmp_path}/none"))
    assert "data.labelled: the data set has no image; name one that has" == str(caught.value)


@pytest.mark.parametrize("split", ["labelled", "validation", "unlabelled"])
def test_a_wrong_reference_is_named_by_the_key_it_stands_in(split: str) -> None:
    with pytest.raises(JobError, match=rf"^data\.{split}: .*names no format"):
        open_inputs(job_of(**{split: "photos"}))


# ---- Classes agree ----


@pytest.mark.parametrize("split", ["validation", "unlabelled"])
def test_a_split_with_other_classes_is_named_with_the_first_that_differs(
    tmp_path: Path, split: str
) -> None:
    others = (Category(3, "kite"), Category(7, "tree"))
    parquet.write(table_of(4), Folder.at(tmp_path / "own"))
    parquet.write(table_of(2, others), Folder.at(tmp_path / "other"))
    job = job_of(labelled=f"parquet:{tmp_path}/own", **{split: f"parquet:{tmp_path}/other"})
    with pytest.raises(DatasetError) as caught:
        open_inputs(job)
    message = (
        f"data.{split} has the class 'tree', which is not among those of data.labelled"
        "; known: house, kite; give both the same class names"
    )
    assert message == str(caught.value)


def test_the_same_names_under_other_ids_are_the_same_classes() -> None:
    swapped = (Category(3, "house"), Category(7, "kite"))
    other = table_of(1, swapped)
    splits = {"labelled": table_of(1), "validation": other}
    aligned = inputs._with_the_same_classes(splits)["validation"]
    assert aligned.categories == CLASSES
    before = [swapped[k].name for k in other[0].objects.category]
    assert [CLASSES[k].name for k in aligned[0].objects.category] == before


def test_a_class_that_only_the_labelled_images_have_is_no_mistake() -> None:
    more = (*CLASSES, Category(9, "tree"))
    splits = {"labelled": table_of(1, more), "validation": table_of(1)}
    assert inputs._with_the_same_classes(splits)["validation"].categories == more
    splits = {"labelled": table_of(1), "validation": table_of(1, more)}
    with pytest.raises(DatasetError, match=r"data\.validation has the class 'tree'"):
        inputs._with_the_same_classes(splits)


# ---- Single images and files ----


def test_an_image_may_have_exactly_as_many_pixels_as_are_allowed() -> None:
    scene = scene_of("a", 4, 6)
    check_size(scene, 24)
    with pytest.raises(DatasetError) as caught:
        check_size(scene, 23)
    message = "a: 6x4 is over data.max_pixels=23; raise it or shrink the image"
    assert message == str(caught.value)


def test_a_key_may_be_empty_but_not_name_a_folder_or_nothing(tmp_path: Path) -> None:
    check_file("detector.weights", "")
    (tmp_path / "x").write_bytes(b"")
    check_file("detector.weights", str(tmp_path / "x"))
    for path in (tmp_path, tmp_path / "y"):
        with pytest.raises(JobError) as caught:
            check_file("detector.weights", str(path))
        message = (
            f"detector.weights: there is no file '{path}'; correct the path or leave the key empty"
        )
        assert message == str(caught.value)


def test_held_out_images_without_objects_blame_the_draw_and_not_a_file() -> None:
    table = table_of(4)
    job = job_of(validation_fraction=0.25)
    with pytest.raises(DatasetError) as caught:
        check_split(job, "validation", table, 4, 0)
    assert str(caught.value) == (
        "data.validation_fraction: 0.25 drew 4 images without one object to be learnt; "
        "name a data.validation set, draw more or take another seed"
    )
    with pytest.raises(DatasetError, match=r"^data\.labelled: .*validation_fraction=0.25 took"):
        check_split(job, "labelled", table, 4, 0)
    named = job_of(validation="toy:val?count=4")
    for split in ("labelled", "validation"):
        check_split(named, split, table, 4, 1)
        with pytest.raises(DatasetError, match=r"^data\.[a-z]+: 4 images, .*data\.unlabelled\)$"):
            check_split(named, split, table, 4, 0)

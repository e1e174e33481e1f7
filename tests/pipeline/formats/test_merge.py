"""Data sets as one: classes by name, new ids, and everything else as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Objects, Scene, SceneList
from synthaug.pipeline.formats.merge import MergedDataset, unify_classes, with_classes
from synthaug.pipeline.formats.toy import dataset as toy
from tests.hard_scenes import SIZE, boxed, masked, png


def table(*categories: Category) -> SceneList:
    objects = Objects.build(range(len(categories)), np.array([[0, 0, 5, 5]] * len(categories)))
    return SceneList(
        categories, [Scene("1", *SIZE, replace(masked()[0].image, data=png(SIZE)), objects)]
    )


def test_classes_are_united_by_name_and_keep_the_first_id() -> None:
    first = table(Category(3, "cow"), Category(7, "cat"))
    second = table(Category(1, "cat"), Category(3, "dog"), Category(9, "cow"))
    united = unify_classes({"a": first, "b": second})
    assert [(c.id, c.name) for c in united.categories] == [(3, "cow"), (7, "cat"), (8, "dog")]
    assert united.renumbered == {"dog": 8}
    merged = MergedDataset({"a": first, "b": second}, united)
    assert [merged[i].objects.category.tolist() for i in range(2)] == [[0, 1], [1, 2, 0]]


def test_classes_whose_ids_are_taken_get_different_ones() -> None:
    first = table(Category(1, "cow"), Category(2, "cat"))
    second = table(Category(1, "dog"), Category(2, "emu"), Category(4, "fox"))
    united = unify_classes({"a": first, "b": second})
    ids = {category.name: category.id for category in united.categories}
    assert ids == {"cow": 1, "cat": 2, "dog": 3, "emu": 4, "fox": 5}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ((Category(1, "Cow"),), "spelt 'cow' elsewhere"),
        ((Category(1, "cow "),), "spelt 'cow' elsewhere"),
        ((Category(1, "cow", isthing=False),), "stuff here and a thing elsewhere"),
        ((Category(1, "a"), Category(2, "a")), "two classes are called 'a'"),
    ],
)
def test_a_conflict_is_one_line_that_names_the_set(other: tuple[Category, ...], told: str) -> None:
    with pytest.raises(DatasetError) as caught:
        unify_classes({"first": table(Category(3, "cow")), "second": table(*other)})
    assert str(caught.value).startswith("second: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_are_new_and_unique_and_the_rest_is_as_it_was() -> None:
    sets = {"real": boxed(), "synthetic": masked()}
    merged = MergedDataset(sets, unify_classes(sets))
    scenes = [merged[i] for i in range(len(merged))]
    ids = np.concatenate([s.objects.id for s in scenes])
    assert len(set(ids.tolist())) == len(ids)
    assert ids.min() >= 1
    assert [s.image_id for s in scenes[:5]] == [
        "real-box0",
        "real-box1",
        "real-box2",
        "real-box3",
        "synthetic-image-0",
    ]
    assert scenes[4].provenance == masked()[0].provenance
    assert scenes[5].objects.rle == masked()[1].objects.rle
    with pytest.raises(IndexError):
        merged[len(merged)]


def test_panoptic_maps_keep_meaning_their_objects() -> None:
    maps = toy.read(toy.Config("train", count=3), Path())
    sets = {"real": boxed(), "toy": maps}
    low = (1 << 24) - 1
    merged = MergedDataset(sets, unify_classes(sets))
    for i in range(3):
        scene = merged[4 + i]
        assert scene.panoptic == maps[i].panoptic
        assert (scene.objects.id & low).tolist() == (maps[i].objects.id & low).tolist()


def test_a_region_that_ends_in_an_objects_bits_gets_others() -> None:
    """Verification numbers regions around extra things from 2**52, whatever the map says."""
    scene = toy.read(toy.Config("train", count=1), Path())[0]
    twice = scene.objects.select([*range(len(scene.objects)), 0])
    ids = np.append(scene.objects.id, (1 << 52) + (scene.objects.id[0] & (1 << 24) - 1))
    table = SceneList(
        toy.read(toy.Config("train", count=1), Path()).categories,
        [replace(scene, objects=replace(twice, id=ids))],
    )
    merged = MergedDataset({"a": table}, unify_classes({"a": table}))[0].objects.id
    assert len(set(merged.tolist())) == len(merged)
    assert (merged[:-1] & (1 << 24) - 1).tolist() == (scene.objects.id & (1 << 24) - 1).tolist()


def test_the_fingerprint_follows_the_names_and_the_content() -> None:
    sets = {"a": boxed(), "b": masked()}
    marks = {
        MergedDataset(s, unify_classes(s)).fingerprint()
        for s in (sets, {"a": boxed(), "c": masked()}, {"a": masked(), "b": boxed()})
    }
    assert len(marks) == 3
    assert MergedDataset(sets, unify_classes(sets)).fingerprint() in marks


def test_classes_of_another_order_are_found_by_their_names() -> None:
    wanted = (Category(1, "cow"), Category(2, "cat"), Category(3, "dog"))
    other = table(Category(9, "dog"), Category(4, "cow"))
    found = with_classes(other, wanted, "data.validation")
    assert found.categories == wanted
    assert found[0].objects.category.tolist() == [2, 0]
    with pytest.raises(DatasetError, match=r"^data\.validation has the class 'cot'"):
        with_classes(table(Category(1, "cot")), wanted, "data.validation")

"""The table of a trial's copy-paste arm.

A function of seed and index, a few rare objects in real images.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from synthaug.generators.copy_paste import Config
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.scene import (
    Category,
    Dataset,
    ImageRef,
    Objects,
    Scene,
    SceneList,
    class_counts,
)
from synthaug.pipeline.core.seeding import permuted, seed_for
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.planning.surfaces import UNKNOWN, stuff_map, surface_of
from synthaug.pipeline.synthesis.copy_paste_table import NO_PLACE, CopyPasteTable


def toy_of(count: int) -> Dataset:
    return toy.ToyDataset(toy.Config("train", count=count))


def without_masks(table: Dataset) -> SceneList:
    scenes = []
    for scene in table:
        things = scene.objects.select(scene.objects.isthing)
        scenes.append(scene.with_objects(replace(things, rle=(None,) * len(things))))
    return SceneList(table.categories, scenes)


def background_of(table: Dataset, seed: int, index: int) -> int:
    epoch, position = divmod(index, len(table))
    return permuted(position, len(table), seed_for(seed, "background", epoch))


def test_the_trials_table_is_a_function_of_seed_and_index() -> None:
    table = toy_of(12)
    one, again, other = (CopyPasteTable(table, Config(), seed, 40) for seed in (5, 5, 6))
    order = [7, 0, 31]
    first = {i: one.entry(i) for i in order}
    for i in reversed(order):
        found, pixels = again.entry(i)
        np.testing.assert_array_equal(pixels, first[i][1])
        np.testing.assert_array_equal(found.objects.boxes, first[i][0].objects.boxes)
        np.testing.assert_array_equal(decode(again[i]), pixels)
    assert any((other.entry(i)[1] != first[i][1]).any() for i in order)


@pytest.mark.parametrize("has_masks", [True, False])
def test_labels_of_the_trials_table_are_those_of_its_pixels(has_masks: bool) -> None:
    """Masks are disjoint, boxes tight, areas counted.

    At most `most` objects are new, and all count as a person's.
    """
    table = toy_of(20)
    if not has_masks:
        table = without_masks(table)
    pasted = CopyPasteTable(table, Config(classes=("all",)), 3, 30)
    new = []
    for i in range(30):
        found = pasted[i]
        objects, size = found.objects, (found.height, found.width)
        assert len(set(objects.id.tolist())) == len(objects)
        assert (objects.boxes >= 0).all() and (objects.boxes <= size[1]).all()
        assert (objects.boxes[:, 2:] > objects.boxes[:, :2]).all()
        assert {"human"} == set(objects.source)
        if has_masks:
            shown = masks.decode_all(objects, size)
            assert shown.sum(0).max() <= 1
            np.testing.assert_array_equal(masks.tight_boxes(shown), objects.boxes)
            np.testing.assert_array_equal(shown.sum((1, 2)), objects.area)
        there = len(table[background_of(table, 3, i)].objects)
        new.append(int((objects.id > there).sum()))
    assert max(new) == 3 and sum(new) > 25


def test_only_rare_objects_come_and_what_is_there_stays() -> None:
    table = without_masks(toy_of(40))
    counts = class_counts(table, len(table.categories))
    rare = np.flatnonzero(counts <= np.median(counts[counts > 0]))
    pasted = CopyPasteTable(table, Config(), 3, 40)
    came: Counter[int] = Counter()
    unchanged = []
    for i in range(40):
        scene, pixels = pasted.entry(i)
        background = table[background_of(table, 3, i)]
        new = scene.objects.id > len(background.objects)
        came.update(scene.objects.category[new].tolist())
        unchanged.append(float((pixels == decode(background)).all(2).mean()))
    assert came and set(came) <= set(rare.tolist())
    assert len(came) > 2 and np.median(unchanged) > 0.8


def test_classes_come_by_the_square_roots_of_their_objects() -> None:
    """One class has a hundred times the objects of the other: every eleventh is of the rarer."""
    cells = [Objects.build([0] * 50 + [1] * own, [[4, 4, 9, 9]] * (50 + own)) for own in (1, 0)]
    pixels = np.zeros((40, 60, 3), np.uint8)
    scenes = [
        Scene(f"{number}", 40, 60, ImageRef(encode(pixels, "png")), objects)
        for number, objects in enumerate(cells)
    ]
    classes = (Category(1, "red"), Category(2, "white"))
    config = Config(classes=("all",), overlap=1.0, most=1)
    pasted = CopyPasteTable(SceneList(classes, scenes), config, 3, 300)
    came: Counter[int] = Counter()
    for index in range(300):
        new = pasted.entry(index)[0].objects
        came[int(new.category[-1])] += 1
    assert 12 < came[1] < 45, "300 / 11 = 27; by their numbers 3, all alike 150"


def test_an_object_without_a_place_is_left_out_and_counted() -> None:
    table = without_masks(toy_of(10))
    pasted = CopyPasteTable(table, Config(overlap=0.0, classes=("all",)), 3, 40)
    for i in range(40):
        pasted.entry(i)
    assert pasted.skipped[NO_PLACE] > 0


def test_objects_come_to_stuff_that_their_class_is_seen_on() -> None:
    """Boats to water and balloons into the sky, unless the job says any."""
    table = toy_of(60)
    of = {category.name: index for index, category in enumerate(table.categories)}
    grounds = {"boat": {"water"}, "balloon": {"sky"}, "car": {"road", "grass"}}
    elsewhere = {"seen": 0, "any": 0}
    for surface in ("seen", "any"):
        config = Config(classes=tuple(grounds), surface=surface)
        pasted = CopyPasteTable(table, config, 3, 40)
        for index in range(40):
            background = table[background_of(table, 3, index)]
            stuff = stuff_map(background.objects, background.size)
            objects = pasted.entry(index)[0].objects
            new = objects.select(objects.id > len(background.objects))
            for label, box in zip(new.category.tolist(), new.layout_boxes, strict=True):
                ground = surface_of(stuff, box)
                allowed = {of[name] for name in grounds[table.categories[label].name]}
                elsewhere[surface] += ground not in {*allowed, UNKNOWN}
    assert elsewhere["seen"] == 0
    assert elsewhere["any"] > 20


def test_a_table_without_objects_gives_its_images_as_they_are() -> None:
    table = toy_of(3)
    none = np.zeros(0, np.int64)
    empty = [scene.with_objects(scene.objects.select(none)) for scene in table]
    pasted = CopyPasteTable(SceneList(table.categories, empty), Config(), 1, 3)
    known = {decode(scene).tobytes() for scene in table}
    assert known == {pasted.entry(i)[1].tobytes() for i in range(3)}


def test_a_class_that_is_not_there_is_told() -> None:
    with pytest.raises(JobError, match=r"^trial\.copy_paste\.classes: .*'ballon'.*'balloon'\?"):
        CopyPasteTable(toy_of(3), Config(classes=("ballon",)), 1, 3)

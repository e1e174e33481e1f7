"""Copy-paste on scenes.

Labels of what is covered, what is never cut, the trial's table, and the job from plan to table.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.generators.copy_paste import Config, Frame, piece
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.planning.edit_planner import largest_overlap
from synthaug.pipeline.planning.surfaces import UNKNOWN, StuffMap, surface_of
from synthaug.pipeline.synthesis.object_bank import Bank, cutout_of, pasteable
from synthaug.pipeline.synthesis.pasting import (
    Arrangement,
    Canvas,
    Labels,
    paste,
    paste_layout,
    planned_ids,
)
from tests import paths

CLASSES = (Category(1, "cat"), Category(2, "dog"), Category(3, "sky", "", False))
HARD = Config(blends=("none",))
ANYWHERE = np.zeros((4, 4), bool)  # no class was ever seen on any stuff
REPOSITORY = paths.ROOT


def nowhere(height: int, width: int) -> StuffMap:
    """A stuff map that shows none."""
    return np.full((height, width), UNKNOWN, np.int32)


def toy_table(count: int) -> Dataset:
    return open_dataset(f"toy:train?count={count}", Path())


def scene(
    boxes: list[list[float]], category: list[int], masked: bool, name: str = "a", **columns: object
) -> Scene:
    """A noise image of 20 x 20 whose objects fill their boxes."""
    shown = np.zeros((len(boxes), 20, 20), bool)
    for mask, (x0, y0, x1, y1) in zip(shown, np.array(boxes, int).reshape(-1, 4), strict=True):
        mask[y0:y1, x0:x1] = True
    rle = tuple(masks.encode(shown)) if masked else (None,) * len(boxes)
    columns.setdefault("isthing", np.array([CLASSES[c].isthing for c in category], bool))
    objects = Objects.build(category, boxes, rle=rle, **columns)
    pixels = np.random.default_rng(len(boxes)).integers(0, 256, (20, 20, 3), np.uint8)
    return Scene(name, 20, 20, ImageRef(encode(pixels, "png")), objects)


def covered(there: Scene, box: list[float], config: Config = HARD) -> tuple[Objects, Counter[str]]:
    """Paste a whole image over an xyxy box of a scene."""
    canvas = Canvas.of(there, decode(there), Frame.still((20, 20)))
    giver = scene([[0, 0, 20, 20]], [1], masked=False)
    one = piece(cutout_of(giver, decode(giver), 0, 1.0, config), box)
    ids = np.arange(1, len(there.objects) + 2)
    labels = Labels(ids, np.array([box], np.float32), np.array([1]), 1.0)
    picture = paste(canvas, [one], labels, config, CLASSES)
    return picture.objects, picture.lost


@pytest.mark.parametrize("masked", [True, False])
def test_a_covered_object_becomes_its_visible_part(masked: bool) -> None:
    objects, lost = covered(
        scene([[2, 2, 12, 12], [14, 14, 18, 18]], [0, 0], masked), [7, 0, 20, 13]
    )
    assert not lost and objects.category.tolist() == [0, 0, 1]
    assert objects.boxes[:2].tolist() == [[2, 2, 7, 12], [14, 14, 18, 18]]
    assert objects.area[:2].tolist() == [50, 16]
    assert [rle is not None for rle in objects.rle] == [masked, masked, False]
    if masked:
        assert masks.area(objects.rle[0] or "") == 50
    assert objects.boxes[2].tolist() == [7, 0, 20, 13] and objects.source == (
        "human",
        "human",
        "synthetic",
    )


@pytest.mark.parametrize("masked", [True, False])
def test_a_hidden_object_is_removed_and_counted(masked: bool) -> None:
    there = scene([[2, 2, 12, 12], [5, 5, 7, 7]], [0, 1], masked)
    objects, lost = covered(there, [4, 4, 9, 9])
    assert lost == {"dog": 1} and objects.id.tolist() == [1, 3]
    assert objects.boxes[0].tolist() == [2, 2, 12, 12], (
        "a hole in the middle leaves the box as it was"
    )
    objects, lost = covered(there, [0, 0, 12, 11.0])
    assert lost == {"dog": 1}, "a tenth of the cat is seen"
    _, lost = covered(there, [0, 0, 12, 11.0], replace(HARD, min_visible=0.2))
    assert lost == {"dog": 1, "cat": 1}


def test_ignore_regions_stay_until_nothing_is_left_and_are_never_cut() -> None:
    crowd = np.array([True, False])
    there = scene([[0, 0, 20, 20], [1, 1, 5, 5]], [0, 0], True, iscrowd=crowd)
    assert pasteable(there.objects) == [1]
    objects, lost = covered(there, [0, 0, 20, 19])
    assert (
        objects.iscrowd.tolist() == [True, False] and objects.area[0] == 20 and lost == {"cat": 1}
    )
    objects, lost = covered(there, [0, 0, 20, 20])
    assert len(objects) == 1 and lost == {"cat": 1}
    stuff = scene([[0, 0, 20, 20], [1, 1, 5, 5]], [2, 0], True, source=("human", "pseudo"))
    assert pasteable(stuff.objects) == [], "neither stuff nor what a detector labelled"


def test_a_box_that_nothing_touches_keeps_its_fractions() -> None:
    objects, _ = covered(scene([[2.25, 2.5, 6.75, 6]], [0], False), [10, 10, 18, 18])
    assert objects.boxes[0].tolist() == [2.25, 2.5, 6.75, 6]


def test_a_layout_gets_its_things_on_a_background_that_shows_little_else() -> None:
    table = SceneList(
        CLASSES, [scene([[0, 0, 19, 19]], [0], False), scene([[2, 2, 8, 8]], [0], False, "b")]
    )
    bank = Bank.of(table, table, HARD)
    asked = scene([[2, 2, 8, 8]], [0], False)
    objects = paste_layout(bank, asked, CLASSES).objects
    assert objects.source.count("synthetic") == 1 and len(objects) == 1, (
        "the cat of the background lies under the other"
    )


@pytest.mark.parametrize("masked", [True, False])
def test_a_pasted_object_is_labelled_as_its_annotator_did(masked: bool) -> None:
    """Its box keeps its fractions and what it leaves around the mask.

    A side that is covered moves with the cover.
    """
    giver = scene([[4, 4, 12, 12]], [1], masked)
    label = np.array([[3.5, 3.75, 12.5, 12.25]], np.float32)
    giver = giver.with_objects(replace(giver.objects, boxes=label))
    there = scene([], [], masked)
    canvas = Canvas.of(there, decode(there), Frame.still((20, 20)))
    first = piece(cutout_of(giver, decode(giver), 0, 1.0, HARD), (2, 2, 10, 10))
    over = piece(cutout_of(giver, decode(giver), 0, 1.0, HARD), (8, 0, 16, 20))
    boxes = np.array([first.label, over.label])
    for pieces, expected in (([first], [1.5, 1.75, 10.5, 10.25]), ([first, over], None)):
        number = len(pieces)
        labels = Labels(np.arange(1, number + 1), boxes[:number], np.ones(number, np.int64), 1.0)
        objects = paste(canvas, pieces, labels, HARD, CLASSES).objects
        assert [rle is not None for rle in objects.rle] == [masked] * number
        if expected is not None and masked:
            np.testing.assert_allclose(objects.boxes[0], expected)
        elif masked:
            np.testing.assert_allclose(objects.boxes[0], [1.5, 1.75, 8.5, 10.25])
        assert objects.boxes[0, 2] <= (10.5 if number == 1 else 8.5)


def test_cutouts_lie_inside_at_their_size_and_hardly_on_others() -> None:
    config = replace(HARD, overlap=0.25, mirror=0.0)
    taken = np.array([[0, 0, 20, 10]], np.float32)
    giver = scene([[4, 4, 12, 10]], [1], False)
    cutout = cutout_of(giver, decode(giver), 0, 1.0, config)
    laid = 0
    for seed in range(20):
        arrangement = Arrangement(nowhere(20, 20), taken, config, ANYWHERE)
        rng = np.random.default_rng(seed)
        for _ in range(3):
            laid += arrangement.lay(1, cutout, rng)
        boxes = arrangement.label_boxes()
        assert (boxes[:, 2:] - boxes[:, :2] == [8, 6]).all()
        assert (boxes >= 0).all() and (boxes <= 20).all()
        for number, box in enumerate(boxes):
            others = np.concatenate([taken, np.delete(boxes, number, 0)])
            assert largest_overlap(box, others) <= 0.25
    assert 30 < laid < 60, "some found a place and some did not"
    wide = Arrangement(nowhere(5, 20), taken, config, ANYWHERE)
    assert not wide.lay(1, cutout, np.random.default_rng(0)), "higher than the image"


def test_cutouts_stand_on_the_stuff_that_their_class_is_seen_on() -> None:
    giver = scene([[4, 4, 12, 10]], [1], False)
    cutout = cutout_of(giver, decode(giver), 0, 1.0, HARD)
    grass, water = 2, 3
    ground = np.full((20, 20), grass, np.int32)
    ground[:, 10:] = water
    seen = np.zeros((4, 4), bool)
    seen[1, water] = True
    laid = 0
    for seed in range(20):
        arrangement = Arrangement(ground, np.zeros((0, 4), np.float32), HARD, seen)
        wanted = np.array([4, 10], np.float32)
        laid += arrangement.lay(1, cutout, np.random.default_rng(seed), wanted)
        for box in arrangement.label_boxes():
            assert surface_of(ground, box) == water
    assert laid == 20
    swamp = Arrangement(
        np.full((20, 20), grass, np.int32), np.zeros((0, 4), np.float32), HARD, seen
    )
    assert not swamp.lay(1, cutout, np.random.default_rng(0))


def test_objects_of_a_stretched_background_have_the_area_of_the_stretched_mask() -> None:
    """Else too little of one would be kept, or too much."""
    giver = scene([[4, 4, 14, 14], [0, 0, 6, 4]], [1, 0], True, area=[100.0, 24.0])
    canvas = Canvas.of(giver, decode(giver), Frame.fitted((20, 20), (40, 60)))
    assert canvas.area.tolist() == [100 * 2 * 3, 24 * 2 * 3]
    assert canvas.masks.sum((1, 2)).tolist() == pytest.approx([600, 144], rel=0.1)


def test_crowds_get_ids_that_no_planned_object_has() -> None:
    there = scene([[0, 0, 9, 9], [1, 1, 5, 5], [9, 9, 15, 15]], [0, 0, 1], False, iscrowd=[1, 0, 0])
    canvas = Canvas.of(there, decode(there), Frame.still((20, 20)))
    plan = scene([[1, 1, 5, 5], [9, 9, 15, 15], [2, 9, 8, 15]], [0, 1, 1], False, id=[31, 32, 33])
    assert planned_ids(canvas, plan).tolist() == [34, 31, 32]


def test_the_stuff_of_a_canvas_is_mirrored_with_it() -> None:
    shown = np.zeros((1, 20, 20), bool)
    shown[0, :, :5] = True
    (rle,) = masks.encode(shown)
    objects = Objects.build(
        [2, 3], [[0, 0, 5, 20], [0, 0, 20, 20]], rle=(rle, None), isthing=[0, 0]
    )
    giver = scene([], [], False).with_objects(objects)
    canvas = Canvas.of(giver, decode(giver), Frame.still((20, 20), mirror=True))
    stuff = canvas.stuff()
    assert (stuff[:, 15:] == 2).all(), "a box shows no stuff"
    assert (stuff[:, :15] == UNKNOWN).all()


def test_the_wanted_place_comes_first() -> None:
    giver = scene([[4, 4, 12, 10]], [1], False)
    cutout = cutout_of(giver, decode(giver), 0, 1.0, HARD)
    nobody = np.zeros((0, 4), np.float32)
    arrangement = Arrangement(nowhere(20, 20), nobody, HARD, ANYWHERE)
    arrangement.lay(1, cutout, np.random.default_rng(0), np.array([9, 9], np.float32))
    arrangement.lay(1, cutout, np.random.default_rng(0), np.array([1, 18], np.float32))
    assert [[5, 6, 13, 12], [0, 14, 8, 20]] == arrangement.label_boxes().tolist()

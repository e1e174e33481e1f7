"""Maps as layers: taken apart and put together they are the same, and the brush does its work."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.core.panoptic_maps import map_of, maps_of
from synthaug.pipeline.studio import map_layers
from synthaug.pipeline.studio.map_layers import stroke_of
from synthaug.pipeline.studio.painters.base import labels_of
from synthaug.pipeline.studio.painters.scenes import map_scene
from synthaug.pipeline.studio.sketch import Sketch
from tests.studio_room import toy_table

TABLE = toy_table()
SCENE = TABLE[0]
SKY = labels_of(TABLE.categories)["sky"]


def sketch() -> Sketch:
    return map_layers.of_map(SCENE, TABLE.categories, 3)


def test_a_map_taken_apart_and_put_together_is_the_same() -> None:
    again = map_scene(sketch(), TABLE.categories, 0)
    num_classes = len(TABLE.categories)
    before = maps_of(SCENE, num_classes)
    after = maps_of(again, num_classes)
    assert (before.labels == after.labels).all()
    assert len(np.unique(before.instances)) == len(np.unique(after.instances))


def test_things_are_objects_and_stuff_goes_on_behind_them() -> None:
    made = sketch()
    things = [c.name for c in TABLE.categories if c.isthing]
    assert made.items and all(item.label in things for item in made.items)
    ground = map_layers.ground_of(made)
    assert (ground > 0).all()
    stuff = {labels_of(TABLE.categories)[c.name] + 1 for c in TABLE.categories if not c.isthing}
    assert set(np.unique(ground).tolist()) <= stuff


def test_a_thing_moves_with_its_shape() -> None:
    made = sketch()
    item = made.items[-1]
    x0, y0, x1, y1 = item.box
    dx = 3 if x1 + 3 <= made.size[1] else -3
    moved = made.move(item.number, (x0 + dx, y0, x1 + dx, y1))
    before = map_layers.mask_of(item, made.size)
    after = map_layers.mask_of(moved[item.number], made.size)
    assert (np.roll(before, dx, 1) == after).all()
    assert made.ground == moved.ground


def test_the_later_object_is_in_front() -> None:
    made = sketch()
    first = made.items[0]
    covering = made.add(first.label, first.box, map_layers.shape_of(np.ones((2, 2), bool)))
    masks = map_layers.visible_masks(covering)
    assert not masks[0].any()
    assert masks.sum(0).max() == 1


def test_stuff_is_painted_and_takes_from_objects_that_are_not_locked() -> None:
    made = sketch()
    number = made.items[0].number
    x0, y0, x1, y1 = made.items[0].box
    across = stroke_of([[x0, (y0 + y1) / 2], [x1, (y0 + y1) / 2]], 2, made.size)
    painted = map_layers.brush_stuff(made, SKY, across)
    covered = across.pixels(made.size)
    assert (map_layers.ground_of(painted)[covered] == SKY + 1).all()
    mask = map_layers.mask_of(painted[number], made.size)
    assert not (mask & covered).any()
    locked = map_layers.brush_stuff(made.lock(number, True), SKY, across)
    assert map_layers.mask_of(locked[number], made.size).any()
    assert locked[number].shape == made[number].shape


def test_an_object_that_is_painted_over_whole_is_gone() -> None:
    made = sketch()
    everything = stroke_of([[0, 0], [made.size[1], made.size[0]]], max(made.size), made.size)
    assert () == map_layers.brush_stuff(made, SKY, everything).items


def test_the_brush_adds_to_an_object_and_takes_from_it() -> None:
    made = sketch()
    item = made.items[0]
    dot = stroke_of([[1, 1]], 2, made.size)
    larger = map_layers.brush_object(made, item.number, dot, erases=False)
    both = map_layers.mask_of(item, made.size) | dot.pixels(made.size)
    assert (both == map_layers.mask_of(larger[item.number], made.size)).all()
    back = map_layers.brush_object(larger, item.number, dot, erases=True)
    assert not map_layers.mask_of(back[item.number], made.size)[1, 1]
    with pytest.raises(ValueError, match="locked"):
        map_layers.brush_object(made.lock(item.number, True), item.number, dot, erases=True)


def test_a_stroke_of_a_thing_is_a_new_object_of_its_shape() -> None:
    made = sketch()
    stroke = stroke_of([[4, 4], [20, 9]], 3, made.size)
    added = map_layers.brush_new(made, made.items[0].label, stroke)
    assert len(made.items) + 1 == len(added.items)
    assert (stroke.pixels(made.size) == map_layers.mask_of(added.items[-1], made.size)).all()
    outside = stroke_of([[-60, -60]], 3, made.size)
    with pytest.raises(ValueError, match="outside"):
        map_layers.brush_new(made, made.items[0].label, outside)


@pytest.mark.parametrize(
    ("points", "radius", "words"),
    [
        ([], 3, "1 to 2000 points"),
        ([[0, 0]] * 2001, 3, "1 to 2000 points"),
        ([[0, 1, 2]], 3, "x, y"),
        ([[1e9, 0]], 3, "x, y"),
        ([[0, 0]], 0, "radius"),
        ([[0, 0]], 1e6, "radius"),
    ],
)
def test_what_is_no_stroke_is_refused(points: list[list[float]], radius: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stroke_of(points, radius, (64, 64))


def test_a_map_without_ground_knows_no_stuff() -> None:
    empty = Sketch((8, 6), (), 0, ((0, 1.0),), 0)
    ids, _ = map_layers.segments(empty, {}, 3)
    assert (ids == 0).all()
    assert (8, 6) == ids.shape
    assert SCENE.size == map_of(SCENE).shape

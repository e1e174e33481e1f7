"""The bank of real objects: what may be cut, which of some is taken, and where it comes to lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthaug.generators.copy_paste import Config
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.synthesis.object_bank import (
    Bank,
    cutout_of,
    extent_of,
    lender_of,
    pasteable,
    surest,
)

CLASSES = (Category(1, "cat"), Category(2, "dog"), Category(3, "sky", "", False))
HARD = Config(blends=("none",))


def scene(
    boxes: list[list[float]], category: list[int], _masked: bool, name: str = "a", **columns: object
) -> Scene:
    """A noise image of 20 x 20 with objects that have boxes alone."""
    columns.setdefault("isthing", [CLASSES[c].isthing for c in category])
    objects = Objects.build(category, boxes, **columns)
    pixels = np.random.default_rng(len(boxes)).integers(0, 256, (20, 20, 3), np.uint8)
    return Scene(name, 20, 20, ImageRef(encode(pixels, "png")), objects)


def test_objects_cut_by_the_border_are_taken_only_where_there_are_no_others() -> None:
    table = SceneList(
        CLASSES,
        [
            scene([[0, 4, 6, 10], [8, 8, 14, 14]], [0, 0], False),
            scene([[0, 4, 6, 10]], [1], False, "b"),
        ],
    )
    bank = Bank.of(table, table, HARD)
    box = np.array([3, 3, 9, 9], np.float32)
    whole = decode(table[0])[8:14, 8:14]
    for seed in range(5):
        one = bank.piece(0, box, np.random.default_rng(seed))
        assert one is not None
        seen = one.pixels[one.core].reshape(6, 6, 3)
        assert (seen == whole).all() or (seen[:, ::-1] == whole).all()
    assert bank.piece(1, box, np.random.default_rng(0)) is not None
    assert bank.piece(2, box, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("columns", "positions"),
    [
        ({}, [0, 1]),
        ({"iscrowd": [True, False, False]}, [1]),
        ({"source": ("human", "pseudo", "human")}, [0]),
        ({"source": ("synthetic",) * 3}, []),
    ],
)
def test_only_things_that_a_person_labelled_are_cut(
    columns: dict[str, object], positions: list[int]
) -> None:
    boxes = [[0, 0, 5, 5], [1, 1, 3, 9], [2, 2, 9, 9.0]]
    assert positions == pasteable(scene(boxes, [0, 1, 2], False, **columns).objects)


def test_of_pseudo_labels_the_half_that_is_surest_of_each_class_is_taken() -> None:
    box = [2.0, 2.0, 8.0, 8.0]
    scores = [[0.5, 0.9], [0.6, 0.7], [0.95, 0.2]]
    rows = []
    for name, pair in zip("abc", scores, strict=True):
        pseudo = ("pseudo", "pseudo")
        rows.append(scene([box, box], [0, 1], False, name, source=pseudo, score=pair))
    table = SceneList(CLASSES, rows)
    chosen = surest(table)
    # class 0 has 0.5, 0.6, 0.95 with the median 0.6, class 1 0.9, 0.7, 0.2 with 0.7
    assert [chosen(row.objects) for row in rows] == [[1], [0, 1], [0]]
    bank = Bank.of(table, table, HARD, chosen)
    assert bank.category.tolist() == [1, 0, 1, 0]
    assert pasteable(rows[0].objects) == []  # as objects to be pasted they do not count


def test_a_bank_lends_as_often_as_it_has_objects_of_the_class() -> None:
    one = SceneList(CLASSES, [scene([[2, 2, 8, 8]], [0], False)])
    three = SceneList(CLASSES, [scene([[2, 2, 8, 8]] * 3, [0, 0, 0], False, "b")])
    few, many = Bank.of(one, one, HARD), Bank.of(three, three, HARD)
    drawn = [lender_of([few, many], 0, np.random.default_rng(seed)) for seed in range(400)]
    assert 270 < sum(bank is many for bank in drawn) < 330
    assert lender_of([few, many], 1, np.random.default_rng(0)) is few  # none has any
    untouched = np.random.default_rng(3)
    assert lender_of([many], 0, untouched) is many
    assert untouched.random() == np.random.default_rng(3).random()


def test_an_object_of_one_pixel_width_is_not_cut() -> None:
    assert [1] == pasteable(scene([[0, 0, 1.5, 9], [0, 0, 2, 9]], [0, 0], False).objects)
    assert [] == pasteable(scene([], [], False).objects)


def test_the_object_nearest_in_size_and_shape_is_taken_and_keeps_its_shape() -> None:
    boxes = [[2, 2, 6, 6], [4, 2, 8, 18], [2, 4, 18, 8]]
    table = SceneList(CLASSES, [scene(boxes, [0, 0, 0], False)])
    bank = Bank.of(table, table, HARD)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        piece = bank.piece(0, np.array([5, 0, 10, 20], np.float32), rng)
        assert piece is not None
        rows, columns = np.flatnonzero(piece.core.any(1)), np.flatnonzero(piece.core.any(0))
        assert (20, 5) == (len(rows), len(columns)), "the tall one, stretched to the area"
        assert (0, 5) == (piece.offset[0] + rows[0], piece.offset[1] + columns[0])


@pytest.mark.parametrize("mirror", [0.0, 0.5])
def test_of_objects_of_one_size_the_one_of_the_outline_is_taken(mirror: float) -> None:
    """A triangle and a bar in equal boxes; where objects are mirrored, the way that fits."""
    triangle, bar = np.tril(np.ones((8, 8), bool)), np.ones((8, 8), bool)
    bar[3:5] = False
    shapes = np.zeros((2, 20, 20), bool)
    shapes[0, 2:10, 2:10] = triangle
    shapes[1, 11:19, 11:19] = bar
    boxes = [[2, 2, 10, 10], [11, 11, 19, 19]]
    table = SceneList(CLASSES, [scene(boxes, [0, 0], True, rle=masks.encode(shapes))])
    bank = Bank.of(table, table, replace(HARD, mirror=mirror))
    like = np.array([5, 4, 13, 12], np.float32)
    wanted = [triangle, bar]
    if mirror:
        wanted.append(triangle[:, ::-1])
    for shape in wanted:
        outline = np.zeros((20, 20), bool)
        outline[4:12, 5:13] = shape
        for seed in range(4):
            drawn = bank.draw(0, np.random.default_rng(seed), like, outline=outline)
            assert drawn is not None
            x0, y0, x1, y1 = drawn.box
            assert np.array_equal(drawn.core[y0:y1, x0:x1], shape)


def test_the_extent_of_an_object_is_that_of_its_mask() -> None:
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 3:7, 4:12] = True
    plain = scene([[0, 0, 20, 20], [1, 1, 4, 4]], [0, 0], False)
    (rle,) = masks.encode(mask)
    masked = scene([[0, 0, 20, 20], [1, 1, 4, 4]], [0, 0], False, rle=(rle, None))
    box, found = extent_of(masked, 0)
    assert [4, 3, 12, 7] == box.tolist() and np.array_equal(mask[0], found)
    assert extent_of(plain, 0)[1] is None and [1, 1, 4, 4] == extent_of(masked, 1)[0].tolist()
    (empty,) = masks.encode(np.zeros((1, 20, 20), bool))
    box, found = extent_of(scene([[0, 0, 20, 20]], [0], False, rle=(empty,)), 0)
    assert found is None and [0, 0, 20, 20] == box.tolist()


def test_the_scene_of_an_image_is_found_by_its_id() -> None:
    table = SceneList(CLASSES, [scene([], [], False), scene([[0, 0, 9, 9]], [0], False, "b")])
    bank = Bank.of(table, table, HARD)
    found, image = bank.scene("b")
    assert "b" == found.image_id and np.array_equal(decode(table[1]), image)


def discs(count: int) -> SceneList:
    """Dark discs of 12 pixels on a bright noisy ground, in boxes of 14 x 12."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40] + 0.5
    scenes = []
    for number in range(count):
        pixels = rng.normal(200, 6, (40, 40, 3))
        disc = (rows - 20) ** 2 + (columns - 20) ** 2 <= 36
        pixels[disc] = rng.normal(80, 20, (int(disc.sum()), 3))
        image = ImageRef(encode(pixels.clip(0, 255).astype(np.uint8), "png"))
        objects = Objects.build([0], [[13, 14, 27, 26]])
        scenes.append(Scene(f"disc-{number}", 40, 40, image, objects))
    return SceneList(CLASSES, scenes)


@pytest.mark.parametrize(("way", "area"), [("mask", 168), ("box", 168), ("auto", 113)])
def test_an_object_without_a_mask_is_cut_as_the_job_says(way: Any, area: int) -> None:
    config = Config(cut=way, mirror=0.0)
    (scene,) = discs(1)
    cutout = cutout_of(scene, decode(scene), 0, 1.0, config)
    assert abs(float(cutout.core.sum()) - area) <= 0.05 * area
    assert cutout.by_box, "its label stays the annotator's box"
    left, top = cutout.label[:2] - scene.objects.boxes[0, :2]
    assert left == round(left) and top == round(top)


def test_an_example_is_one_whose_outline_is_known_if_any_is() -> None:
    plain = np.full((40, 40, 3), 200, np.uint8)
    flat = Scene(
        "flat", 40, 40, ImageRef(encode(plain, "png")), Objects.build([0], [[13, 14, 27, 27]])
    )
    box = np.array([0, 0, 14, 13], np.float32)  # as large as the box in which nothing is seen
    config = Config(cut="auto", blends=("none",), mirror=0.0)
    some = SceneList(CLASSES, [flat, *discs(1)])
    bank = Bank.of(some, some, config)
    rng = np.random.default_rng
    nearest = [bank.draw(0, rng(seed), box) for seed in range(8)]
    assert any(cutout is not None and not cutout.outlined for cutout in nearest)
    both = 0
    for seed in range(8):
        cutout = bank.draw(0, rng(seed), box, outlined=True)
        assert cutout is not None
        both += cutout.outlined
        assert cutout.mirror().outlined == cutout.turn().outlined == cutout.outlined
        assert cutout.at_size((30, 20)).outlined == cutout.outlined
    assert both >= 7, "eight draws of two objects miss one of them once in 128 times"
    none = SceneList(CLASSES, [flat])
    alone = Bank.of(none, none, config).draw(0, rng(0), box, outlined=True)
    assert alone is not None and not alone.outlined


def test_an_object_with_a_mask_is_cut_by_its_box_where_the_job_says_so() -> None:
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 3:7, 4:12] = True
    mask[0, 3, 4] = False
    one = scene([[4, 3, 12, 7]], [0], True, rle=tuple(masks.encode(mask)))
    by_mask = cutout_of(one, decode(one), 0, 1.0, Config(cut="auto"))
    by_box = cutout_of(one, decode(one), 0, 1.0, Config(cut="box"))
    assert not by_mask.by_box and 31 == by_mask.core.sum()
    assert by_box.by_box and 32 == by_box.core.sum()


def test_drawn_objects_keep_their_size_unless_the_job_zooms_and_turns_them() -> None:
    table = SceneList(CLASSES, [scene([[4, 2, 8, 18]], [0], False)])
    sides = {}
    for name, config in (
        ("plain", Config()),
        ("turned", Config(turns=True)),
        ("zoomed", Config(zoom=2.0)),
    ):
        bank = Bank.of(table, table, config)
        found = set()
        for seed in range(40):
            cutout = bank.draw(0, np.random.default_rng(seed))
            assert cutout is not None
            x0, y0, x1, y1 = cutout.box
            found.add((y1 - y0, x1 - x0))
        sides[name] = found
    assert {(16, 4)} == sides["plain"] and {(16, 4), (4, 16)} == sides["turned"]
    heights = [high for high, _ in sides["zoomed"]]
    assert 8 <= min(heights) < 11 and 25 < max(heights) <= 32
    assert Bank.of(table, table, Config()).draw(1, np.random.default_rng(0)) is None


@pytest.mark.parametrize("cut", [[0, 8, 6, 14], [8, 0, 14, 6], [14, 8, 20, 14], [8, 14, 14, 20]])
def test_an_object_at_any_border_is_taken_for_cut_off(cut: list[float]) -> None:
    there = scene([cut, [8, 8, 14, 14], [1, 1, 19, 19]], [0, 0, 0], False)
    table = SceneList(CLASSES, [there])
    assert Bank.of(table, table, HARD).inside.tolist() == [False, True, True]

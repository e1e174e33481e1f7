"""Sums over the images of a set: every image once, in order, whoever looked at it."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
from PIL import Image

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.survey.tally import LABEL_LESS, Tally, mean, quantile, tally

SIZE = (24, 32)
CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


def scene(name: str, value: int, classes: list[int]) -> Scene:
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[0, 0] = value
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    boxes = [(2 * k, 1, 2 * k + 3, 9) for k in range(len(classes))]
    return Scene(name, *SIZE, ImageRef(out.getvalue()), Objects.build(classes, boxes))


def broken(name: str) -> Scene:
    return Scene(name, *SIZE, ImageRef(b"no picture"), Objects.build([0], [(0, 0, 5, 5)]))


def counted(*scenes: Scene) -> tuple[Tally, list[tuple[int, int, str]]]:
    seen: list[tuple[int, int, str]] = []
    table = SceneList(CATEGORIES, list(scenes))
    return tally("toy:x", table, 1, lambda *told: seen.append(told)), seen


def test_images_that_cannot_be_read_take_no_place_and_are_counted() -> None:
    own, seen = counted(scene("a", 1, [0]), broken("b"), scene("c", 2, [1]))
    assert (2, [0, 2]) == (own.images, own.index.tolist())
    assert "c" == own.name_of(1), "the second that can be read"
    assert 1 == own.skipped.wrong.total()
    assert (3, 3, "images") == seen[-1], "progress counts what was looked at"


def test_a_class_is_counted_once_per_image_it_is_in() -> None:
    own, _ = counted(scene("a", 1, [0, 0, 1]), scene("b", 2, [0]))
    assert {0: 3, 1: 1} == dict(own.objects)
    assert {0: 2, 1: 1} == dict(own.images_of)
    assert {3: 1, 1: 1} == dict(own.per_image)
    assert 4 == own.num_objects


def test_images_without_an_object_are_odd_and_known_by_their_place_in_the_table() -> None:
    own, _ = counted(broken("x"), scene("a", 1, []), scene("b", 2, [0]))
    assert ["1"] == own.oddities.names[LABEL_LESS]


def test_marks_lie_in_the_order_of_the_images() -> None:
    own, _ = counted(scene("a", 1, [0]), scene("b", 2, [0]), scene("c", 1, [1]))
    pixels, labels = own.mark("pixels"), own.mark("labels")
    assert np.uint64 == pixels.dtype
    assert pixels[0] == pixels[2] != pixels[1]
    assert labels[0] == labels[1] != labels[2]


def test_the_readers_own_counts_are_kept_and_not_changed() -> None:
    table = SceneList(CATEGORIES, [broken("x"), scene("a", 1, [0])])
    table.skipped["clipped"] += 4
    own = tally("toy:x", table, 1, lambda *_: None)
    assert 4 == own.skipped["clipped"]
    assert {"clipped": 4} == dict(table.skipped), "the table may be opened again"


def test_a_quantile_is_the_smallest_value_with_the_share_at_or_below_it() -> None:
    counts = Counter({1: 2, 5: 1, 9: 1})
    shares = (0.0, 0.25, 0.5, 0.51, 0.75, 0.76, 1.0)
    assert [1, 1, 1, 5, 5, 9, 9] == [quantile(counts, share) for share in shares]


def test_of_nothing_there_is_no_middle() -> None:
    own, seen = counted()
    assert (0, 0) == (quantile(own.sides, 0.5), mean(own.sides))
    assert [] == seen

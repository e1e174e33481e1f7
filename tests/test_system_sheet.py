"""The sheet of the papers' comparisons: same layouts in a row, what was asked for first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.system_sheet import CELL, GAP, HEAD, Column, class_color, layout_picture, sheet
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.masks import encode as encode_masks
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList

CLASSES = (Category(1, "sky", isthing=False), Category(2, "car"))
SIZE = (10, 20)  # (H, W)


def scene_of(name: str, value: int, boxes: list[list[float]], labels: list[int]) -> Scene:
    pixels = np.full((*SIZE, 3), value, np.uint8)
    return Scene(name, *SIZE, ImageRef(encode(pixels, "png")), Objects.build(labels, boxes))


def painted(source: str, sample: int, value: int) -> Scene:
    scene = scene_of(f"{source}~{sample}", value, [], [])
    return replace(scene, provenance=Provenance(1, "boxes", "", source, "score"))


def cell(page: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    top, left = HEAD + row * (CELL + GAP), GAP + column * (CELL + GAP)
    return page[top : top + CELL // 2, left : left + CELL]


def test_a_row_is_the_layout_its_image_and_the_first_sample_of_each_system() -> None:
    """Layouts that one system has not painted are left out; tables may have orders of their own."""
    real = SceneList(CLASSES, [scene_of(name, 10 * k, [], []) for k, name in enumerate("abc")])
    one = SceneList(CLASSES, [painted("c", 0, 52), painted("c", 1, 99), painted("a", 0, 50)])
    two = SceneList(CLASSES, [painted(name, 0, 70 + k) for k, name in enumerate("abc")])
    page = np.asarray(sheet(real, [Column("one", one), Column("two", two)], rows=6))
    values = []
    for row in range(2):
        for column in range(1, 4):
            shown = cell(page, row, column)
            assert shown.min() == shown.max()
            values.append(int(shown[0, 0, 0]))
    assert [0, 50, 70, 20, 52, 72] == values
    assert page.shape[0] == HEAD + 2 * (CELL + GAP)


def test_fewer_rows_are_spread_over_all_layouts() -> None:
    names = "abcdef"
    real = SceneList(CLASSES, [scene_of(name, 10 * k, [], []) for k, name in enumerate(names)])
    all_painted = SceneList(CLASSES, [painted(name, 0, 0) for name in names])
    page = np.asarray(sheet(real, [Column("one", all_painted)], rows=3))
    assert [0, 20, 40] == [int(cell(page, row, 1)[0, 0, 0]) for row in range(3)]


def test_systems_that_have_no_layout_in_common_have_no_sheet() -> None:
    real = SceneList(CLASSES, [scene_of("a", 0, [], [])])
    with pytest.raises(SystemExit, match="no layout was painted by all"):
        sheet(real, [Column("one", SceneList(CLASSES, []))], rows=3)


def test_a_layout_shows_masks_where_there_are_some_and_small_objects_on_top() -> None:
    scene = scene_of("a", 0, [[0, 0, 20, 10], [4, 2, 8, 6], [12, 2, 18, 6]], [0, 1, 1])
    mask = np.zeros((1, *SIZE), bool)
    mask[0, 2:6, 12:14] = True
    (rle,) = encode_masks(mask)
    objects = replace(scene.objects, rle=(None, None, rle))
    reversed_order = objects.select([2, 1, 0])
    sky, car = class_color(0, 2), class_color(1, 2)
    assert sky != car
    for order in (objects, reversed_order):
        picture = layout_picture(scene.with_objects(order), CLASSES)
        assert tuple(picture[3, 6]) == car
        assert tuple(picture[3, 13]) == car
        assert tuple(picture[3, 16]) == sky  # of the box, but not of the mask

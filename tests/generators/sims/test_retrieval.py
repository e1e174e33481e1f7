from __future__ import annotations

import numpy as np
import pytest

from synthaug.generators.sims.retrieval import Bytes, ShapeIndex, grid_of, shape_of
from synthaug.generators.sims.segments import Flags, Ints

GRID = (32, 64)


def rectangles(count: int, seed: int = 0) -> list[Flags]:
    """Rectangles and parts of them, in frames of 64 x 128 pixels."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = np.zeros((64, 128), bool)
        top, left = rng.integers(0, (50, 100))
        height, width = rng.integers(4, (40, 60))
        mask[top : top + height, left : left + width] = True
        masks.append(mask & (rng.random((64, 128)) < 0.9))
    return masks


def direct(masks: list[Flags], query: Flags, count: int, allowed: Ints) -> list[int]:
    """The nearest shapes by comparing all, ties by their number."""
    bits = [np.unpackbits(shape_of(mask, GRID)) for mask in masks]
    wanted = np.unpackbits(shape_of(query, GRID))
    ious = {}
    for number in allowed.tolist():
        shared = int((bits[number] & wanted).sum())
        if shared:
            ious[number] = shared / int((bits[number] | wanted).sum())
    return sorted(ious, key=lambda number: (-ious[number], number))[:count]


@pytest.mark.parametrize("count", [1, 3, 500])
def test_the_nearest_are_those_of_a_direct_comparison(count: int) -> None:
    masks = rectangles(120)
    masks += masks[:20]  # ties
    shapes: Bytes = np.stack([shape_of(mask, GRID) for mask in masks])
    categories = np.arange(140) % 2
    images = np.arange(140) // 7
    index = ShapeIndex(shapes, categories, images)
    allowed = np.arange(20) % 3 > 0
    for query in rectangles(15, seed=1):
        for category in (0, 1):
            numbers = np.flatnonzero(categories == category)
            expected = direct(masks, query, count, numbers)
            shape = shape_of(query, GRID)
            assert expected == index.nearest(shape, category, count).tolist()
            some = numbers[allowed[images[numbers]]]
            found = index.nearest(shape, category, count, allowed)
            assert direct(masks, query, count, some) == found.tolist()


def test_a_class_without_segments_and_an_empty_shape_find_none() -> None:
    mask = rectangles(1)[0]
    index = ShapeIndex(shape_of(mask, GRID)[None], np.array([3]), np.array([0]))
    assert index.nearest(shape_of(mask, GRID), 3).tolist() == [0]
    assert index.nearest(shape_of(mask, GRID), 2).tolist() == []
    assert index.nearest(shape_of(np.zeros_like(mask), GRID), 3).tolist() == []
    nothing = ShapeIndex(np.zeros((0, 256), np.uint8), np.zeros(0, int), np.zeros(0, int))
    assert nothing.nearest(shape_of(mask, GRID), 3).tolist() == []


def test_a_thin_shape_keeps_its_fullest_cells() -> None:
    mask = np.zeros((256, 512), bool)
    mask[:, 100:102] = True
    filled = np.unpackbits(shape_of(mask, GRID)).reshape(GRID)
    assert filled.sum() == 32 and filled[:, 12].all()


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4 / 3, 2.0])
def test_shapes_fill_whole_words(ratio: float) -> None:
    rows, columns = grid_of(ratio)
    assert rows * columns % 64 == 0 and abs(columns / rows - ratio) < 0.05

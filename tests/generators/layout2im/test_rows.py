"""Rows of objects, their order, and the pixels of their boxes."""

from __future__ import annotations

import torch

from synthaug.generators.base import Layouts
from synthaug.generators.layout2im.rows import rasters, rows_of, shuffled
from tests.generators.layout2im.scenes import layouts_of


def test_rows_are_the_objects_of_the_images_in_the_order_of_slots() -> None:
    rows = rows_of(layouts_of((1, 3, 0)))
    assert rows.labels.tolist() == [1, 1, 2, 3]
    assert rows.image_of.tolist() == [0, 1, 1, 1]
    assert rows.counts.tolist() == [1, 3, 0]


def test_slots_between_objects_may_be_empty() -> None:
    labels = torch.tensor([[0, 2, 0, 4]])
    rows = rows_of(Layouts(labels, torch.rand(1, 4, 4), torch.ones(1, 4)))
    assert rows.packed.tolist() == [[True, True]]
    assert rows_of(layouts_of((0,))).packed.shape == (1, 0)


def test_another_order_keeps_objects_whole_and_padding_last() -> None:
    layouts = layouts_of((1, 3))
    orders = set()
    for seed in range(20):
        other = shuffled(layouts, torch.Generator().manual_seed(seed))
        assert other.labels[0].tolist() == [1, 0, 0]
        orders.add(tuple(other.labels[1].tolist()))
        for slot, label in enumerate(other.labels[1].tolist()):
            assert torch.equal(other.boxes[1, slot], layouts.boxes[1, label - 1])
    assert len(orders) == 6


def test_pixels_are_those_between_rounded_corners_and_one_at_least() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.5, 1.0], [0.3, 0.3, 0.31, 0.31], [0.99, 0.99, 1.0, 1.0]])
    pixels = rasters(boxes, 10)
    assert pixels.sum((1, 2)).tolist() == [4 * 8, 1, 1]
    assert pixels[0, 2:, 1:5].eq(1).all()
    assert pixels[1, 3, 3] == 1
    assert pixels[2, 9, 9] == 1

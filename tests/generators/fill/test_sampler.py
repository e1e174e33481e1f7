"""Edits: what is painted where, which objects see which, and that the rest of a photo stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators.base import Edit, Photo, SamplerOptions
from synthaug.generators.fill.edits import insertion, paint_boxes, resolution_of
from synthaug.generators.fill.geometry import Window
from synthaug.generators.fill.sampler import FillSampler
from tests.generators.fill.fill_windows import SMALL, random_network

RNG = np.random.default_rng(3)


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def edit(image: np.ndarray, new: np.ndarray, categories: list[int]) -> Edit:
    there = Photo(image, np.array([1]), boxes((2, 2, 20, 14)))
    return Edit(there, np.array(categories, np.int64), new)


@pytest.fixture(scope="module")
def sampler() -> FillSampler:
    return FillSampler(random_network(), SamplerOptions())


def test_smaller_boxes_are_painted_in_front() -> None:
    canvas = paint_boxes(np.array([0, 2]), boxes((2, 2, 4, 4), (0, 0, 6, 6)), 8)
    assert canvas[3, 3] == 1
    assert canvas[1, 1] == 3
    assert canvas[7, 7] == 0


def test_no_box_paints_nothing() -> None:
    assert not paint_boxes(np.zeros(0, np.int64), boxes(), 8).any()


def test_the_painted_object_is_not_its_own_neighbour() -> None:
    empty = Photo(photo(), np.zeros(0, np.int64), boxes())
    task = insertion(empty, 2, boxes((20, 10, 40, 30))[0], SMALL)
    assert not task.content.neighbours.any()
    assert task.content.labels.tolist() == [2]
    assert task.content.box.sum() < task.content.region.sum()


def test_small_windows_take_the_small_resolution() -> None:
    sides = {side: resolution_of(Window(0, 0, side), SMALL) for side in (16, 19, 20, 32, 500)}
    assert sides == {16: 16, 19: 16, 20: 32, 32: 32, 500: 32}


def test_only_pixels_near_the_new_boxes_change(sampler: FillSampler) -> None:
    image = photo()
    (photo_after,) = sampler.edit([edit(image, boxes((30, 10, 42, 22)), [0])], [5])
    masks = photo_after.masks
    changed = (photo_after.image != image).any(2)
    assert changed[12:20, 32:40].mean() > 0.9
    outside = np.ones_like(changed)
    outside[4:28, 24:48] = False
    assert not changed[outside].any()
    assert masks.shape == (1, 40, 60)
    assert not masks[0][outside].any()


def test_masks_are_zero_outside_and_at_most_one(sampler: FillSampler) -> None:
    masks = sampler.edit([edit(photo(), boxes((30, 10, 42, 22)), [0])], [5])[0].masks
    assert masks.min() >= 0
    assert 0 < masks.max() <= 1


def test_an_edit_without_new_objects_is_the_photo(sampler: FillSampler) -> None:
    image = photo()
    (edited,) = sampler.edit([edit(image, boxes(), [])], [5])
    assert np.array_equal(edited.image, image)
    assert edited.masks.shape == (0, 40, 60)


def test_an_image_depends_on_its_own_edit_and_seed_only(sampler: FillSampler) -> None:
    first = edit(photo(), boxes((30, 10, 42, 22), (5, 20, 25, 38)), [0, 2])
    other = edit(photo(30, 50), boxes((10, 10, 20, 20)), [1])
    together = sampler.edit([other, first], [1, 2])[1].image
    alone = sampler.edit([first], [2])[0].image
    assert np.abs(together.astype(int) - alone).max() <= 1
    elsewhere = sampler.edit([first], [3])[0].image
    assert not np.array_equal(alone, elsewhere)


def test_later_objects_see_earlier_ones(sampler: FillSampler) -> None:
    image = photo()
    far, near = boxes((44, 4, 58, 12)), boxes((10, 18, 22, 30))
    later = boxes((20, 20, 34, 34))
    results = []
    for first in (far, near):
        both = np.concatenate([first, later])
        (edited,) = sampler.edit([edit(image, both, [0, 2])], [5])
        results.append(edited.image[26:32, 27:33])
    assert not np.array_equal(*results)


def test_samples_of_one_size_are_stacked(sampler: FillSampler) -> None:
    edits = [edit(photo(), boxes((30, 10, 42, 22)), [0]), edit(photo(), boxes(), [])]
    samples = sampler.sample(edits, [1, 2])
    assert samples.images.shape == (2, 40, 60, 3)
    assert samples.masks is not None
    assert samples.masks.shape == (2, 1, 40, 60)
    assert not samples.masks[1].any()


def test_height_and_width_are_not_swapped(sampler: FillSampler) -> None:
    image = photo(30, 90)
    (edited,) = sampler.edit([edit(image, boxes((70, 8, 84, 20)), [0])], [5])
    changed = (edited.image != image).any(2)
    assert changed[:, 60:].any()
    assert not changed[:, :60].any()
    assert torch.is_grad_enabled()

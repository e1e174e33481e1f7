"""Windows to learn from.

Which objects they show, and that the network is told what was done to them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from synthaug.generators.base import Photo
from synthaug.generators.fill.config import Loop
from synthaug.generators.fill.drawing import draw_windows
from synthaug.generators.fill.windows import Windows
from tests.generators.fill.fill_windows import CLASSES, LOOP, SMALL, random_photo

ONLY_OBJECTS = replace(LOOP, background=0.0, ring=0.0)


def many(photo: Photo, loop: Loop = LOOP, count: int = 200) -> list[Windows]:
    return draw_windows([photo] * count, SMALL, loop, CLASSES, seed=3)


def labels_of(groups: list[Windows]) -> Counter[int]:
    return Counter(torch.cat([windows.labels for windows in groups]).tolist())


def test_each_photo_gives_one_window_of_a_resolution_of_the_network() -> None:
    groups = draw_windows([random_photo(seed) for seed in range(9)], SMALL, LOOP, CLASSES, seed=1)
    assert sum(len(windows) for windows in groups) == 9
    assert {windows.pixels.shape[-1] for windows in groups} <= set(SMALL.resolutions)


def test_windows_are_a_function_of_the_seed() -> None:
    photos = [random_photo(seed) for seed in range(4)]
    first, same, other = (draw_windows(photos, SMALL, LOOP, CLASSES, seed) for seed in (1, 1, 2))
    for one, again in zip(first, same, strict=True):
        assert torch.equal(one.pixels, again.pixels)
    assert not torch.equal(first[0].pixels[0], other[0].pixels[0])


def test_the_kinds_of_windows_come_in_their_shares() -> None:
    loop = replace(LOOP, background=0.3, ring=0.2)
    sparse = random_photo(1, height=200, width=300, count=2)
    counts = labels_of(many(sparse, loop, 600))
    assert abs(counts[CLASSES] / 600 - 0.3) < 0.06  # background
    assert abs(counts[CLASSES + 1] / 600 - 0.2) < 0.06  # seams


def test_a_rare_class_is_drawn_as_often_as_a_frequent_one() -> None:
    image = random_photo(0, 100, 100).image
    corners = np.arange(10, dtype=np.float32)[:, None] * 8 + np.array([[2, 2, 10, 10]], np.float32)
    photo = Photo(image, np.array([0] * 9 + [2]), corners)
    counts = labels_of(many(photo, ONLY_OBJECTS, 400))
    assert set(counts) == {0, 2}
    assert abs(counts[2] / 400 - 0.5) < 0.1


def test_a_photo_shows_the_class_that_it_was_drawn_for() -> None:
    image = random_photo(0, 100, 100).image
    corners = np.arange(10, dtype=np.float32)[:, None] * 8 + np.array([[2, 2, 10, 10]], np.float32)
    photo = Photo(image, np.array([0] * 9 + [2]), corners, drawn_for=2)
    assert set(labels_of(many(photo, ONLY_OBJECTS, 30))) == {2}
    elsewhere = replace(photo, drawn_for=1)
    assert set(labels_of(many(elsewhere, ONLY_OBJECTS, 60))) == {0, 2}, "it has none of the class"


def test_a_photo_without_objects_gives_background() -> None:
    empty = Photo(random_photo(0).image, np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert labels_of(many(empty, count=20)) == Counter({CLASSES: 20})


def test_background_is_not_taken_from_under_objects() -> None:
    """Left half covered by one object: the middle of every background box lies to the right."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :50] = 255
    photo = Photo(image, np.array([0]), np.array([[0, 0, 50, 100]], np.float32))
    loop = replace(LOOP, background=0.999, ring=0.0)
    for windows in many(photo, loop, 60):
        background = windows.labels == CLASSES
        inside = windows.box[background] > 0
        brightness = windows.pixels[background].mean(1, keepdim=True)[inside]
        assert (brightness > 0.5).float().mean() < 0.15


def test_the_painted_object_is_no_neighbour_but_the_others_are() -> None:
    image = random_photo(0, 60, 60).image
    near = np.array([[20, 20, 32, 32], [34, 20, 40, 26]], np.float32)
    photo = Photo(image, np.array([0, 2]), near)
    for windows in many(photo, ONLY_OBJECTS, 30):
        for label, neighbours in zip(windows.labels.tolist(), windows.neighbours, strict=True):
            other = {0: 2, 2: 0}[label] + 1
            assert set(neighbours.unique().tolist()) <= {0, other}


def test_changed_colors_are_told_and_can_be_taken_back() -> None:
    """An object in the middle of grey: brightness plus tint is the whole difference."""
    image = np.full((60, 60, 3), 127, np.uint8)
    photo = Photo(image, np.array([1]), np.array([[20, 20, 32, 32]], np.float32))
    changed = 0
    for windows in many(photo, ONLY_OBJECTS, 40):
        told = windows.augmentations
        expected = 127 / 127.5 - 1 + told[:, :1] + told[:, 1:]
        torch.testing.assert_close(windows.pixels.mean((2, 3)), expected, atol=1e-3, rtol=0)
        changed += int((told != 0).any(1).sum())
    assert 8 < changed < 32


def test_turning_moves_pixels_boxes_and_sizes_alike() -> None:
    """A wide white object on black stays white inside its box, whichever way it was turned."""
    image = np.zeros((80, 80, 3), np.uint8)
    image[36:44, 28:52] = 255
    photo = Photo(image, np.array([1]), np.array([[28, 36, 52, 44]], np.float32))
    turned = 0
    for windows in many(photo, replace(ONLY_OBJECTS, turns=True), 40):
        plain = ~(windows.augmentations != 0).any(1)
        inside = windows.box[plain].expand(-1, 3, -1, -1) > 0
        assert windows.pixels[plain][inside].mean() > 0.7
        upright = windows.box.amax(3).sum((1, 2)) > windows.box.amax(2).sum((1, 2))
        assert torch.equal(upright, windows.sizes[:, 1] > windows.sizes[:, 0])
        turned += int(upright.sum())
    assert 8 < turned < 32


def test_without_turns_images_keep_their_left_and_up() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    image[:, :26] = 255
    photo = Photo(image, np.array([1]), np.array([[20, 20, 32, 32]], np.float32))
    for windows in many(photo, ONLY_OBJECTS, 30):
        left, right = windows.pixels[..., 0], windows.pixels[..., -1]
        assert bool((left.mean((1, 2)) > right.mean((1, 2))).all())

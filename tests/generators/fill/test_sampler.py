"""Edits.

What is painted where, which objects see which, and that the rest of a photo stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug.generators.base import Edit, Painting, Photo, SamplerOptions
from synthaug.generators.fill.edits import (
    paint_boxes,
    resolution_of,
    task_of,
    window_around,
)
from synthaug.generators.fill.geometry import Window, cut, put_back
from synthaug.generators.fill.sampler import SEED_STRIDE, FillSampler, WindowSampler
from synthaug.generators.fill.windows import Windows
from tests.generators.fill.fill_windows import CLASSES, SMALL, random_network

RNG = np.random.default_rng(3)


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def edit(image: np.ndarray, new: np.ndarray, categories: list[int]) -> Edit:
    pairs = zip(categories, new, strict=True)
    return Edit(labelled(image), [Painting(label, box) for label, box in pairs])


def labelled(image: np.ndarray) -> Photo:
    """Return a photo with one object of class 1."""
    return Photo(image, np.array([1]), boxes((2, 2, 20, 14)))


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
    insertion = Edit(empty, [Painting(2, boxes((20, 10, 40, 30))[0])])
    task = task_of(insertion, 0, empty.image, SMALL, CLASSES)
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


OWN = boxes((2, 2, 20, 14))[0]


def test_a_redrawn_object_is_not_its_own_neighbour_and_later_ones_see_it() -> None:
    there = labelled(photo())
    far = Painting(2, boxes((30, 20, 50, 36))[0])
    redrawn = Edit(there, [Painting(1, OWN, replaces=0), far])
    first, second = (redrawn.seen_by(number, there.image) for number in (0, 1))
    assert 0 == len(first.boxes)
    assert [1] == second.categories.tolist()
    assert OWN.tolist() == second.boxes[0].tolist()


def test_what_was_erased_is_no_neighbour() -> None:
    there = labelled(photo())
    erased = Edit(there, [Painting(1, OWN, "background", 0), Painting(2, OWN)])
    assert 0 == len(erased.seen_by(1, there.image).boxes)


def test_background_is_told_no_class_and_a_seam_any() -> None:
    there = labelled(photo())
    paintings = [Painting(1, OWN, shows) for shows in ("object", "background", "seam")]
    labels, regions = [], []
    for number in range(3):
        task = task_of(Edit(there, paintings), number, there.image, SMALL, CLASSES)
        labels.append(int(task.content.labels))
        regions.append(task.content.region[0, 0])
    assert [1, CLASSES, CLASSES + 1] == labels
    assert torch.equal(regions[0], regions[1])
    middle = len(regions[2]) // 2
    assert regions[0][middle, middle] == 1 and regions[2][middle, middle] == 0


def test_a_seam_leaves_the_pasted_object_and_what_is_far_from_it(sampler: FillSampler) -> None:
    image = photo(60, 80)
    mask = np.zeros((60, 80), bool)
    mask[20:44, 30:62] = True
    box = boxes((30, 20, 62, 44))[0]
    pasted = Photo(image, np.array([0]), box[None])
    for own_mask in (mask, None):
        edit = Edit(pasted, [Painting(0, box, "seam", 0, own_mask)])
        (edited,) = sampler.edit([edit], [3])
        changed = (edited.image != image).any(2)
        assert changed[19:22, 40:50].mean() > 0.5
        assert not changed[30:34, 42:50].any()
        assert not changed[:8].any() and not changed[56:].any()
        assert edited.masks[0, 20, 45] > 0.9 and edited.masks[0, 32, 46] == 0


def test_a_seam_follows_the_outline_of_a_mask_and_not_its_box() -> None:
    image = photo(60, 80)
    mask = np.zeros((60, 80), bool)
    mask[20:44, 30:38] = True
    mask[38:44, 30:62] = True  # an L: the upper right of the box is empty
    box = boxes((30, 20, 62, 44))[0]
    pasted = Photo(image, np.array([0]), box[None])
    edit = Edit(pasted, [Painting(0, box, "seam", 0, mask)])
    task = task_of(edit, 0, image, SMALL, CLASSES)
    shown = task.window.into(boxes((50, 21, 61, 30), (36, 22, 40, 34)), 32)
    region = task.content.region[0, 0]
    shares = []
    for x0, y0, x1, y1 in shown.round().astype(int).tolist():
        shares.append(float(region[y0:y1, x0:x1].mean()))
    assert shares[0] == 0, "far from the object, though inside its box"
    assert shares[1] > 0.5, "its outline"


def test_the_mask_of_background_is_its_whole_region(sampler: FillSampler) -> None:
    image = photo()
    (edited,) = sampler.edit([Edit(labelled(image), [Painting(1, OWN, "background", 0)])], [3])
    assert edited.masks[0, 4:12, 4:18].min() > 0.95
    assert not edited.masks[0, 20:].any(), "the window reaches from row -6 to row 22"
    assert not edited.masks[0, :, 30:].any()
    assert not np.array_equal(edited.image, image)


class Recorder(WindowSampler):
    """Paints gray; notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(SMALL, CLASSES)
        self.asked: list[tuple[list[int], list[int], bool]] = []

    def _fill(self, windows: Windows, seeds: Sequence[int], guided: bool) -> torch.Tensor:
        self.asked.append((windows.labels.tolist(), list(seeds), guided))
        return torch.zeros_like(windows.pixels)


def test_an_object_and_the_background_under_it_start_alike_and_only_the_object_is_guided() -> None:
    """So their difference is the object; each object of a photo has noise of its own."""
    recorder = Recorder()
    new = boxes((30, 10, 42, 22), (5, 20, 25, 38))
    recorder.edit([edit(photo(), new, [0, 2])], [7])
    seeds = [7, 7 + SEED_STRIDE]
    expected = []
    for label, seed in zip((0, 2), seeds, strict=True):
        expected += [([label], [seed], True), ([CLASSES], [seed], False)]
    assert recorder.asked == expected


@pytest.mark.parametrize(
    ("longer", "side", "resolution"),
    [(8, 24, 32), (12, 32, 32), (20, 32, 32), (25, 32, 32), (60, 96, 32)],
)
def test_a_window_has_the_pixels_of_the_image_where_its_box_allows_it(
    longer: int, side: int, resolution: int
) -> None:
    """Boxes of a third to four fifths of a window; smaller ones are enlarged, larger shrunk."""
    middle = 100.0
    box = np.array([middle - longer / 2, middle - 4, middle + longer / 2, middle + 4], np.float32)
    window, seen_at = window_around(box, replace(SMALL, resolutions=(32,)))
    assert (window.side, seen_at) == (side, resolution)
    assert window.left == window.top == middle - side / 2


def test_what_is_put_back_from_a_window_of_native_scale_is_as_fine_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    box = np.array([20, 24, 44, 40], np.float32)
    for resolution, is_same in ((32, True), (16, False)):
        window, side = window_around(box, replace(SMALL, resolutions=(resolution,)))
        pixels = cut(image, window, side)
        again = put_back(image, window, pixels, torch.ones(side, side))
        assert np.array_equal(again, image) is is_same

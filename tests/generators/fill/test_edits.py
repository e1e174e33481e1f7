"""The window of a painting: what is cut, what is told of it, which region is painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug.generators.base import Edit, Painting, Photo
from synthaug.generators.fill.edits import (
    Task,
    content,
    paint_boxes,
    resolution_of,
    task_of,
    window_around,
)
from synthaug.generators.fill.geometry import (
    Window,
    cut,
    cut_mask,
    object_region,
    ring_region,
    seam_of,
)
from tests.generators.fill.fill_windows import CLASSES, SMALL

H, W = 40, 60
BOX = np.array([20, 12, 34, 24], np.float32)


def photo(*rows: tuple[int, tuple[float, float, float, float]]) -> Photo:
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    return Photo(image, np.array([label for label, _ in rows], np.int64), boxes)


def task(painting: Painting, there: Photo | None = None) -> Task:
    there = photo() if there is None else there
    return task_of(Edit(there, [painting]), 0, there.image, SMALL, CLASSES)


def test_the_pixels_are_those_of_the_window_around_the_box() -> None:
    there = photo()
    own = task(Painting(1, BOX), there)
    around = Window.around(BOX, SMALL.surroundings)
    assert around.side < own.window.side == own.resolution  # as large as it is painted
    assert around.with_side(own.resolution) == own.window
    assert torch.equal(cut(there.image, own.window, own.resolution), own.content.pixels[0])
    assert 1 == len(own.content)


def test_later_paintings_see_the_image_as_it_is_then() -> None:
    there = photo()
    now = np.zeros_like(there.image)
    own = task_of(Edit(there, [Painting(1, BOX)]), 0, now, SMALL, CLASSES)
    assert (own.content.pixels == -1).all()


@pytest.mark.parametrize(
    ("shows", "label"), [("object", 1), ("background", CLASSES), ("seam", CLASSES + 1)]
)
def test_the_label_says_what_is_painted(shows: str, label: int) -> None:
    own = task(Painting(1, BOX, shows))  # type: ignore[arg-type]
    assert [label] == own.content.labels.tolist()
    assert shows == own.shows


def test_a_seam_without_a_mask_is_a_ring_and_with_one_its_outline() -> None:
    mask = np.zeros((H, W), bool)
    mask[14:22, 24:30] = True
    ring = task(Painting(1, BOX, "seam"))
    outline = task(Painting(1, BOX, "seam", mask=mask))
    box = ring.window.into(BOX[None], ring.resolution)[0]
    assert torch.equal(ring_region(box, ring.resolution), ring.content.region[0, 0])
    there = cut_mask(mask, outline.window, outline.resolution)
    assert torch.equal(seam_of(there, box), outline.content.region[0, 0])
    assert not torch.equal(ring.content.region, outline.content.region)
    object_task = task(Painting(1, BOX))
    whole = object_region(box, SMALL.margin, object_task.resolution)
    assert torch.equal(whole, object_task.content.region[0, 0])


def test_the_box_that_is_told_is_the_tight_one_in_the_window() -> None:
    own = task(Painting(1, BOX))
    rows, columns = np.nonzero(own.content.box[0, 0].numpy())
    scale = own.resolution / own.window.side
    assert (columns.max() - columns.min() + 1) == pytest.approx(14 * scale, abs=1)
    assert (rows.max() - rows.min() + 1) == pytest.approx(12 * scale, abs=1)
    assert torch.equal(own.window.sizes(BOX), own.content.sizes[0])
    assert not own.content.augmentations.any()


def test_neighbours_are_the_objects_in_the_window_alone() -> None:
    there = photo((2, (35, 12, 44, 24)), (0, (55, 0, 60, 4)))
    own = task(Painting(1, BOX), there)
    seen = set(own.content.neighbours.unique().tolist())
    assert {0, 3} == seen, "class + 1 of the near one; the far one is not seen"
    columns = np.nonzero(own.content.neighbours[0].numpy())[1]
    assert columns.min() > own.resolution / 2, "it lies to the right"


def test_a_larger_window_has_the_larger_resolution() -> None:
    small = task(Painting(1, np.array([20, 12, 24, 15], np.float32)))
    large = task(Painting(1, np.array([5, 5, 50, 35], np.float32)))
    assert (32, 32) == (large.resolution, large.content.pixels.shape[-1])
    assert small.resolution <= large.resolution


def test_content_may_be_asked_for_any_region_and_label() -> None:
    there = photo()
    window = Window(4, 4, 16)
    region = torch.eye(16)
    own = content(there, window, 16, region, 2, BOX)
    assert torch.equal(region, own.region[0, 0])
    assert [2] == own.labels.tolist()
    moved = content(there, replace(window, left=5), 16, region, 2, BOX)
    assert torch.equal(own.pixels[..., 1:], moved.pixels[..., :-1])


def test_of_equal_boxes_the_later_one_is_in_front() -> None:
    boxes = np.array([[1, 1, 5, 5], [1, 1, 5, 5]], np.float32)
    assert {0, 3} == set(paint_boxes(np.array([0, 2]), boxes, 8).unique().tolist())


def test_of_two_boxes_the_smaller_one_is_in_front_wherever_it_is_listed() -> None:
    large, small = [1, 1, 7, 7], [3, 3, 5, 5]
    for order in ([0, 1], [1, 0]):
        boxes = np.array([large, small], np.float32)[order]
        shown = paint_boxes(np.array([0, 2])[order], boxes, 8)
        assert shown[4, 4] == 3 and shown[1, 1] == 1


@pytest.mark.parametrize(("side", "resolution"), [(19, 16), (20, 32), (90, 32)])
def test_a_window_is_seen_at_the_smallest_resolution_that_loses_little(
    side: int, resolution: int
) -> None:
    assert resolution_of(Window(0, 0, side), SMALL) == resolution


@pytest.mark.parametrize(
    ("longer", "native"),
    [(10, False), (11, True), (25, True), (26, False)],  # 32 pixels around 10 show too much
)
def test_a_window_has_the_images_own_pixels_where_that_shows_enough_and_not_too_much(
    longer: int, native: bool
) -> None:
    box = np.array([10, 10, 10 + longer, 12], np.float32)
    window, resolution = window_around(box, SMALL)
    assert native == (window.side == resolution)
    if not native:
        assert window == Window.around(box, SMALL.surroundings)

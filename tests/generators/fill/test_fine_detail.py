"""What is finer than a window's pixels comes from the example, where it was painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import Edit, Example, Painting, Photo, SamplerOptions
from synthaug.generators.fill.edits import (
    Task,
    brought_to,
    shows_example,
    task_of,
    with_fine_detail,
)
from synthaug.generators.fill.geometry import resized
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.sampler import FillSampler
from tests.generators.fill.fill_windows import CLASSES, SMALL

CONFIG = replace(SMALL, resolutions=(16,))
BOX = np.array([40, 40, 70, 70], np.float32)  # its window of 48 pixels is seen at 16
BLUE = (0, 0, 255)


def striped() -> Example:
    """Return an object of 30 pixels with stripes of one pixel, which 16 pixels cannot show."""
    pixels = np.full((30, 30, 3), 90, np.uint8)
    pixels[:, ::2] = 150
    return Example(pixels, np.ones((30, 30), np.float32))


def photo() -> Photo:
    """Return a plain blue photo."""
    image = np.zeros((110, 110, 3), np.uint8) + np.array(BLUE, np.uint8)
    return Photo(image, np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


def task_for(painting: Painting) -> Task:
    there = photo()
    return task_of(Edit(there, [painting]), 0, there.image, CONFIG, CLASSES)


def as_shown(task: Task) -> Tensor:
    """Return the window [3, S, S] painted exactly as the example."""
    colors, mask = task.content.example[0, :3], task.content.example[0, 3:]
    return colors + (1 - mask) * task.content.pixels[0]


def test_the_stripes_of_the_example_come_back_where_it_was_painted() -> None:
    painting = Painting(0, BOX, example=striped())
    task = task_for(painting)
    assert (task.window.side, task.resolution) == (48, 16)
    fine = with_fine_detail(as_shown(task), task, painting)
    assert fine.shape == (3, 48, 48)
    in_window = task.window.into(BOX[None], 48)[0]
    expected = brought_to(striped(), in_window, 48)
    left, top, right, bottom = (int(edge) for edge in in_window)
    inner = (slice(None), slice(top + 4, bottom - 4), slice(left + 4, right - 4))
    swing = float(expected[:3][inner].amax() - expected[:3][inner].amin())
    assert swing > 0.4
    assert float((fine - expected[:3])[inner].abs().mean()) < 0.06
    enlarged = resized(as_shown(task)[None], 48)[0]
    assert float((enlarged - expected[:3])[inner].abs().mean()) > 0.2


def test_what_was_painted_in_other_colors_gets_no_detail() -> None:
    painting = Painting(0, BOX, example=striped())
    task = task_for(painting)
    green = -torch.ones(3, 16, 16)
    green[1] = 1
    fine = with_fine_detail(green, task, painting)
    torch.testing.assert_close(fine, resized(green[None], 48)[0], atol=0.01, rtol=0)


def test_a_plain_object_gets_no_rim_from_its_mask() -> None:
    """Its mask ends at once, its colors do not: there is no detail, at its edge neither."""
    example = Example(np.full((30, 30, 3), 40, np.uint8), np.ones((30, 30), np.float32))
    painting = Painting(0, BOX, example=example)
    task = task_for(painting)
    painted = as_shown(task)
    fine = with_fine_detail(painted, task, painting)
    torch.testing.assert_close(fine, resized(painted[None], 48)[0], atol=0.01, rtol=0)


def test_a_window_of_native_scale_stays_as_it_is() -> None:
    small = np.array([40, 40, 48, 48], np.float32)
    painting = Painting(0, small, example=striped())
    task = task_for(painting)
    assert task.window.side == task.resolution
    painted = as_shown(task)
    assert with_fine_detail(painted, task, painting) is painted


def test_without_an_example_there_is_no_detail() -> None:
    painting = Painting(0, BOX)
    task = task_for(painting)
    painted = task.content.pixels[0]
    assert with_fine_detail(painted, task, painting) is painted


def test_pixels_show_an_example_by_its_mask_and_its_colors() -> None:
    example = torch.zeros(1, 4, 1, 3)
    example[0, :, 0, :2] = torch.tensor([0.5, 0.5, 0.5, 1.0])[:, None]  # the third shows nothing
    painted = torch.full((1, 3, 1, 3), 0.5)
    painted[0, :, 0, 1] = -0.5  # a difference of four times AGREES
    shown = shows_example(painted, example)[0, 0]
    assert shown[0] == 1
    assert shown[1] < 1e-6
    assert shown[2] == 0


def test_an_object_of_the_background_s_colors_has_a_mask() -> None:
    """Nothing differs with and without it; the example says where it is."""
    network = FillNetwork(CONFIG, CLASSES).eval()
    with torch.no_grad():
        assert network.conv_out.bias is not None
        network.conv_out.bias[3] = 1.0  # the gate alone, wide open
    blue = np.zeros((8, 8, 3), np.uint8) + np.array(BLUE, np.uint8)
    example = Example(blue, np.ones((8, 8), np.float32))
    box = np.array([40, 40, 48, 48], np.float32)
    edit = Edit(photo(), [Painting(0, box, example=example)])
    sampler = FillSampler(network, SamplerOptions())
    (edited,) = sampler.edit([edit], [3])
    inside = edited.masks[0, 42:46, 42:46]
    assert inside.min() > 0.5
    assert not edited.masks[0, :36].any()

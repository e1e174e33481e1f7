"""Flat boxes: class colors, edges and the order of the slots."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators.base import PAD_BOX, Layouts, SamplerOptions
from synthaug.generators.boxes import Boxes, BoxSampler, Config, build, sampler


def sampler_of(side: int = 8, classes: int = 3) -> BoxSampler:
    return sampler(build(Config(side), classes), SamplerOptions())


def layouts_of(labels: list[int], boxes: list[tuple[float, float, float, float]]) -> Layouts:
    return Layouts(torch.tensor([labels]), torch.tensor([boxes]), torch.ones(1, len(labels)))


def test_a_box_is_painted_from_its_left_upper_to_its_right_lower_corner() -> None:
    samples = sampler_of().sample(layouts_of([2], [(0.25, 0.5, 1.0, 0.75)]), [0])
    assert samples.masks is not None
    expected = np.zeros((8, 8))
    expected[4:6, 2:8] = 1
    np.testing.assert_array_equal(samples.masks[0, 0], expected)
    painted = (samples.images[0] != samples.images[0, 0, 0]).any(2)
    np.testing.assert_array_equal(painted, expected)


def test_of_equal_boxes_the_later_slot_is_on_top_in_image_and_masks() -> None:
    layouts = layouts_of([1, 2], [(0, 0, 0.75, 1), (0.25, 0, 1, 1)])
    samples = sampler_of().sample(layouts, [0])
    assert samples.masks is not None
    assert samples.masks[0, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert samples.masks[0, 1, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    colors = samples.images[0, 0].tolist()
    assert colors[1] != colors[2]
    assert colors[2] == colors[7]


def test_a_thing_is_seen_on_larger_stuff_whatever_its_slot() -> None:
    boxes = [(0.25, 0, 0.5, 1), (0, 0, 1, 1)]
    for order in ([0, 1], [1, 0]):
        layouts = layouts_of([order[0] + 1, order[1] + 1], [boxes[k] for k in order])
        samples = sampler_of().sample(layouts, [0])
        assert samples.masks is not None
        small, large = order.index(0), order.index(1)
        assert samples.masks[0, small, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
        assert samples.masks[0, large, 0].tolist() == [1, 1, 0, 0, 1, 1, 1, 1]
        assert samples.images[0, 0, 2].tolist() != samples.images[0, 0, 0].tolist()


def test_the_color_is_that_of_the_class_and_the_rest_is_grey() -> None:
    """Label k is row k of the palette: hue (k - 1) / K, the background first."""
    network = Boxes(Config(8), 3)
    samples = sampler_of().sample(layouts_of([1], [(0, 0, 0.5, 1)]), [0])
    assert samples.images[0, 0, 0].tolist() == [229, 68, 68]
    assert samples.images[0, 0, 7].tolist() == [127, 127, 127]
    assert network.palette.shape == (4, 3)
    assert network.palette[2].tolist() == pytest.approx([0.27, 0.9, 0.27])


def test_padding_paints_nothing_and_boxes_are_cut_at_the_border() -> None:
    samples = sampler_of().sample(layouts_of([1, 0], [(-1, 0.5, 0.5, 2), PAD_BOX]), [0])
    assert samples.masks is not None
    assert samples.masks[0, 1].max() == 0
    assert samples.masks[0, 0].sum() == 4 * 4
    assert samples.masks[0, 0, 4:, :4].min() == 1


def test_images_of_a_batch_are_painted_each_by_its_own_layout() -> None:
    labels = torch.tensor([[1], [3]])
    boxes = torch.tensor([[[0.0, 0, 0.5, 0.5]], [[0.5, 0.5, 1, 1]]])
    samples = sampler_of().sample(Layouts(labels, boxes, torch.ones(2, 1)), [0, 1])
    background = [127, 127, 127]
    assert samples.images[0, 7, 7].tolist() == background
    assert samples.images[1, 0, 0].tolist() == background
    assert samples.images[0, 0, 0].tolist() != samples.images[1, 7, 7].tolist()


def test_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="resolution: 0 is out of range; give 1 or more"):
        Config(0)

"""Sampling: masks are the boxes, and maps of another network are one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators import pix2pix
from synthaug.generators.base import Layouts, SamplerOptions
from synthaug.generators.pix2pix import maps as pix2pix_maps
from synthaug.generators.pix2pix.config import Config, MapConfig
from tests.generators.spade.networks import maps_of


def test_masks_are_the_visible_parts_of_the_boxes() -> None:
    config = Config(resolution=32, width=2, num_layers=1)
    sampler = pix2pix.sampler(pix2pix.build(config, 4), SamplerOptions())
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.75]], np.float32)
    layouts = Layouts.collate([np.array([1, 4])], [boxes], [np.ones(2)])
    samples = sampler.sample(layouts, [0])
    assert samples.masks is not None
    assert samples.images.shape == (1, 32, 32, 3)
    assert samples.masks[0].sum((1, 2)).tolist() == [32 * 32 - 8 * 16, 8 * 16]


def test_noise_is_the_images_own_wherever_it_stands_in_a_batch() -> None:
    config = Config(resolution=64, width=2, num_layers=1, noise=True)
    torch.manual_seed(0)
    sampler = pix2pix.sampler(pix2pix.build(config, 4), SamplerOptions())
    box = np.array([[0, 0, 1, 1]], np.float32)
    one, two = (Layouts.collate([np.array([1])] * n, [box] * n, [np.ones(1)] * n) for n in (1, 2))
    together = sampler.sample(two, [3, 9]).images
    assert np.array_equal(together[1], sampler.sample(one, [9]).images[0])
    assert not np.array_equal(together[0], together[1])


def test_maps_of_another_network_are_one_line() -> None:
    config = MapConfig(resolution=32, aspect_ratio=2.0, width=2, num_layers=1, dont_care=False)
    sampler = pix2pix_maps.sampler(pix2pix_maps.build(config, 4), SamplerOptions())
    assert sampler.sample(maps_of(16, 32, 4, seed=0), [0]).images.shape == (1, 16, 32, 3)
    for maps, text in (
        (maps_of(32, 32, 4, seed=0), "32 x 32 pixels, the generator paints 16 x 32"),
        (maps_of(16, 32, 5, seed=0), "5 classes, the generator has 4"),
    ):
        with pytest.raises(ValueError, match=text) as caught:
            sampler.sample(maps, [0])
        assert "\n" not in str(caught.value)

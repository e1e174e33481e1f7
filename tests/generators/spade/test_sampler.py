"""Sampling: an image depends on its own map and seed, and mistakes are one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthaug.generators import spade as spade_system
from synthaug.generators.base import Maps, SamplerOptions
from synthaug.generators.spade.sampler import draw_latent
from tests.generators.spade.networks import SMALL, maps_of, settled


def test_an_image_is_its_own_whatever_the_batch() -> None:
    config = replace(SMALL, vae=True, z=4)
    network = settled(spade_system.build(config, 5))
    sampler = spade_system.sampler(network, SamplerOptions())
    maps = maps_of(32, 32, 5, seed=4, count=3)
    together = sampler.sample(maps, [7, 8, 7]).images
    assert together.shape == (3, 32, 32, 3)
    one = Maps(maps.labels[1:2], maps.instances[1:2], 5)
    alone = sampler.sample(one, [8]).images
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    other = sampler.sample(one, [9]).images
    assert np.abs(other[0].astype(int) - alone[0]).max() > 1


def test_mistakes_are_one_line() -> None:
    network = spade_system.build(replace(SMALL, dont_care=False), 5)
    sampler = spade_system.sampler(network, SamplerOptions())
    wrong = [
        (maps_of(16, 32, 5, seed=0), "16 x 32 pixels"),
        (maps_of(32, 32, 4, seed=0), "4 classes"),
        (
            Maps(torch.full((1, 32, 32), 5), torch.zeros(1, 32, 32, dtype=torch.int64), 5),
            "don't care",
        ),
    ]
    for maps, text in wrong:
        with pytest.raises(ValueError, match=text) as caught:
            sampler.sample(maps, [0])
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="labels: 9 is not a class index 0 to 4"):
        Maps.collate([np.full((2, 2), 9)], [np.zeros((2, 2), np.int64)], 5)


def test_a_latent_code_is_drawn_from_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = draw_latent(300, 5)
    torch.manual_seed(2)
    assert torch.equal(first, draw_latent(300, 5))
    assert not torch.equal(first, draw_latent(300, 6))
    assert abs(float(first.mean())) < 0.2
    assert abs(float(first.std()) - 1) < 0.15


def test_colors_are_scaled_from_minus_one_and_one_to_bytes() -> None:
    sampler = spade_system.sampler(spade_system.build(SMALL, 3), SamplerOptions())
    values = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    sampler.network = lambda _maps, _z: values
    images = sampler.sample(maps_of(32, 32, 3, seed=0), [0]).images
    assert images.shape == (1, 32, 32, 3)
    assert images[0, 5, 6].tolist() == [0, 128, 255]


def test_no_maps_give_no_images() -> None:
    sampler = spade_system.sampler(spade_system.build(SMALL, 3), SamplerOptions())
    none = Maps(*(torch.zeros(0, 32, 32, dtype=torch.int64) for _ in range(2)), 3)
    sampler.network = lambda maps, _z: torch.zeros(len(maps.channel), 3, 32, 32)
    assert sampler.sample(none, []).images.shape == (0, 32, 32, 3)

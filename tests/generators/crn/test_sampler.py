"""Sampling: the seed chooses one of the images of a map, and maps of another network are told."""

from __future__ import annotations

import pytest
import torch

from synthaug.generators.base import SamplerOptions
from synthaug.generators.crn import build, sampler
from synthaug.generators.crn.config import Config
from synthaug.generators.crn.sampler import choose
from synthaug.generators.spade.semantics import semantics
from tests.generators.spade.networks import maps_of

CONFIG = Config(resolution=16, aspect_ratio=1.0, width=8, images=9)


def test_a_seed_chooses_one_of_the_images() -> None:
    network = build(CONFIG, 4)
    maps = maps_of(16, 16, 4, seed=0)
    made = sampler(network, SamplerOptions()).sample(maps, [5]).images
    with torch.inference_mode():
        every = network(semantics(maps, True, False).dense)[0]
    chosen = every[choose(9, 5)].permute(1, 2, 0)
    expected = ((chosen + 1) * 127.5).round().clamp(0, 255)
    pixels = torch.from_numpy(made[0]).float()
    assert (pixels - expected).abs().max() <= 1


def test_every_image_is_chosen_about_as_often() -> None:
    choices = [choose(9, seed) for seed in range(300)]
    counts = [choices.count(image) for image in range(9)]
    assert min(counts) > 10
    assert max(counts) < 60


def test_maps_of_another_network_are_one_line() -> None:
    own = sampler(build(CONFIG, 4), SamplerOptions())
    for maps, text in (
        (maps_of(16, 32, 4, seed=0), "16 x 32 pixels, the generator paints 16 x 16"),
        (maps_of(16, 16, 5, seed=0), "5 classes, the generator has 4"),
    ):
        with pytest.raises(ValueError, match=text) as caught:
            own.sample(maps, [0])
        assert "\n" not in str(caught.value)

"""Sampling.

Latents belong to seed and slot, the background's is drawn first, options choose the form.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.generators import lostgan as system
from synthaug.generators.base import Layouts, SamplerOptions
from synthaug.generators.lostgan import network as lostgan
from synthaug.generators.lostgan.fast import FastGenerator
from synthaug.generators.lostgan.sampler import LostGanSampler, draw_latents

TINY = {"resolution": 64, "width": 4, "z_image": 8, "z_object": 6, "embedding": 8, "mask_hidden": 8}


def sampler_of(options: SamplerOptions | None = None, **settings: object) -> LostGanSampler:
    torch.manual_seed(0)
    network = system.build(lostgan.Config(**(TINY | settings)), 5)
    return system.sampler(network, options or SamplerOptions())


def one_layout() -> Layouts:
    box = np.array([[0.1, 0.1, 0.6, 0.7]], np.float32)
    return Layouts.collate([np.array([2])], [box], [np.ones(1, np.float32)])


def test_a_slot_draws_the_same_whatever_slots_come_after_it() -> None:
    config = lostgan.Config(**TINY)
    z_image, few = draw_latents(config, 2, seed=5, truncation=2.0)
    z_image_again, many = draw_latents(config, 6, seed=5, truncation=2.0)
    assert few.shape == (2, 6) and many.shape == (6, 6)
    assert torch.equal(z_image, z_image_again) and torch.equal(few, many[:2])


@pytest.mark.parametrize(("truncation", "bounded"), [(0.5, True), (0.0, False)])
def test_no_element_lies_beyond_the_truncation(truncation: float, bounded: bool) -> None:
    z_image, z_objects = draw_latents(lostgan.Config(), 4, seed=1, truncation=truncation)
    largest = max(z_image.abs().max().item(), z_objects.abs().max().item())
    assert (largest <= 0.5) == bounded
    assert z_image.std() > 0.2


def test_the_background_has_the_last_slot_and_the_first_draw() -> None:
    config = {"background": True}
    _, few = sampler_of(**config).draw(1, [3, 4])
    _, many = sampler_of(**config).draw(4, [3, 4])
    assert few.shape == (2, 2, 6) and many.shape == (2, 5, 6)
    assert torch.equal(few[:, -1], many[:, -1])  # the background's
    assert torch.equal(few[:, 0], many[:, 0])
    _, drawn = draw_latents(lostgan.Config(**TINY, background=True), 2, 4, 2.0)
    assert torch.equal(drawn[0], few[1, -1])


def test_masks_of_the_background_are_not_returned() -> None:
    sampler = sampler_of(background=True)
    samples = sampler.sample(one_layout(), [7])
    assert samples.masks is not None and samples.masks.shape == (1, 1, 64, 64)


def test_changed_codes_change_the_image_and_the_drawn_ones_give_the_sample() -> None:
    sampler = sampler_of()
    z_image, z_objects = sampler.draw(1, [7])
    images, stacks = sampler.generate(one_layout(), z_image, z_objects)
    assert (images == sampler.sample(one_layout(), [7]).images).all()
    assert len(stacks) == sampler.num_stages
    others, _ = sampler.generate(one_layout(), -z_image, z_objects)
    assert (images != others).any()


def test_with_spade_in_the_place_of_isla_norm_the_network_itself_is_sampled() -> None:
    assert isinstance(sampler_of().network, FastGenerator)
    sampler = sampler_of(normalization="spade", spade_hidden=4)
    assert isinstance(sampler.network, lostgan.LostGanGenerator)
    assert not sampler.network.training
    images = sampler.sample(one_layout(), [1]).images
    assert images.shape == (1, 64, 64, 3) and images.std() > 0


def test_precision_chooses_the_type_of_the_weights() -> None:
    narrow = sampler_of(SamplerOptions(precision="bfloat16"))
    assert isinstance(narrow.network, FastGenerator)
    assert narrow.network.dtype == torch.bfloat16
    assert sampler_of().network.dtype == torch.float32

"""Sampling: codes belong to seed and slot, masks are boxes or inferred."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from synthaug.generators.base import SamplerOptions
from synthaug.generators.layout2im.rows import rasters
from synthaug.generators.layout2im.sampler import Layout2ImSampler
from tests.generators.layout2im.scenes import layouts_of, network_of


def sampler_of(truncation: float = 2.0, **settings: Any) -> Layout2ImSampler:
    return Layout2ImSampler(network_of(**settings), SamplerOptions(truncation=truncation))


def test_a_slot_draws_the_same_whatever_slots_come_after_it() -> None:
    few, many = sampler_of().draw(2, [5, 6]), sampler_of().draw(6, [5, 6])
    assert torch.equal(few, many[:, :2])
    assert few.abs().max() <= 2
    assert sampler_of(truncation=0.0).draw(200, [1]).abs().max() > 2


def test_masks_are_the_boxes_in_their_slots() -> None:
    layouts = layouts_of()
    masks = sampler_of().sample(layouts, [1, 2, 3]).masks
    assert masks is not None
    expected = rasters(layouts.boxes.flatten(0, 1), 64).view(3, 3, 64, 64)
    expected[layouts.labels == 0] = 0
    np.testing.assert_array_equal(masks, expected.numpy())


def test_masks_are_inferred_with_object_wise_attention() -> None:
    masks = sampler_of(owa=True).sample(layouts_of(), [1, 2, 3]).masks
    assert masks is not None
    assert 0 < masks[1, 0].max() < 1
    assert not masks[0, 1:].any()

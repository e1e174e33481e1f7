"""Sampling: noise belongs to the image, masks are given or predicted."""

from __future__ import annotations

import numpy as np
import torch

from synthaug.generators.base import SamplerOptions
from synthaug.generators.grid2im.sampler import Grid2ImSampler
from synthaug.generators.nn.layers import place_masks
from tests.generators.grid2im.scenes import network_of
from tests.generators.sg2im.scenes import layouts_of


def test_noise_is_an_images_own_and_the_same_for_its_objects() -> None:
    sampler = Grid2ImSampler(network_of(), SamplerOptions())
    graphs, noise = sampler.draw(layouts_of((2, 2)), [5, 6])
    first = noise[graphs.image_of == 0]
    assert torch.equal(first, first[:1].expand_as(first))
    assert not torch.equal(noise[0], noise[-1])
    _, alone = sampler.draw(layouts_of((3,)), [5])
    assert torch.equal(alone[0], noise[0])
    assert noise.abs().max() <= 2


def test_relations_are_drawn_by_an_images_own_seed() -> None:
    sampler = Grid2ImSampler(network_of(), SamplerOptions())
    drawn = []
    for first in (5, 7):
        graphs, _ = sampler.draw(layouts_of((3, 3)), [first, 6])
        drawn.append(graphs.triples)
    of_second = [triples[triples[:, 0] >= 4] for triples in drawn]
    assert torch.equal(of_second[0], of_second[1])
    assert not torch.equal(drawn[0], drawn[1])


def test_masks_of_the_layout_are_painted_where_they_are_known() -> None:
    layouts = layouts_of(masks=8)
    assert layouts.masks is not None
    sampler = Grid2ImSampler(network_of(), SamplerOptions())
    given = sampler.sample(layouts, [1, 2, 3])
    expected = place_masks(layouts.masks, layouts.boxes, 64, True).numpy()
    assert given.masks is not None
    np.testing.assert_allclose(given.masks, expected, atol=1e-6)
    predicted = sampler.sample(layouts_of(), [1, 2, 3])
    assert predicted.masks is not None
    assert np.abs(predicted.masks - expected).max() > 0.1

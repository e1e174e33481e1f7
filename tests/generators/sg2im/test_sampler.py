"""Sampling: what is given is painted, what is not is predicted, and seeds draw noise and graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.generators.nn.layers import place_masks
from synthaug.generators.sg2im.sampler import Sg2ImSampler
from tests.generators.sg2im.scenes import layouts_of, network_of

SEEDS = (1, 2, 3)


def sample(layouts: Layouts, **settings: Any) -> Samples:
    sampler = Sg2ImSampler(network_of(mask_side=4, **settings), SamplerOptions())
    return sampler.sample(layouts, SEEDS[: len(layouts)])


def test_masks_of_the_layout_are_painted_where_they_are_to_be() -> None:
    layouts = layouts_of(masks=4)
    assert layouts.masks is not None
    expected = place_masks(layouts.masks, layouts.boxes, 64, True).numpy()
    given = sample(layouts)
    assert given.masks is not None
    np.testing.assert_allclose(given.masks, expected, atol=1e-6)
    predicted = sample(layouts, given_masks=False)
    assert predicted.masks is not None
    assert np.abs(predicted.masks - expected).max() > 0.1
    assert np.abs(predicted.images.astype(int) - given.images.astype(int)).max() > 1


def test_boxes_come_from_the_graph_where_it_is_to_place_the_objects() -> None:
    layouts = layouts_of()
    assert sample(layouts).boxes is None
    samples = sample(layouts, given_boxes=False)
    assert samples.boxes is not None
    assert samples.boxes.shape == (3, 3, 4)
    assert not samples.boxes[1, 1:].any()
    assert samples.boxes.max() <= 1
    alone = sample(layouts_of((1,)), given_boxes=False)
    shifted = layouts_of((1,))
    shifted = replace(shifted, boxes=shifted.boxes + 0.1)
    assert alone.boxes is not None
    np.testing.assert_array_equal(alone.images, sample(shifted, given_boxes=False).images)


def test_an_image_can_be_stretched_to_all_grey_levels() -> None:
    images = sample(layouts_of(), stretch=True).images
    assert images.reshape(3, -1).min(1).tolist() == [0, 0, 0]
    assert images.reshape(3, -1).max(1).tolist() == [255, 255, 255]


def test_noise_and_relations_are_those_of_the_seed() -> None:
    sampler = Sg2ImSampler(network_of(mask_side=4), SamplerOptions())
    graphs, noise = sampler.draw(layouts_of((3, 3)), [5, 5])
    again, other = sampler.draw(layouts_of((3, 3)), [5, 6])
    assert torch.equal(noise[0], noise[1])
    assert torch.equal(noise[0], other[0])
    assert not torch.equal(noise[1], other[1])
    first = graphs.triples[graphs.triples[:, 0] < 4]
    assert torch.equal(first, again.triples[again.triples[:, 0] < 4])
    beside, own = sampler.draw(layouts_of((3, 3)), [7, 6])
    assert torch.equal(own[1], other[1])
    second = again.triples[again.triples[:, 0] >= 4]
    assert torch.equal(second, beside.triples[beside.triples[:, 0] >= 4])


def test_names_of_its_own_are_never_taken_for_places_of_boxes() -> None:
    sampler = Sg2ImSampler(network_of(relations=("__in_image__", "on")), SamplerOptions())
    layouts = layouts_of((3, 2))
    graphs, _ = sampler.draw(layouts, [5, 6])
    assert graphs.triples[:, 1].tolist() == [0] * 5
    relations = torch.tensor([[[0, 1, 2]], [[0, 0, 0]]])
    graphs, _ = sampler.draw(replace(layouts, relations=relations), [5, 6])
    assert [0, 1, 2] in graphs.triples.tolist()
    assert graphs.triples[:, 1].sum() == 1

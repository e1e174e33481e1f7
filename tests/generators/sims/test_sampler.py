from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from synthaug.generators import sims
from synthaug.generators.base import Maps, SamplerOptions
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.generator import Sims
from synthaug.generators.sims.sampler import back_to_front
from tests.generators.sims.test_bank import CLASSES, filled, map_with

CONFIG = Config(resolution=64, aspect_ratio=1.0, width=1)


def network_of(config: Config) -> Sims:
    torch.manual_seed(0)
    network = sims.build(config, CLASSES)
    network.bank = filled(config)
    return network


def dense(top: int) -> tuple[torch.Tensor, np.ndarray]:
    labels = map_with(top, 12)
    channels = torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES + 1)
    return channels.permute(2, 0, 1).float(), labels


def test_the_canvas_shows_the_nearest_segments_cut_to_the_map_or_whole() -> None:
    maps, labels = dense(14)
    square = labels == 1
    for follow in ("map", "canvas"):
        config = replace(CONFIG, follow=follow)
        sampler = sims.sampler(network_of(config), SamplerOptions())
        with torch.inference_mode():
            canvas = sampler.canvas(labels, 0, maps)
        real = map_with(10, 12) == 1
        shown = canvas.labels == 1
        expected = real & square if follow == "map" else real
        np.testing.assert_array_equal(shown, expected)
        levels = np.unique((255 * canvas.colors[shown]).round()).tolist()
        assert {100.0} <= set(levels) <= {0.0, 100.0, 255.0}


def test_the_image_of_an_unchanged_map_sees_the_map_itself() -> None:
    """With `follow: map` only colors come from the memory; labels are those that were asked for."""
    network = network_of(CONFIG)
    seen = []
    network.networks.synthesis.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    maps, labels = dense(14)
    sampler = sims.sampler(network, SamplerOptions())
    condition = Maps.collate([labels], [labels], CLASSES)
    sampler.sample(condition, [3])
    torch.testing.assert_close(seen[0][0], maps)


def test_the_seed_chooses_among_the_nearest() -> None:
    config = replace(CONFIG, choices=2)
    maps, labels = dense(5)
    sampler = sims.sampler(network_of(config), SamplerOptions())
    levels = set()
    for seed in range(8):
        with torch.inference_mode():
            canvas = sampler.canvas(labels, seed, maps)
        square = canvas.colors[labels == 1]
        inner = square[(square > 0) & (square < 1)]
        levels |= set(np.unique((inner * 255).round()).tolist())
        with torch.inference_mode():
            again = sampler.canvas(labels, seed, maps)
        np.testing.assert_array_equal(again.colors, canvas.colors)
    assert {50.0, 100.0} <= levels


def test_the_order_network_is_asked_unless_it_is_not_to_be() -> None:
    network = network_of(CONFIG)
    asked = []
    network.networks.order.register_forward_pre_hook(lambda _module, inputs: asked.append(inputs))
    maps, labels = dense(40)
    overlapping = replace(CONFIG, follow="canvas")
    for config in (overlapping, replace(overlapping, order=False)):
        network.config = config
        sampler = sims.sampler(network, SamplerOptions())
        # ground of the last image, which goes on where the second one has its square
        sampler.bank.nearest = lambda segment, _count: [4 - segment.category]  # type: ignore
        before = len(asked)
        with torch.inference_mode():
            sampler.canvas(labels, 0, maps)
        assert (len(asked) > before) == config.order


def test_layers_are_those_named_and_then_by_how_often_they_lie_behind() -> None:
    network = network_of(replace(CONFIG, layers=(1,)))
    assert back_to_front(network) == {1: 0, 0: 1, 2: 2}


def test_an_image_with_a_memory_is_that_of_its_own_map_and_seed() -> None:
    sampler = sims.sampler(network_of(replace(CONFIG, choices=2)), SamplerOptions())
    labels = [map_with(top, 12) for top in (5, 14, 40)]
    seeds = [3, 4, 5]
    together = sampler.sample(Maps.collate(labels, labels, CLASSES), seeds).images.astype(int)
    for row, seed in enumerate(seeds):
        condition = Maps.collate(labels[row : row + 1], labels[row : row + 1], CLASSES)
        alone = sampler.sample(condition, [seed]).images.astype(int)
        assert np.abs(together[row] - alone[0]).max() <= 1

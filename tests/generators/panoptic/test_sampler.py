"""Sampling from the panoptic-aware generator: its form on a CPU, its precision, its own image."""

from __future__ import annotations

import numpy as np
import torch

from synthaug.generators import panoptic as panoptic_system
from synthaug.generators.base import Maps, SamplerOptions
from synthaug.generators.panoptic.fast import FastPanoptic
from synthaug.generators.panoptic.network import Config, PanopticGenerator
from tests.panoptic_maps import blobs

SMALL = Config(resolution=32, width=2, width_d=2)


def network_of(config: Config = SMALL) -> PanopticGenerator:
    torch.manual_seed(0)
    network = panoptic_system.build(config, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.15)
    return network


def maps_of(seed: int, count: int = 2) -> Maps:
    labels = blobs(count, 32, 32, seed, cell=5, ids=4)
    return Maps(labels, labels + 10 * blobs(count, 32, 32, seed + 1, cell=7, ids=2), 3)


def test_on_a_cpu_it_runs_the_fast_form_and_an_image_is_its_own() -> None:
    sampler = panoptic_system.sampler(network_of(), SamplerOptions())
    assert isinstance(sampler.network, FastPanoptic)
    maps = maps_of(0, 3)
    together = sampler.sample(maps, [0, 1, 2]).images
    one = Maps(maps.labels[1:2], maps.instances[1:2], 3)
    alone = sampler.sample(one, [7]).images[0]
    assert np.abs(together[1].astype(int) - alone).max() <= 1
    assert (together[0] != together[1]).any()


def test_precision_reaches_the_blocks_and_leaves_the_network_in_float32() -> None:
    network = network_of()
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        sampler = panoptic_system.sampler(network, SamplerOptions(precision=precision))
        buffers = sampler.network.blocks.buffers()
        assert {buffer.dtype for buffer in buffers if buffer.is_floating_point()} == {dtype}
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert not network.training

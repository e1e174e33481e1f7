"""Sampling from a trained CRN: pixels from maps.

The seed chooses one of the images that the network makes of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synthaug.generators.base import Maps, SamplerOptions, Samples
from synthaug.generators.crn.fast import FastCascade
from synthaug.generators.crn.network import CascadedRefinement
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.nn.precision import dtype_of
from synthaug.generators.spade.sampler import checked_semantics


class CrnSampler:
    """A trained generator, ready to be sampled (generators.base.MapSampler)."""

    def __init__(self, network: CascadedRefinement, options: SamplerOptions) -> None:
        self.config = network.config
        self.size = network.config.size  # (H, W)
        self.num_classes = network.num_classes
        self.device = options.device
        dtype = dtype_of(options.precision, options.device)
        on_device = network.eval().to(options.device)
        self.network = FastCascade(on_device, dtype)

    @torch.inference_mode()
    def sample(self, conditions: Maps, seeds: Sequence[int]) -> Samples:
        """Return one image per map, one of those that the network makes of it.

        Raises ValueError when the maps have another size, another number of classes, or pixels of
        no class where the network knows none.
        """
        assert len(seeds) == len(conditions)
        config = self.config
        on_device = conditions.to(self.device)
        maps = checked_semantics(
            on_device, self.size, self.num_classes, config.dont_care, config.edges
        )
        choices = [choose(config.images, seed) for seed in seeds]
        images = self.network(maps.dense, choices)
        return Samples(to_pixels(images))


def choose(count: int, seed: int) -> int:
    """Return which of `count` images an image's seed takes."""
    rng = torch.Generator().manual_seed(seed)
    return int(torch.randint(count, (), generator=rng))

"""Sampling from a trained SPADE: pixels from panoptic maps and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from synthaug.generators.base import Maps, SamplerOptions, Samples
from synthaug.generators.nn.pixels import to_pixels
from synthaug.generators.nn.precision import dtype_of
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.network import SpadeGenerator
from synthaug.generators.spade.semantics import Semantics, semantics

Runner = Callable[[Semantics, Tensor | None], Tensor]  # maps, codes -> images [B, 3, H, W]


class SpadeSampler:
    """A trained generator, ready to be sampled (generators.base.MapSampler)."""

    def __init__(self, network: SpadeGenerator, options: SamplerOptions) -> None:
        self.num_classes = network.num_classes
        self.config = network.config
        self.device = options.device
        dtype = dtype_of(options.precision, options.device)
        on_device = network.eval().to(options.device)
        self.network = self.runner(on_device, dtype)
        self.size = network.config.size  # (H, W)

    def runner(self, network: SpadeGenerator, dtype: torch.dtype) -> Runner:
        """Return the function from maps and codes to images; other systems override it."""
        return FastGenerator(network, dtype)

    @torch.inference_mode()
    def sample(self, conditions: Maps, seeds: Sequence[int]) -> Samples:
        """Return one image per map; a seed matters only where there is a latent code.

        Raises ValueError when the maps have another size, another number of classes, or pixels of
        no class where the network knows none.
        """
        assert len(seeds) == len(conditions)
        on_device = conditions.to(self.device)
        network_maps = checked_semantics(
            on_device, self.size, self.num_classes, self.config.dont_care, self.config.edges
        )
        z = None
        if self.config.vae:
            codes = [draw_latent(self.config.z, seed) for seed in seeds]
            z = torch.stack(codes).to(self.device)
        images = self.network(network_maps, z)
        return Samples(to_pixels(images))


def checked_semantics(
    maps: Maps, size: tuple[int, int], num_classes: int, dont_care: bool, edges: bool
) -> Semantics:
    """Return what a network for maps of a size (H, W) and so many classes sees.

    Raises ValueError when they have another size, another number of classes, or pixels of no class
    where the network knows none.
    """
    if maps.labels.shape[1:] != size:
        height, width = maps.labels.shape[1:]
        wanted = f"{size[0]} x {size[1]}"
        raise ValueError(
            f"maps: {height} x {width} pixels, the generator paints {wanted}; resize them to it"
        )
    if maps.classes != num_classes:
        raise ValueError(
            f"maps: {maps.classes} classes, the generator has {num_classes}; "
            "use maps of its data set"
        )
    return semantics(maps, dont_care, edges)


def draw_latent(length: int, seed: int) -> Tensor:
    """Draw the latent code of one image from N(0, I), [Z]."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(length, generator=rng)

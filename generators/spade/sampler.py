"""Producing with a trained SPADE: pixels from panoptic maps and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthaug.generators.base import Maps
from synthaug.generators.spade.fast import FastGenerator
from synthaug.generators.spade.network import SpadeGenerator
from synthaug.generators.spade.semantics import Semantics, semantics
from synthaug.generators.training.adversarial import has_bf16


class Spade:
    """A trained generator, ready to produce; each image depends on its own map and seed only."""

    def __init__(self, network: SpadeGenerator, device: torch.device | str, precision: str) -> None:
        narrow = precision == "bfloat16" or (precision == "auto" and has_bf16(torch.device(device)))
        self.num_classes = network.num_classes
        self.config = network.config
        self.device = device
        self.network = self.runner(network.eval().to(device), narrow)
        self.resolution = network.config.size  # (H, W)

    def runner(
        self, network: SpadeGenerator, narrow: bool
    ) -> Callable[[Semantics, Tensor | None], Tensor]:
        """Return what makes images [B, 3, H, W] of maps; `narrow`: in bfloat16. Other systems override it."""
        return FastGenerator(network, torch.bfloat16 if narrow else torch.float32)

    @torch.inference_mode()
    def paint(self, maps: Maps, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One image per map, [B, H, W, 3]; a seed tells only where the network has a latent code.

        Raises ValueError when the maps have another size, another number of classes, or pixels of no class where the
        network knows none.
        """
        assert len(seeds) == len(maps)
        if maps.labels.shape[1:] != self.resolution:
            height, width = maps.labels.shape[1:]
            wanted = f"{self.resolution[0]} x {self.resolution[1]}"
            raise ValueError(
                f"maps: {height} x {width} pixels, the generator paints {wanted}; resize them to it"
            )
        if maps.classes != self.num_classes:
            raise ValueError(
                f"maps: {maps.classes} classes, the generator has {self.num_classes}; use maps of its data set"
            )
        seen = semantics(maps.to(self.device), self.config.dont_care, self.config.edges)
        z = (
            torch.stack([draw_latent(self.config.z, seed) for seed in seeds]).to(self.device)
            if self.config.vae
            else None
        )
        images = self.network(seen, z)
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def draw_latent(length: int, seed: int) -> torch.Tensor:
    """z ~ N(0, I) of one image, [Z]."""
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))

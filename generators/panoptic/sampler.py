"""Sampling from a trained panoptic-aware generator."""

from __future__ import annotations

import torch
from torch import Tensor

from synthaug.generators.panoptic.fast import FastPanoptic
from synthaug.generators.panoptic.network import PanopticGenerator
from synthaug.generators.spade.network import SpadeGenerator
from synthaug.generators.spade.sampler import Runner, SpadeSampler
from synthaug.generators.spade.semantics import Semantics


class PanopticSampler(SpadeSampler):
    """A trained generator, ready to be sampled."""

    def runner(self, network: SpadeGenerator, dtype: torch.dtype) -> Runner:
        """Return the fast form; on a GPU the network, whose convolutions are one kernel."""
        assert isinstance(network, PanopticGenerator)
        kind = torch.device(self.device).type
        if kind == "cpu":
            return FastPanoptic(network, dtype)
        network.to(memory_format=torch.channels_last)
        narrow = dtype == torch.bfloat16

        def run(maps: Semantics, z: Tensor | None) -> Tensor:
            with torch.autocast(kind, torch.bfloat16, enabled=narrow):
                images: Tensor = network(maps, z)
            return images.float()

        return run

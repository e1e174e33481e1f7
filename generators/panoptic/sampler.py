"""Sampling from a trained panoptic-aware generator: on a CPU by its fast form, on a GPU as it was trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from synthaug.generators.panoptic.fast import FastPanoptic
from synthaug.generators.panoptic.network import PanopticGenerator
from synthaug.generators.spade.network import SpadeGenerator
from synthaug.generators.spade.sampler import SpadeSampler
from synthaug.generators.spade.semantics import Semantics


class PanopticSampler(SpadeSampler):
    """A trained generator, ready to be sampled."""

    def runner(
        self, network: SpadeGenerator, narrow: bool
    ) -> Callable[[Semantics, Tensor | None], Tensor]:
        """Return the fast form; on a GPU the network itself, whose convolutions are one kernel there."""
        assert isinstance(network, PanopticGenerator)
        kind = torch.device(self.device).type
        if kind == "cpu":
            return FastPanoptic(network, torch.bfloat16 if narrow else torch.float32)
        network.to(memory_format=torch.channels_last)

        def images(seen: Semantics, z: Tensor | None) -> Tensor:
            with torch.autocast(kind, torch.bfloat16, enabled=narrow):
                made: Tensor = network(seen, z)
            return made.float()

        return images

"""Producing with a trained panoptic-aware generator: SPADE's, run as it was trained, in evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from generators.spade import SpadeGenerator
from generators.spade_production import Spade
from generators.spade_semantics import Semantics


class PanopticSpade(Spade):
    """A trained generator, ready to produce."""

    def runner(self, network: SpadeGenerator, narrow: bool) -> Callable[[Semantics, Tensor | None], Tensor]:
        """Return the network itself: what SPADE's faster form does in place of it knows no identities."""
        kind = torch.device(self.device).type
        if kind == "cuda":  # as in training; on a CPU it would change the last bits of what has been produced before
            network.to(memory_format=torch.channels_last)

        def images(seen: Semantics, z: Tensor | None) -> Tensor:
            with torch.autocast(kind, torch.bfloat16, enabled=narrow):
                made: Tensor = network(seen, z)
            return made.float()

        return images

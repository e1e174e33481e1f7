"""SPADE / GauGAN (Park et al. 2019): what the pipeline asks of it. The network is in network.py."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.spade.network import Config, SpadeGenerator, SpadeTrainee
from synthaug.generators.spade.sampler import Spade

__all__ = ["GUIDE", "Config", "build", "producer", "trainee"]

GUIDE = "maps"  # what drives it


def build(config: Config, num_classes: int) -> SpadeGenerator:
    """Return a fresh network for a number of classes; don't care is none of them."""
    return SpadeGenerator(config, num_classes)


def producer(
    network: nn.Module, device: torch.device | str = "cpu", precision: str = "float32"
) -> Spade:
    """Wrap a trained network for production; `precision` float32, bfloat16 or auto (bfloat16 where hardware has it)."""
    assert isinstance(network, SpadeGenerator)
    return Spade(network, device, precision)


def trainee(config: Config, num_classes: int) -> SpadeTrainee:
    """Return the networks and losses for training."""
    return SpadeTrainee(config, num_classes)

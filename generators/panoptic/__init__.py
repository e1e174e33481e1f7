"""Panoptic-aware synthesis (Dundar et al. 2020): what the pipeline asks of it. The network is in network.py."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.panoptic.network import Config, PanopticGenerator, PanopticTrainee
from synthaug.generators.panoptic.sampler import PanopticSpade

__all__ = ["GUIDE", "Config", "build", "producer", "trainee"]

GUIDE = "maps"  # what drives it


def build(config: Config, num_classes: int) -> PanopticGenerator:
    """Return a fresh network for a number of classes; don't care is none of them."""
    return PanopticGenerator(config, num_classes)


def producer(
    network: nn.Module, device: torch.device | str = "cpu", precision: str = "float32"
) -> PanopticSpade:
    """Wrap a trained network for production; `precision` float32, bfloat16 or auto (bfloat16 where hardware has it)."""
    assert isinstance(network, PanopticGenerator)
    return PanopticSpade(network, device, precision)


def trainee(config: Config, num_classes: int) -> PanopticTrainee:
    """Return the networks and losses for training."""
    return PanopticTrainee(config, num_classes)

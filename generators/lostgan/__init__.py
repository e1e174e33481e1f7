"""LostGAN (Sun & Wu 2021), versions 1 and 2: what the pipeline asks of it. The network is in network.py."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.lostgan.network import Config, LostGanGenerator, LostGanTrainee
from synthaug.generators.lostgan.sampler import LostGan

__all__ = ["GUIDE", "Config", "build", "producer", "trainee"]

GUIDE = "boxes"  # what drives it


def build(config: Config, num_classes: int) -> LostGanGenerator:
    """Return a fresh network for a number of classes; row 0 of its labels is the background."""
    return LostGanGenerator(config, num_classes + 1)


def producer(
    network: nn.Module,
    device: torch.device | str = "cpu",
    truncation: float = 2.0,
    precision: str = "float32",
    compiled: bool = False,
) -> LostGan:
    """Wrap a trained network for production; latents are truncated at 2 like the published samples, unless told else.

    `precision` float32, bfloat16 or auto (bfloat16 where the hardware has it); `compiled` by torch.compile.
    """
    assert isinstance(network, LostGanGenerator)
    return LostGan(network, device, truncation, precision, compiled)


def trainee(config: Config, num_classes: int) -> LostGanTrainee:
    """Return G, D and losses for training."""
    return LostGanTrainee(config, num_classes + 1)

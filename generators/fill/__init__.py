"""Fill: objects painted into real images by a small rectified flow.

In windows at their native scale. Not from a paper of its own: the flow is Liu et al. 2023, the
U-Net the usual one of pixel diffusion, the idea to mask and refill a box of a real image that of
PS-GAN (Ouyang et al. 2018) and DetectorGAN (Liu et al. 2019).
"""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions
from synthaug.generators.fill.config import Config, Loop
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.sampler import FillSampler
from synthaug.generators.fill.training import FlowTraining

__all__ = [
    "ADDS_ONLY",
    "CONDITION",
    "FILES",
    "LEARNS",
    "TWO_STAGE",
    "Config",
    "Loop",
    "build",
    "sampler",
    "training",
]

CONDITION = "edit"
LEARNS = True
ADDS_ONLY = True
TWO_STAGE = False
FILES: dict[str, str] = {}


def build(config: Config, num_classes: int) -> FillNetwork:
    """Return a fresh network."""
    return FillNetwork(config, num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> FillSampler:
    """Return the sampler; nothing is truncated or compiled."""
    assert isinstance(network, FillNetwork)
    return FillSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> FlowTraining:
    """Return the training of a fresh network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FillNetwork(config, num_classes, loop.dropout)
    return FlowTraining(network.to(device), loop, steps, seed)

"""sg2im (Johnson et al. 2018) as a system of the contract.

The network is in network.py.
"""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions
from synthaug.generators.sg2im.config import Config
from synthaug.generators.sg2im.network import Sg2ImGenerator
from synthaug.generators.sg2im.objective import Loop, Sg2ImObjective, Sg2ImTraining
from synthaug.generators.sg2im.sampler import Sg2ImSampler
from synthaug.generators.training.adversarial import seeded_objective

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "layout"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES: dict[str, str] = {}


def build(config: Config, num_classes: int) -> Sg2ImGenerator:
    """Return a fresh network for a number of classes; label 0 is the whole image."""
    return Sg2ImGenerator(config, num_classes + 1)


def sampler(network: nn.Module, options: SamplerOptions) -> Sg2ImSampler:
    """Return the sampler of a trained network; its noise is not truncated."""
    assert isinstance(network, Sg2ImGenerator)
    return Sg2ImSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Sg2ImTraining:
    """Return the training of fresh networks; G learns first."""
    objective = seeded_objective(lambda: Sg2ImObjective(config, num_classes + 1), seed, device)
    return Sg2ImTraining(objective, loop, steps, seed)

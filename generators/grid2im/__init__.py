"""Grid2Im (Ashual & Wolf 2019) as a system of the contract.

The network is in network.py.
"""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions
from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.network import Grid2ImGenerator
from synthaug.generators.grid2im.objective import Grid2ImObjective, Grid2ImTraining, Loop
from synthaug.generators.grid2im.sampler import Grid2ImSampler
from synthaug.generators.training.adversarial import seeded_objective

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "layout"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES = {"perceptual_weights": "the perceptual term"}


def build(config: Config, num_classes: int) -> Grid2ImGenerator:
    """Return a fresh network for a number of classes; label 0 is the whole image."""
    return Grid2ImGenerator(config, num_classes + 1)


def sampler(network: nn.Module, options: SamplerOptions) -> Grid2ImSampler:
    """Return the sampler of a trained network."""
    assert isinstance(network, Grid2ImGenerator)
    return Grid2ImSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Grid2ImTraining:
    """Return the training of fresh networks; G learns first."""
    objective = seeded_objective(lambda: Grid2ImObjective(config, num_classes + 1), seed, device)
    return Grid2ImTraining(objective, loop, steps, seed)

"""SIMS (Qi et al. 2018) as a system of the contract."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.generator import Sims
from synthaug.generators.sims.objective import SimsObjective
from synthaug.generators.sims.sampler import SimsSampler
from synthaug.generators.sims.training import Loop, SimsTraining
from synthaug.generators.training.regression import on_device

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "map"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES = {"perceptual_weights": "all of the loss of images but the difference of the pixels"}


def build(config: Config, num_classes: int) -> Sims:
    """Return fresh networks with an empty memory; don't care is none of the classes.

    ValueError when a rule of the Config is for a class that is not there.
    """
    return Sims(config, num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> SimsSampler:
    """Return the sampler of a trained network; nothing is truncated or compiled."""
    assert isinstance(network, Sims)
    return SimsSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> SimsTraining:
    """Return the training of fresh networks, whose memory is empty yet."""
    objective = on_device(lambda: SimsObjective(config, num_classes), seed, device)
    return SimsTraining(objective, loop, steps, seed)

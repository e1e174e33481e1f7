"""Layout2Im (Zhao et al. 2019) as a system of the contract.

The network is in network.py.
"""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions, TrainingBatch
from synthaug.generators.layout2im.config import Config
from synthaug.generators.layout2im.network import Layout2ImGenerator
from synthaug.generators.layout2im.objective import Layout2ImObjective, Loop
from synthaug.generators.layout2im.sampler import Layout2ImSampler
from synthaug.generators.training.adversarial import AdversarialTraining, seeded_objective

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "layout"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES: dict[str, str] = {}


def build(config: Config, num_classes: int) -> Layout2ImGenerator:
    """Return a fresh network for a number of classes; label 0 is used by none."""
    return Layout2ImGenerator(config, num_classes + 1)


def sampler(network: nn.Module, options: SamplerOptions) -> Layout2ImSampler:
    """Return the sampler of a trained network."""
    assert isinstance(network, Layout2ImGenerator)
    return Layout2ImSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> AdversarialTraining[TrainingBatch]:
    """Return the training of fresh networks; D learns first, G on fakes of its own."""
    objective = seeded_objective(lambda: Layout2ImObjective(config, num_classes + 1), seed, device)
    return AdversarialTraining(objective, loop, steps, seed, same_fakes=False)

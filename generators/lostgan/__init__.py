"""LostGAN (Sun & Wu 2021), versions 1 and 2, as a system of the contract.

The network is in network.py.
"""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions, TrainingBatch
from synthaug.generators.lostgan.config import Config
from synthaug.generators.lostgan.network import LostGanGenerator, LostGanObjective
from synthaug.generators.lostgan.sampler import LostGanSampler
from synthaug.generators.training import adversarial

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "layout"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES = {"perceptual_weights": "the perceptual term"}
Loop = adversarial.Config


def build(config: Config, num_classes: int) -> LostGanGenerator:
    """Return a fresh network for a number of classes.

    Row 0 of its labels is the background.
    """
    return LostGanGenerator(config, num_classes + 1)


def sampler(network: nn.Module, options: SamplerOptions) -> LostGanSampler:
    """Return the sampler of a trained network."""
    assert isinstance(network, LostGanGenerator)
    return LostGanSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> adversarial.AdversarialTraining[TrainingBatch]:
    """Return the training of fresh networks; D learns first."""
    return adversarial.adversarial_training(
        lambda: LostGanObjective(config, num_classes + 1), loop, steps, seed, device
    )

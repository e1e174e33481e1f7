"""SPADE / GauGAN (Park et al. 2019) as a system of the contract."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import MapBatch, SamplerOptions
from synthaug.generators.spade.network import Config, SpadeGenerator, SpadeObjective
from synthaug.generators.spade.sampler import SpadeSampler
from synthaug.generators.training import adversarial

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "map"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES = {"perceptual_weights": "the perceptual term"}
Loop = adversarial.Config


def build(config: Config, num_classes: int) -> SpadeGenerator:
    """Return a fresh network for a number of classes; don't care is none of them."""
    return SpadeGenerator(config, num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> SpadeSampler:
    """Return the sampler of a trained network; nothing is truncated or compiled."""
    assert isinstance(network, SpadeGenerator)
    return SpadeSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> adversarial.AdversarialTraining[MapBatch]:
    """Return the training of fresh networks; G learns first."""
    return adversarial.adversarial_training(
        lambda: SpadeObjective(config, num_classes), loop, steps, seed, device, generator_first=True
    )

"""pix2pix (Isola et al. 2017) as a system of the contract, from layouts.

The same network from panoptic maps is the system of maps.py.
"""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import SamplerOptions, TrainingBatch
from synthaug.generators.pix2pix.config import Config, Loop
from synthaug.generators.pix2pix.network import Pix2PixObjective, UNet
from synthaug.generators.pix2pix.painting import class_boxes, confidence
from synthaug.generators.pix2pix.sampler import BoxSampler
from synthaug.generators.training import adversarial

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "layout"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES: dict[str, str] = {}


def build(config: Config, num_classes: int) -> UNet:
    """Return a fresh network for a number of classes, a channel each."""
    return UNet(config, num_classes, num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> BoxSampler:
    """Return the sampler of a trained network; nothing is truncated or compiled."""
    assert isinstance(network, UNet)
    return BoxSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> adversarial.AdversarialTraining[TrainingBatch]:
    """Return the training of fresh networks; D learns first."""

    def objective() -> Pix2PixObjective[TrainingBatch]:
        return Pix2PixObjective(
            config,
            num_classes,
            num_classes,
            lambda batch: class_boxes(batch.layouts, num_classes, config.size),
            lambda batch: confidence(batch.layouts, config.size),
        )

    return adversarial.adversarial_training(objective, loop, steps, seed, device)

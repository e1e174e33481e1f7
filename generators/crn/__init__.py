"""CRN (Chen & Koltun 2017) as a system of the contract."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.base import MapBatch, SamplerOptions
from synthaug.generators.crn.config import Config
from synthaug.generators.crn.network import CascadedRefinement, CrnObjective
from synthaug.generators.crn.sampler import CrnSampler
from synthaug.generators.training import regression

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "map"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES = {"perceptual_weights": "all of the loss but the difference of the pixels"}
Loop = regression.Config


def build(config: Config, num_classes: int) -> CascadedRefinement:
    """Return a fresh network for a number of classes; don't care is none of them."""
    return CascadedRefinement(config, num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> CrnSampler:
    """Return the sampler of a trained network; nothing is truncated or compiled."""
    assert isinstance(network, CascadedRefinement)
    return CrnSampler(network, options)


def training(
    config: Config,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> regression.RegressionTraining[MapBatch]:
    """Return the training of a fresh network; there is no other."""
    return regression.regression_training(
        lambda: CrnObjective(config, num_classes), loop, steps, seed, device
    )

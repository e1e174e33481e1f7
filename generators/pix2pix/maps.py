"""pix2pix (Isola et al. 2017) as a system of the contract: from panoptic maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthaug.generators.base import MapBatch, SamplerOptions
from synthaug.generators.pix2pix.config import Loop, MapConfig
from synthaug.generators.pix2pix.network import Pix2PixObjective, UNet
from synthaug.generators.pix2pix.sampler import MapSampler
from synthaug.generators.spade.semantics import semantics
from synthaug.generators.training import adversarial

__all__ = ["Config", "Loop", "build", "sampler", "training"]

CONDITION = "map"
LEARNS = True
ADDS_ONLY = False
TWO_STAGE = False
FILES: dict[str, str] = {}
Config = MapConfig


def build(config: MapConfig, num_classes: int) -> UNet:
    """Return a fresh network for a number of classes; don't care is none of them."""
    return UNet(config, config.map_channels(num_classes), num_classes)


def sampler(network: nn.Module, options: SamplerOptions) -> MapSampler:
    """Return the sampler of a trained network; nothing is truncated or compiled."""
    assert isinstance(network, UNet)
    return MapSampler(network, options)


def training(
    config: MapConfig,
    loop: Loop,
    num_classes: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> adversarial.AdversarialTraining[MapBatch]:
    """Return the training of fresh networks; D learns first."""

    def paint(batch: MapBatch) -> Tensor:
        return semantics(batch.maps, config.dont_care, config.edges).dense

    def objective() -> Pix2PixObjective[MapBatch]:
        channels = config.map_channels(num_classes)
        return Pix2PixObjective(config, channels, num_classes, paint, lambda batch: batch.weights)

    return adversarial.adversarial_training(objective, loop, steps, seed, device)

"""The generator that learns nothing: each box in the flat color of its class.

A floor for scores, a no-op for tests.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from synthaug.generators.base import Layouts, SamplerOptions, Samples
from synthaug.ranges import at_least

CONDITION = "layout"
LEARNS = False
ADDS_ONLY = False
TWO_STAGE = False
FILES: dict[str, str] = {}


@dataclass(frozen=True)
class Config:
    """Size of the images."""

    resolution: int = 64  # pixels, square

    def __post_init__(self) -> None:
        at_least(1, self, "resolution")


class Boxes(nn.Module):
    """Holds the palette [K, 3]; row 0 is the background."""

    palette: torch.Tensor

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config = config
        colors = [(0.5, 0.5, 0.5)]
        for i in range(num_classes):
            colors.append(colorsys.hsv_to_rgb(i / num_classes, 0.7, 0.9))
        self.register_buffer("palette", torch.tensor(colors))


class BoxSampler:
    """Paints boxes, small ones over large ones (generators.base.LayoutSampler)."""

    def __init__(self, network: Boxes) -> None:
        self.size = (network.config.resolution, network.config.resolution)  # (H, W)
        colors = network.palette.numpy() * 255
        self._palette = colors.astype(np.uint8)

    def sample(self, conditions: Layouts, seeds: Sequence[int]) -> Samples:
        """Return images [B, R, R, 3] and masks [B, O, R, R], 1 where a box is seen.

        Things are seen on stuff that way, whatever the order of the slots; of equally large boxes
        the later one is on top.
        """
        side = self.size[0]
        count, slots = conditions.labels.shape
        background = self._palette[0]
        images = np.broadcast_to(background, (count, side, side, 3)).copy()
        masks = np.zeros((count, slots, side, side), np.float32)
        corners = conditions.boxes.clamp(0, 1) * side
        edges = corners.round().int().numpy()
        for i in range(count):
            labels = conditions.labels[i].tolist()
            sides = edges[i, :, 2:] - edges[i, :, :2]
            large_first = np.argsort(-sides.prod(1), kind="stable")
            for slot in large_first.tolist():
                x0, y0, x1, y1 = edges[i, slot]
                images[i, y0:y1, x0:x1] = self._palette[labels[slot]]
                masks[i, :, y0:y1, x0:x1] = 0
                masks[i, slot, y0:y1, x0:x1] = 1
        return Samples(images, masks)


def build(config: Config, num_classes: int) -> Boxes:
    """Return the palette as a network, so that it is saved and loaded like the others."""
    return Boxes(config, num_classes)


def sampler(network: nn.Module, _options: SamplerOptions) -> BoxSampler:
    """Return the sampler.

    It runs on the CPU and has no latent codes, so no option changes anything.
    """
    assert isinstance(network, Boxes)
    return BoxSampler(network)

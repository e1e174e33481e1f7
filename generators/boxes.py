"""The generator that learns nothing: each box in the flat colour of its class. A floor for scores, and a no-op for tests."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from synthaug.generators.base import Layouts, Synthesis

GUIDE = "boxes"  # what drives it


@dataclass(frozen=True)
class Config:
    """Size of the images."""

    resolution: int = 64  # pixels, square

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise ValueError(f"resolution: {self.resolution} is not positive")


class Boxes(nn.Module):
    """Holds the palette [K, 3]; row 0 is the background."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.config = config
        hues = [colorsys.hsv_to_rgb(i / max(1, num_classes), 0.7, 0.9) for i in range(num_classes)]
        self.register_buffer("palette", torch.tensor([(0.5, 0.5, 0.5), *hues]))


class BoxPainter:
    """Paints boxes in the order of the slots (generators.base.Generator)."""

    def __init__(self, network: Boxes) -> None:
        self.resolution = (network.config.resolution, network.config.resolution)
        self._palette = (network.get_buffer("palette").numpy() * 255).astype(np.uint8)

    def __call__(self, layouts: Layouts, seeds: Sequence[int]) -> Synthesis:
        """Images [B, R, R, 3], masks [B, O, R, R]: 1 inside a box, later slots on top."""
        side = self.resolution[0]
        count, slots = layouts.labels.shape
        images = np.broadcast_to(self._palette[0], (count, side, side, 3)).copy()
        masks = np.zeros((count, slots, side, side), np.float32)
        edges = (layouts.boxes.clamp(0, 1) * side).round().int().numpy()
        for i in range(count):
            for slot, label in enumerate(layouts.labels[i].tolist()):
                x0, y0, x1, y1 = edges[i, slot]
                images[i, y0:y1, x0:x1] = self._palette[label]
                masks[i, :slot, y0:y1, x0:x1] = 0
                masks[i, slot, y0:y1, x0:x1] = 1
        return Synthesis(images, masks)


def build(config: Config, num_classes: int) -> Boxes:
    """Return the palette as a network, so that it is saved and loaded like the others."""
    return Boxes(config, num_classes)


def producer(network: nn.Module, *_how: object) -> BoxPainter:
    """Wrap it for production; it runs on the CPU and has no latents, so no other argument changes anything."""
    assert isinstance(network, Boxes)
    return BoxPainter(network)

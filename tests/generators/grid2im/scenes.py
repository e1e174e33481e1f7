"""Small networks for the tests of Grid2Im, on the layouts of sg2im's tests."""

from __future__ import annotations

from typing import Any

import torch

from synthaug.generators.grid2im.config import Config
from synthaug.generators.grid2im.network import Grid2ImGenerator

TINY: dict[str, Any] = {
    "resolution": 64,
    "width": 4,
    "width_d": 4,
    "residual_blocks": 2,
    "halvings": 2,
    "embedding": 6,
    "hidden": 10,
    "mask_side": 8,
    "mask_noise": 5,
    "appearance": 3,
}
LABELS = 6


def network_of(**settings: Any) -> Grid2ImGenerator:
    """Random weights large enough for objects to show in images."""
    torch.manual_seed(0)
    network = Grid2ImGenerator(Config(**{**TINY, **settings}), LABELS)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape) * 0.1)
    return network.eval()

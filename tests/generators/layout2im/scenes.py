"""Small networks and layouts for the tests of Layout2Im."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import Layouts
from synthaug.generators.layout2im.config import Config
from synthaug.generators.layout2im.network import Layout2ImGenerator
from synthaug.generators.layout2im.rows import ObjectRows, rows_of

TINY: dict[str, Any] = {"width": 4, "width_d": 4, "embedding": 5, "z_object": 6, "mask_side": 4}
LABELS = 6
BOXES = np.array([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9], [0, 0.5, 1, 1]], np.float32)


def network_of(**settings: Any) -> Layout2ImGenerator:
    """Random weights whose norms are all at work."""
    torch.manual_seed(0)
    network = Layout2ImGenerator(Config(**{**TINY, **settings}), LABELS)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(std=0.2)
        elif key.endswith("embed.weight"):
            value.add_(torch.randn(value.shape) * 0.3)
    with torch.no_grad():
        for value in network.parameters():  # large enough for objects to show in images
            value.add_(torch.randn(value.shape) * 0.1)
    return network.eval()


def layouts_of(counts: tuple[int, ...] = (1, 3, 0)) -> Layouts:
    labels = [np.arange(1, n + 1) for n in counts]
    scores = [np.ones(n, np.float32) for n in counts]
    return Layouts.collate(labels, [BOXES[:n] for n in counts], scores)


def inputs_of(network: Layout2ImGenerator, counts: tuple[int, ...]) -> tuple[ObjectRows, Tensor]:
    rows = rows_of(layouts_of(counts))
    rng = torch.Generator().manual_seed(1)
    return rows, torch.randn(len(rows.labels), network.config.z_object, generator=rng)

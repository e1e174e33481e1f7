"""Small networks and layouts for the tests of sg2im."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import Layouts
from synthaug.generators.sg2im.config import Config
from synthaug.generators.sg2im.graphs import SceneGraphs, scene_graphs
from synthaug.generators.sg2im.network import Sg2ImGenerator

TINY: dict[str, Any] = {"width": 4, "width_d": 4, "embedding": 6, "hidden": 10, "noise": 3}
LABELS = 6
BOXES = np.array([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9], [0, 0.5, 1, 1]], np.float32)


def network_of(**settings: Any) -> Sg2ImGenerator:
    """Random weights whose norms are all at work."""
    torch.manual_seed(0)
    network = Sg2ImGenerator(Config(**{**TINY, **settings}), LABELS)
    state = network.state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(std=0.2)
    network.load_state_dict(state)
    with torch.no_grad():
        network.box_net[2].bias.copy_(torch.tensor([0.15, 0.2, 0.6, 0.7]))
    return network.eval()


def layouts_of(counts: tuple[int, ...] = (3, 1, 0), masks: int = 0) -> Layouts:
    """Objects of classes 1, 2, 3; masks of a side, where one is given."""
    labels = [np.arange(1, n + 1) for n in counts]
    scores = [np.ones(n, np.float32) for n in counts]
    shapes = None
    if masks:
        rng = np.random.default_rng(0)
        shapes = [rng.integers(0, 2, (n, masks, masks)).astype(np.float32) for n in counts]
    return Layouts.collate(labels, [BOXES[:n] for n in counts], scores, shapes)


def graphs_of(counts: tuple[int, ...] = (3, 1, 0), masks: int = 0) -> SceneGraphs:
    rng = torch.Generator().manual_seed(0)
    layouts = layouts_of(counts, masks)
    return scene_graphs(layouts, lambda _, count: torch.rand(count, 2, generator=rng))


def noise_of(network: Sg2ImGenerator, images: int) -> Tensor:
    config = network.config
    shape = (images, config.noise, config.resolution, config.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))

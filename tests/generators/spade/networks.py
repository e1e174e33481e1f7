"""Small SPADE networks and maps for its tests."""

from __future__ import annotations

import numpy as np
import torch

from synthaug.generators.base import Maps
from synthaug.generators.spade import network as spade

SMALL = spade.Config(resolution=32, width=2, width_d=2)
FORMS = [
    spade.Config(resolution=32, width=4),
    spade.Config(resolution=128, aspect_ratio=2.0, upsampling="more", width=2, dont_care=False),
    spade.Config(resolution=128, upsampling="most", width=2, edges=False),
    spade.Config(resolution=96, aspect_ratio=3.0, width=2, vae=True, z=5),
]


def maps_of(
    height: int, width: int, classes: int, seed: int, count: int = 1, cell: int = 3
) -> Maps:
    """Random maps of cells of several pixels; a class may touch itself in another instance."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (count, height // cell + 1, width // cell + 1))
    labels = coarse.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    ids = (
        rng.integers(0, 3, (count, height // 5 + 1, width // 5 + 1))
        .repeat(5, 1)
        .repeat(5, 2)[:, :height, :width]
    )
    return Maps.collate(list(labels), list(labels * 10 + ids), classes)


def settled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Statistics and weights off their defaults, so that every part of the network shows in its
    output.
    """
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=rng)
        elif value.is_floating_point() and not name.endswith(("weight_u", "weight_v")):
            value.normal_(std=0.1, generator=rng)
    network.train()
    for module in network.modules():  # singular vectors of these weights
        if isinstance(module, spade.SpectralNormed):
            for _ in range(20):
                module.weight()
    return network.eval()

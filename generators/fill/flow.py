"""Rectified flow (Liu et al. 2023) from noise to the pixels of a region.

Objective and sampling. Time runs from 0 (noise e) to 1 (pixels x): x_t = (1 - t) e + t x, with
velocity x - e. Outside the region the network always sees the known pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.windows import Windows

GUIDED_TIMES = (0.1, 0.9)  # guidance early or late in time costs variety and sharpness


def noise_for(seeds: Sequence[int], side: int) -> Tensor:
    """Return standard normal noise [B, 3, S, S], each row of its own seed."""
    rows = []
    for seed in seeds:
        rng = torch.Generator().manual_seed(seed)
        rows.append(torch.randn(3, side, side, generator=rng))
    return torch.stack(rows)


def flow_loss(network: FillNetwork, windows: Windows, noise: Tensor, time: Tensor) -> Tensor:
    """Return the mean squared error [B] of the velocity inside each region.

    The region of a window.
    """
    t = time[:, None, None, None]
    mixed = (1 - t) * noise + t * windows.pixels
    noisy = _with_known_pixels(mixed, windows)
    velocity = network(noisy, time, windows).float()
    error = velocity - (windows.pixels - noise)
    pixels = windows.region.sum((1, 2, 3))
    painted_values = 3 * pixels.clamp_min(1)
    in_region = error.square() * windows.region
    losses: Tensor = in_region.sum((1, 2, 3)) / painted_values
    return losses


@torch.no_grad()
def fill(
    network: FillNetwork, windows: Windows, noise: Tensor, steps: int, guidance: float
) -> Tensor:
    """Return the windows with their regions painted, by Euler steps.

    [B, 3, S, S] in [-1, 1].
    """
    told_nothing = windows.relabelled(network.num_classes + 1)
    times = torch.linspace(0, 1, steps + 1)
    pixels = noise
    spans = zip(times[:-1].tolist(), times[1:].tolist(), strict=True)
    for now, after in spans:
        noisy = _with_known_pixels(pixels, windows)
        time = noise.new_full((len(windows),), now)
        velocity = network(noisy, time, windows).float()
        if guidance != 1 and GUIDED_TIMES[0] < now < GUIDED_TIMES[1]:
            unguided = network(noisy, time, told_nothing).float()
            velocity = unguided + guidance * (velocity - unguided)
        pixels = pixels + (after - now) * velocity
    return _with_known_pixels(pixels, windows).clamp(-1, 1)


def _with_known_pixels(pixels: Tensor, windows: Windows) -> Tensor:
    return torch.where(windows.region > 0.5, pixels, windows.pixels)

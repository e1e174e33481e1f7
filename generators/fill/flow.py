"""Rectified flow (Liu et al. 2023) from noise to the pixels of a region.

Objective and sampling. Time runs from 0 (noise e) to 1 (pixels x): x_t = (1 - t) e + t x, with
velocity x - e. Outside the region the network always sees the known pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.windows import Windows

GUIDED_TIMES = (0.1, 0.9)  # guidance early or late in time costs variety and sharpness
LATE = 1.5  # power of the time left, of which the sampler's steps take equal parts


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
    """Return the windows with their regions painted, [B, 3, S, S] in [-1, 1].

    Two-step Adams-Bashforth: of second order, with one new velocity a step. The last step is one of
    Euler's, which ends at what the network takes for the pixels: looking back would add noise.
    """
    told_nothing = windows.relabelled(network.num_classes + 1)
    times = sampling_times(steps)
    pixels = noise
    before: Tensor | None = None  # the velocity a step ago
    length_before = 1.0
    for now, after in pairwise(times):
        noisy = _with_known_pixels(pixels, windows)
        time = noise.new_full((len(windows),), now)
        velocity = network(noisy, time, windows).float()
        if guidance != 1 and GUIDED_TIMES[0] < now < GUIDED_TIMES[1]:
            unguided = network(noisy, time, told_nothing).float()
            velocity = unguided + guidance * (velocity - unguided)
        length = after - now
        middle_velocity = velocity
        if before is not None and after < 1:
            change = (velocity - before) / length_before  # per unit of time
            middle_velocity = velocity + length / 2 * change
        pixels = pixels + length * middle_velocity
        before, length_before = velocity, length
    return _with_known_pixels(pixels, windows).clamp(-1, 1)


def sampling_times(steps: int) -> list[float]:
    """Return where the steps begin and end, from 0 to 1.

    They are the shorter the later: near the end the velocity changes fastest, because the way that
    is left to an example is divided by the time that is left.
    """
    left = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    times: list[float] = (1 - left**LATE).tolist()
    return times


def _with_known_pixels(pixels: Tensor, windows: Windows) -> Tensor:
    return torch.where(windows.region > 0.5, pixels, windows.pixels)

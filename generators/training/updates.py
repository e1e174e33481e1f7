"""What every training does around an optimizer's step: workers, rates, averages."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from synthaug.generators.nn.parallel import rank_and_world


def rate_factor(index: int, steps: int, decay_from: float) -> float:
    """Return the factor of the learning rates at a step.

    1 up to the share `decay_from` of the steps, then falling linearly to 0.
    """
    start = decay_from * steps
    left = steps - index
    falling = max(1.0, steps - start)
    return min(1.0, left / falling)


@torch.no_grad()
def move_average(average: nn.Module, live: nn.Module, ema: float, index: int) -> None:
    """Move an averaged network towards the live one, by the decay `ema`.

    A short memory at first, so that it forgets the start.
    """
    decay = min(ema, (1 + index) / (10 + index))
    averaged = average.state_dict()
    averages = []
    values = []
    for name, value in live.state_dict().items():
        if value.is_floating_point() and not name.endswith(("weight_u", "weight_v")):
            averages.append(averaged[name])
            values.append(value)
        else:  # counters and power iterations are states, not averages
            averaged[name].copy_(value)
    torch._foreach_lerp_(averages, values, 1 - decay)


def average_gradients(module: nn.Module) -> None:
    """Average gradients over all training workers; nothing to do when there is one."""
    _, world = rank_and_world()
    if world == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    sizes = [gradient.numel() for gradient in gradients]
    parts = torch.split(flat, sizes)
    for gradient, averaged in zip(gradients, parts, strict=True):
        gradient.copy_(averaged.view_as(gradient))

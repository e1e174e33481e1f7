"""Collectives of several processes that train one detector.

Process r of n has the images r, r + n, r + 2n ... of the step's batch. Without a process group
there is one process, and everything here does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from synthaug.detectors.base import LOSSES


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def positions(count: int) -> list[int]:
    """Return the positions in the step's batch of this process's `count` images.

    The randomness of an image derives from its position.
    """
    rank, world = rank_and_world()
    return [rank + world * index for index in range(count)]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], images: int) -> None:
    """Replace gradients by their mean over processes, weighed by their images.

    So losses that are means over images have the gradient of the whole batch. A parameter that no
    process has a gradient of keeps none, so that an optimizer leaves it alone as it does in one
    process. One collective.
    """
    _, world = rank_and_world()
    if world == 1:
        return
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    parts = []
    counts = [float(images)]  # images, then per parameter whether it has a gradient
    for parameter in learned:
        if parameter.grad is None:
            part = torch.zeros_like(parameter)
            counts.append(0.0)
        else:
            part = parameter.grad
            counts.append(1.0)
        parts.append(part.flatten().float() * images)
    sums = torch.cat([*parts, torch.tensor(counts, device=parts[0].device)])
    dist.all_reduce(sums)

    sizes = [parameter.numel() for parameter in learned]
    *gradients, totals = torch.split(sums, [*sizes, len(counts)])
    total_images = totals[0]
    owners = totals[1:].tolist()
    for parameter, gradient, count in zip(learned, gradients, owners, strict=True):
        if count == 0:
            parameter.grad = None
            continue
        mean = gradient / total_images
        parameter.grad = mean.view_as(parameter).to(parameter.dtype)


@torch.no_grad()
def average_losses(losses: Mapping[str, Tensor], images: int) -> dict[str, Tensor]:
    """Return each loss of LOSSES as its mean over all processes' images.

    Losses of other names stay this process's own.
    """
    _, world = rank_and_world()
    if world == 1:
        return dict(losses)
    device = next(iter(losses.values())).device
    sums = torch.zeros(len(LOSSES), device=device)
    counts = torch.zeros(len(LOSSES), device=device)
    for k, name in enumerate(LOSSES):
        if name in losses:
            sums[k] = losses[name].float() * images
            counts[k] = images
    both = torch.stack([sums, counts])
    dist.all_reduce(both)
    means = both[0] / both[1].clamp_min(1)

    averaged = dict(losses)
    for k, name in enumerate(LOSSES):
        if name in losses:
            averaged[name] = means[k]
    return averaged


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Replace the running statistics of batch norms by their mean over all processes.

    Each process has seen its own images only.
    """
    _, world = rank_and_world()
    if world == 1:
        return
    buffers = []
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for buffer in (module.running_mean, module.running_var):
                if buffer is not None:
                    buffers.append(buffer)
    if not buffers:
        return
    sums = torch.cat(buffers)
    dist.all_reduce(sums)
    sizes = [buffer.numel() for buffer in buffers]
    for buffer, total in zip(buffers, torch.split(sums, sizes), strict=True):
        buffer.copy_(total / world)

"""Several processes that train one detector: who this one is, and what they agree on after each backward pass.

Process r of n has the images r, r + n, r + 2n ... of the step's batch. Without a process group there is one process, and
everything here does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from synthaug.detectors.base import LOSSES


def rank_and_world() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def positions(count: int) -> list[int]:
    """Places in the step's batch of this process's `count` images: what the randomness of an image derives from."""
    rank, world = rank_and_world()
    return [rank + world * place for place in range(count)]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], images: int) -> None:
    """Replace gradients by their mean over all processes, each weighing its number of images; one collective.

    So losses that are means over images have the gradient of the whole batch. A parameter that no process has a gradient
    of keeps none, so that an optimiser leaves it alone as it does in one process.
    """
    if rank_and_world()[1] == 1:
        return
    learned = [p for p in parameters if p.requires_grad]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    told = torch.tensor(
        [float(images), *(float(p.grad is not None) for p in learned)], device=parts[0].device
    )
    flat = torch.cat([*(part.flatten().float() * images for part in parts), told])
    dist.all_reduce(flat)
    *means, told = torch.split(flat, [*(p.numel() for p in learned), len(told)])
    for parameter, mean, owners in zip(learned, means, told[1:].tolist(), strict=True):
        parameter.grad = (mean / told[0]).view_as(parameter).to(parameter.dtype) if owners else None


@torch.no_grad()
def average_losses(losses: Mapping[str, Tensor], images: int) -> dict[str, Tensor]:
    """Mean of each loss of LOSSES over the images of all processes that have it; others stay this process's own."""
    if rank_and_world()[1] == 1:
        return dict(losses)
    device = next(iter(losses.values())).device
    sums = torch.zeros(2, len(LOSSES), device=device)  # value x images, images
    for k, name in enumerate(LOSSES):
        if name in losses:
            sums[:, k] = torch.stack(
                [losses[name].float() * images, torch.tensor(float(images), device=device)]
            )
    dist.all_reduce(sums)
    means = sums[0] / sums[1].clamp_min(1)
    return {
        name: means[LOSSES.index(name)] if name in LOSSES else loss for name, loss in losses.items()
    }


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Mean of the running statistics of batch norms over all processes, each of which has seen its own images only."""
    if rank_and_world()[1] == 1:
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    buffers = [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]
    if not buffers:
        return
    flat = torch.cat(buffers)
    dist.all_reduce(flat)
    for buffer, mean in zip(buffers, torch.split(flat, [b.numel() for b in buffers]), strict=True):
        buffer.copy_(mean / rank_and_world()[1])

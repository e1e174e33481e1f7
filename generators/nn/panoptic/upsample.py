"""Panoptic-aware upsampling: nearest, with other identities copied anew.

Algorithm 1 of the paper; legend as in conv.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from synthaug.generators.nn.panoptic.neighbourhood import Neighbourhood


def panoptic_upsample(
    x: Tensor,
    neighbourhood: Neighbourhood,
    hole_rows: Tensor | None = None,
) -> Tensor:
    """Upsample features to the neighbourhood's resolution (Algorithm 1).

    [B, C, H, W] -> [B, C, 2 H, 2 W], channels last. hole_rows [Q, C] fill the holes in the order of
    `neighbourhood.upsampling.holes` (equation 3); left out, holes are 0.
    """
    batch, height, width = neighbourhood.identity.shape
    count, channels, rows, columns = x.shape
    if (count, 2 * rows, 2 * columns) != (batch, height, width):
        raise ValueError(
            f"features {list(x.shape)} are not half of a map of {[batch, height, width]}"
        )
    holes = neighbourhood.upsampling.holes
    if hole_rows is None:
        hole_rows = x.new_zeros(len(holes), channels)
    if hole_rows.shape != (len(holes), channels):
        raise ValueError(
            f"{len(holes)} holes of {channels} channels cannot be filled with "
            f"{list(hole_rows.shape)}"
        )
    out: Tensor = _PanopticUpsample.apply(x, hole_rows.to(x.dtype), neighbourhood)
    return out


class _PanopticUpsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, hole_rows: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        upsampling = neighbourhood.upsampling
        ctx.upsampling = upsampling
        ctx.shape = x.shape
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, enabled=False):  # on CUDA it would make it float32
            out = F.interpolate(x, scale_factor=2, mode="nearest")
        out = out.contiguous(memory_format=torch.channels_last)
        rows = as_rows(out)
        copied = as_rows(x).index_select(0, upsampling.source)
        rows.index_copy_(0, upsampling.moved, copied)
        rows.index_copy_(0, upsampling.holes, hole_rows)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        upsampling = ctx.upsampling
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        rows = as_rows(grad)
        size = list(grad.shape[2:])
        grad_x = torch.ops.aten.upsample_nearest2d_backward(grad, size, list(ctx.shape), 2.0, 2.0)
        grad_x = grad_x.contiguous(memory_format=torch.channels_last)
        grad_rows = as_rows(grad_x)
        if len(upsampling.parents):
            copied = upsampling.copied.to(rows.dtype)
            sums = F.embedding_bag(upsampling.children, rows, mode="sum", per_sample_weights=copied)
            grad_rows.index_copy_(0, upsampling.parents, sums)
        moved = rows.index_select(0, upsampling.moved)
        grad_rows.index_add_(0, upsampling.source, moved)
        grad_holes = rows.index_select(0, upsampling.holes)
        return grad_x, grad_holes, None


def as_rows(x: Tensor) -> Tensor:
    """View a channels-last map [B, C, H, W] as rows [B * H * W, C], the same memory."""
    channels_last = x.permute(0, 2, 3, 1)
    return channels_last.view(-1, x.shape[1])

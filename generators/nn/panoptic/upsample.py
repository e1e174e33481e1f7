"""Panoptic-aware upsampling, fast: nearest upsampling in which the pixels of other identities are copied anew (Algorithm 1).

Legend as in panoptic_ops.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from synthaug.generators.nn.panoptic.neighbourhood import ScaleGuide


def panoptic_upsample(x: Tensor, guide: ScaleGuide, hole_rows: Tensor | None = None) -> Tensor:
    """Panoptic-aware upsampling to the guide's resolution (Algorithm 1), [B, C, H, W] -> [B, C, 2 H, 2 W], channels last.

    hole_rows [Q, C] fill the holes in the order of `guide.upsampling.holes` (equation 3); left out, holes are 0.
    """
    b, h, w = guide.identity.shape
    if (x.shape[0], 2 * x.shape[2], 2 * x.shape[3]) != (b, h, w):
        raise ValueError(f"features {list(x.shape)} are not half of a guide of {[b, h, w]}")
    holes = guide.upsampling.holes
    if hole_rows is None:
        hole_rows = x.new_zeros(len(holes), x.shape[1])
    if hole_rows.shape != (len(holes), x.shape[1]):
        raise ValueError(
            f"{len(holes)} holes of {x.shape[1]} channels cannot be filled with {list(hole_rows.shape)}"
        )
    out: Tensor = _PanopticUpsample.apply(x, hole_rows.to(x.dtype), guide)
    return out


class _PanopticUpsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, hole_rows: Tensor, guide: ScaleGuide) -> Tensor:
        plan = guide.upsampling
        ctx.plan, ctx.shape = plan, x.shape
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, enabled=False):  # which on CUDA would make float32 of it
            out = F.interpolate(x, scale_factor=2, mode="nearest").contiguous(
                memory_format=torch.channels_last
            )
        flat = _rows(out)
        flat.index_copy_(0, plan.moved, _rows(x).index_select(0, plan.source))
        flat.index_copy_(0, plan.holes, hole_rows)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        flat, size = _rows(grad), list(grad.shape[2:])
        grad_x = torch.ops.aten.upsample_nearest2d_backward(grad, size, list(ctx.shape), 2.0, 2.0)
        grad_x = grad_x.contiguous(memory_format=torch.channels_last)
        grad_rows = _rows(grad_x)
        if len(plan.parents):
            kept = F.embedding_bag(
                plan.children, flat, mode="sum", per_sample_weights=plan.kept.to(flat.dtype)
            )
            grad_rows.index_copy_(0, plan.parents, kept)
        grad_rows.index_add_(0, plan.source, flat.index_select(0, plan.moved))
        return grad_x, flat.index_select(0, plan.holes), None


def _rows(x: Tensor) -> Tensor:
    """Channels-last map [B, C, H, W] as rows [B * H * W, C], the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])

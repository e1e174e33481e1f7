"""The panoptic-aware convolution through triton.py's kernels, with gradients.

The gradient of the weight is cuDNN's over the windows that match throughout, and the kernel's over
the mixed ones.

Legend: B images, H W pixels, C input and D output channels, k kernel side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from synthaug.generators.nn.panoptic import triton as kernels
from synthaug.generators.nn.panoptic.neighbourhood import Windows

usable = kernels.usable


class FusedConv(torch.autograd.Function):
    """x [B, C, H, W], weight [D, C, k, k], bias [D], windows -> [B, D, H, W]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        windows: Windows,
    ) -> Tensor:
        """Compute equations 1 and 2."""
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.windows = windows
        return kernels.convolve(x, weight, bias, windows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        windows: Windows = ctx.windows
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_x = None
        grad_weight = None
        grad_bias = None
        if wants_x:
            grad_x = kernels.gradient_of_input(grad, weight, windows)
        if wants_weight:
            grad_weight = _gradient_of_weight(grad, x, weight, windows)
        if wants_bias:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None


def _gradient_of_weight(grad: Tensor, x: Tensor, weight: Tensor, windows: Windows) -> Tensor:
    """Return [D, C, k, k]."""
    batch, height, width = windows.shape
    scale = windows.pure_scale.view(batch, 1, height, width)
    # windows that match throughout alone, each times its ratio, rounded once
    pure = torch.empty_like(grad)
    torch.mul(grad, scale, out=pure)
    padding = [windows.kernel // 2] * 2
    with torch.autocast(x.device.type, enabled=False):
        _, of_pure, _ = torch.ops.aten.convolution_backward(
            pure,
            x,
            weight,
            None,
            [1, 1],
            padding,
            [1, 1],
            False,
            [0, 0],
            1,
            (False, True, False),
        )
    of_mixed = kernels.gradient_of_weight(grad, x, windows)
    return torch.add(of_pure, of_mixed).to(weight.dtype)

"""The panoptic-aware convolution through the kernels of panoptic_triton.py, with its gradients.

The gradient of the weight is cuDNN's over the windows that match throughout, and the kernel's over the mixed ones.

Legend: B images, H W pixels, N = B H W rows, C input and D output channels, k kernel side.
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
    """x [B, C, H, W], weight [D, C, k, k], bias [D], windows -> [B, D, H, W], channels last."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows
    ) -> Tensor:
        """Equations 1 and 2."""
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.windows = windows
        return kernels.convolve(x, weight, bias, windows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        windows: Windows = ctx.windows
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_x = kernels.gradient_of_input(grad, weight, windows) if wants_x else None
        grad_weight = _gradient_of_weight(grad, x, weight, windows) if wants_weight else None
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if wants_bias else None, None


def _gradient_of_weight(grad: Tensor, x: Tensor, weight: Tensor, windows: Windows) -> Tensor:
    """[D, C, k, k]."""
    batch, height, width = windows.shape
    pure = torch.empty_like(
        grad
    )  # windows that match throughout alone, each times its ratio, rounded once
    torch.mul(grad, windows.pure_scale.view(batch, 1, height, width), out=pure)
    padding, wanted = [windows.kernel // 2] * 2, (False, True, False)
    with torch.autocast(x.device.type, enabled=False):
        rest = torch.ops.aten.convolution_backward(
            pure, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
        )[1]
    return torch.add(rest, kernels.gradient_of_weight(grad, x, windows)).to(weight.dtype)

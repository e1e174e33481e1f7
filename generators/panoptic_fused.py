"""The panoptic-aware convolution through the kernels of panoptic_triton.py, with its gradients.

Two ways, equal up to rounding: `fused`, one matrix product over all taps that reads zeros where a tap does not match; and
`patched`, cuDNN's plain convolution with the mixed windows written anew by the same kernel. The gradient of the weight is
cuDNN's over the windows that match throughout, and the kernel's over the mixed ones.

Legend: B images, H W pixels, N = B H W rows, C input and D output channels, k kernel side.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from generators import panoptic_triton as kernels
from generators.panoptic_guide import Windows

Way = Literal["fused", "patched"]

usable = kernels.usable


def way_of(windows: Windows) -> Way:
    """The faster way for these windows (benchmarks/panoptic_ops.py on a GPU)."""
    del windows
    return "fused"


class FusedConv(torch.autograd.Function):
    """x [B, C, H, W], weight [D, C, k, k], bias [D], windows, way -> [B, D, H, W], channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows, way: Way) -> Tensor:
        """Equations 1 and 2."""
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.windows, ctx.way = windows, way
        if way == "fused":
            return kernels.convolve(x, weight, bias, windows)
        with torch.autocast(x.device.type, enabled=False):
            out = F.conv2d(x, weight, bias, padding=windows.kernel // 2)
        out = out.contiguous(memory_format=torch.channels_last)
        return kernels.convolve(x, weight, bias, windows, windows.changed, out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        windows: Windows = ctx.windows
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        patched = ctx.way == "patched"
        grad_x, grad_weight = None, None
        scaled = _scaled(grad, windows.scale) if patched else grad
        with torch.autocast(x.device.type, enabled=False):
            if wants_x and patched:
                grad_x = _library_gradient(scaled, x, weight, (True, False, False))[0]
                grad_x = grad_x.contiguous(memory_format=torch.channels_last)
                kernels.gradient_of_input(grad, weight, windows, windows.mixed, grad_x)
            elif wants_x:
                grad_x = kernels.gradient_of_input(grad, weight, windows)
            if wants_weight:
                pure = _scaled(grad, windows.pure_scale)
                grad_weight = _library_gradient(pure, x, weight, (False, True, False))[1]
                tile = kernels.weight_tile(x.dtype, weight.shape[0], weight.shape[1])
                mixed = kernels.gradient_of_weight(grad, x, windows.kernel, windows, windows.mixed, tile)
                grad_weight = torch.add(grad_weight, mixed).to(weight.dtype)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if wants_bias else None, None, None


def _scaled(grad: Tensor, factors: Tensor) -> Tensor:
    """A map [B, D, H, W] times a number per pixel [N] float32, rounded once."""
    out = torch.empty_like(grad)
    batch, _, height, width = grad.shape
    return torch.mul(grad, factors.view(batch, 1, height, width), out=out)


def _library_gradient(grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> Any:
    """Gradients of a plain convolution, same size: (input, weight, bias)."""
    padding = [weight.shape[-1] // 2] * 2
    return torch.ops.aten.convolution_backward(grad, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted)

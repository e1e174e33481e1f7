"""Panoptic-aware convolution and upsampling (Panoptic-based Image Synthesis, Dundar et al., CVPR 2020, section 3).

    guide = Guide(identity, classes)                      # once per batch
    rows = hole_features(head_weight, head_bias, [guide.at(64), guide.at(128)])  # equation 3, at holes only
    y = panoptic_conv(x, weight, bias, guide.at(64))      # equations 1 and 2
    x = panoptic_upsample(y, guide.at(128), rows[1])      # Algorithm 1 and hole filling

Each stands twice: as the definition (`*_reference`, panoptic_reference.py) and, here, fast. The fast convolution is a plain
one whose mixed windows are computed anew from their matching taps, so that nothing of one identity, not even rounding,
reaches another; where most windows are mixed it is one matrix product per tap, with the pixels that do not match set to zero
meanwhile. The gradient is the same operator with the kernel transposed, because who matches me, I match. Maps are handled as
rows of channels (channels last); gradients of gradients are not provided.

Legend: B images, H W pixels, N = B H W rows, C input and D output channels, k kernel side, M mixed windows, Q holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from synthaug.generators.nn.panoptic.neighbourhood import Guide, ScaleGuide, Windows
from synthaug.generators.nn.panoptic.reference import (
    panoptic_conv_reference,
    panoptic_upsample_reference,
)
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample

__all__ = [
    "Guide",
    "ScaleGuide",
    "hole_features",
    "panoptic_conv",
    "panoptic_conv_reference",
    "panoptic_upsample",
    "panoptic_upsample_reference",
]

Form = Literal["auto", "windows", "taps", "fused"]

_MOSTLY_MIXED = 0.2  # share of extra products from which a product per tap is faster (benchmarks/panoptic_ops.py)
_DENSE_WEIGHT = 64.0  # C D / (C + D) below which reading the map once per tap costs more than the library's gradient
_BLOCK = 2048  # mixed windows gathered at a time on a CPU, where they then stay in the cache


def panoptic_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, guide: ScaleGuide, form: Form = "auto"
) -> Tensor:
    """Panoptic-aware convolution (equations 1 and 2), stride 1, same size, any odd kernel.

    x [B, C, H, W], weight [D, C, k, k], bias [D] -> [B, D, H, W], channels last. Follows autocast; sums of mixed windows are
    float32 at least. `form` is the way it is computed: a plain convolution with its mixed `windows` computed anew, or one
    product per tap (`taps`); on a GPU with triton `fused`, one product over all taps (panoptic_fused.py). ValueError when the
    guide is of another size, or the form is for a GPU and x is not.
    """
    if weight.shape[-1] == 1:
        return F.conv2d(x, weight, bias)  # a window of one pixel matches
    windows = guide.windows(weight.shape[-1])
    if (x.shape[0], *x.shape[2:]) != windows.shape:
        raise ValueError(f"features {list(x.shape)} do not fit a guide of {list(windows.shape)}")
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    fused = None if form in ("windows", "taps") else _kernels_for(x, windows.kernel, form)
    if fused is None:
        out: Tensor = _PanopticConv.apply(x, weight, bias, windows, form)
    else:
        out = fused.FusedConv.apply(x, weight, bias, windows)
    return out


def _kernels_for(x: Tensor, kernel: int, form: Form) -> ModuleType | None:
    """panoptic_fused, where its kernels can take these features; on a CPU only when asked for by name."""
    found = _fused() if x.is_cuda or form != "auto" else None
    if found is not None and found.usable(x, kernel):
        return found
    if form != "auto":
        raise ValueError(
            f"form: {form} needs triton, a GPU and short or single numbers; x is {x.dtype} on {x.device}"
        )
    return None


@cache
def _fused() -> ModuleType | None:
    try:
        from synthaug.generators.nn.panoptic import fused as panoptic_fused
    except ImportError:  # triton comes with torch for GPUs, not with every torch
        return None
    return panoptic_fused


def hole_features(
    weight: Tensor, bias: Tensor | None, guides: Sequence[ScaleGuide]
) -> list[Tensor]:
    """The panoptic-aware convolution of the semantic map (equation 3) at the holes alone, by look-up: [Q, D] per guide.

    weight [D, C, k, k] has the one-hot channels of `guide.classes` and then those of `guide.extra`. One call for all scales
    that share a kernel makes one gradient of it. A 1 x 1 convolution after it is a linear layer on these rows.
    """
    kernel = weight.shape[-1]
    tables = [guide.hole_table(kernel, weight.shape[1]) for guide in guides]
    sizes = [len(table.column) for table in tables]
    if not sum(sizes):
        return [weight.new_zeros(0, weight.shape[0]) for _ in guides]
    channels, places = torch.unique(
        torch.cat([table.channels for table in tables]), return_inverse=True
    )
    own = torch.split(places, [len(table.channels) for table in tables])
    index = torch.cat(
        [place[t.column] + t.tap * len(channels) for place, t in zip(own, tables, strict=True)]
    )
    wide = torch.promote_types(weight.dtype, torch.float32)
    columns = (
        weight.index_select(1, channels).permute(2, 3, 1, 0).flatten(0, 2).to(wide)
    )  # [k * k * c, D]
    scale = torch.cat([table.weight for table in tables]).to(wide)
    rows = F.embedding_bag(index, columns, mode="sum", per_sample_weights=scale)
    return list(torch.split((rows if bias is None else rows + bias).to(weight.dtype), sizes))


class _PanopticConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows, form: Form
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.windows, ctx.form = windows, form
        with torch.autocast(x.device.type, enabled=False):
            return _convolve(x, weight, bias, windows, _per_tap(form, windows))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        windows: Windows = ctx.windows
        grad = grads[0]
        grad_x, grad_weight, grad_bias = None, None, None
        with torch.autocast(x.device.type, enabled=False):
            if ctx.needs_input_grad[2]:
                grad_bias = grad.sum((0, 2, 3))
            with _scaled(grad, x, windows) as scaled:
                if ctx.needs_input_grad[0]:
                    grad_x = _gradient_of_input(
                        scaled, x, weight, windows, _per_tap(ctx.form, windows)
                    )
                if ctx.needs_input_grad[1]:
                    grad_weight = _gradient_of_weight(
                        scaled, x, weight, windows, _weight_per_tap(ctx.form, weight)
                    )
        return grad_x, grad_weight, grad_bias, None, None


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows, per_tap: bool
) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    taps = [
        weight[:, :, i // windows.kernel, i % windows.kernel].t() for i in range(len(windows.steps))
    ]  # [C, D] each
    shift = 0 if bias is None else bias.to(wide)
    if per_tap:
        return _map(aware_by_taps(_rows(x).clone(), taps, shift, windows), windows)
    out = F.conv2d(x, weight, bias, padding=windows.kernel // 2).contiguous(
        memory_format=torch.channels_last
    )
    correct_windows(_rows(out), _rows(x), taps, shift, windows)
    return out


def aware_by_taps(
    rows: Tensor, taps: list[Tensor], shift: Tensor | float, windows: Windows
) -> Tensor:
    """The convolution as a product per tap: rows [N, C], taps [C, D], shift [D] -> [N, D]; `rows` is restored."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    total = _by_taps(rows, taps, windows)
    return total.mul_(windows.ratio(None, wide)).add_(shift).to(rows.dtype)


def correct_windows(
    out: Tensor, rows: Tensor, taps: list[Tensor], shift: Tensor | float, windows: Windows
) -> None:
    """Make of a plain convolution `out` [N, D] of rows [N, C] the panoptic-aware one, in place; taps [C, D], shift [D]."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    mixed = _mixed_windows(rows, taps, windows).mul_(windows.ratio(windows.mixed, wide)).add_(shift)
    out.index_copy_(0, windows.mixed, mixed.to(out.dtype))
    edge = (
        out.index_select(0, windows.edge)
        .to(wide)
        .sub_(shift)
        .mul_(windows.ratio(windows.edge, wide))
        .add_(shift)
    )
    out.index_copy_(0, windows.edge, edge.to(out.dtype))


def mostly_mixed(windows: Windows) -> bool:
    """Whether a product per tap is faster than a plain convolution with its mixed windows computed anew."""
    return windows.work > _MOSTLY_MIXED


def _per_tap(form: Form, windows: Windows) -> bool:
    return form == "taps" or (form == "auto" and mostly_mixed(windows))


def _weight_per_tap(form: Form, weight: Tensor) -> bool:
    d, c = weight.shape[:2]
    return form == "taps" or (
        form == "auto" and not weight.is_cuda and c * d >= _DENSE_WEIGHT * (c + d)
    )


@contextmanager
def _scaled(grad: Tensor, x: Tensor, windows: Windows) -> Iterator[Tensor]:
    """The gradient [B, D, H, W] times the ratio of equation 2, channels last; what is done to it ends with the context.

    On a CPU it is the incoming tensor, because a copy would be a third of what a plain convolution needs: autograd runs one
    node of a graph at a time there, and the few rows that change are put back bit for bit (`data`: it counts no change).
    """
    held = grad.contiguous(memory_format=torch.channels_last).data
    foreign = held.data_ptr() == grad.data_ptr()
    if foreign and (
        grad.is_cuda or grad.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    ):
        held = held.clone(memory_format=torch.preserve_format)
    flat, pixels = _rows(held), torch.cat([windows.mixed, windows.edge])
    kept = flat.index_select(0, pixels)
    try:
        flat.index_copy_(0, pixels, kept * windows.ratio(pixels, grad.dtype))
        yield held
    finally:
        flat.index_copy_(0, pixels, kept)


def _gradient_of_input(
    scaled: Tensor, x: Tensor, weight: Tensor, windows: Windows, per_tap: bool
) -> Tensor:
    """The same operator without ratio, tap o with the transposed weights of tap -o."""
    count = len(windows.steps)
    taps = [
        weight[:, :, i // windows.kernel, i % windows.kernel] for i in reversed(range(count))
    ]  # [D, C] each
    if per_tap:
        return _map(_by_taps(_rows(scaled), taps, windows).to(x.dtype), windows)
    grad_x: Tensor = _library_gradient(scaled, x, weight, (True, False, False))[0]
    grad_x = grad_x.contiguous(memory_format=torch.channels_last)
    mixed = _mixed_windows(_rows(scaled), taps, windows)
    _rows(grad_x).index_copy_(0, windows.mixed, mixed.to(x.dtype))
    return grad_x


def _gradient_of_weight(
    scaled: Tensor, x: Tensor, weight: Tensor, windows: Windows, per_tap: bool
) -> Tensor:
    """Per tap the product of gradients and pixels over the windows where the tap matches."""
    grads, pixels = _rows(scaled), _rows(x)
    d, c, kernel, _ = weight.shape
    out = weight.new_empty(d, kernel, kernel, c)
    blocks = [out[:, i // kernel, i % kernel] for i in range(kernel * kernel)]  # [D, C] each
    if per_tap:
        for block, step, different in zip(blocks, windows.steps, windows.unmatched, strict=True):
            first, stop = _span(step, windows.size)
            kept = grads.index_select(0, different)
            grads.index_fill_(0, different, 0)
            torch.mm(grads[first:stop].t(), pixels[first + step : stop + step], out=block)
            grads.index_copy_(0, different, kept)
    else:
        mixed = grads.index_select(0, windows.mixed)
        grads.index_fill_(0, windows.mixed, 0)
        out.copy_(_library_gradient(scaled, x, weight, (False, True, False))[1].permute(0, 2, 3, 1))
        for block, (place, source) in zip(blocks, windows.pairs, strict=True):
            block.addmm_(mixed.index_select(0, place).t(), pixels.index_select(0, source))
    return out.permute(0, 3, 1, 2)


def _mixed_windows(rows: Tensor, taps: list[Tensor], windows: Windows) -> Tensor:
    """Sum over matching taps at mixed windows: rows [N, C], taps [C, D] -> [M, D], float32 at least."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    total = torch.zeros(len(windows.mixed), taps[0].shape[1], dtype=wide, device=rows.device)
    block = max(1, len(windows.mixed)) if rows.is_cuda else _BLOCK
    held = rows.new_empty(block, rows.shape[1])
    products = rows.new_empty(block, total.shape[1])
    for tap, (places, sources) in zip(taps, windows.pairs, strict=True):
        for place, source in zip(
            torch.split(places, block), torch.split(sources, block), strict=True
        ):
            read, product = held[: len(place)], products[: len(place)]
            torch.index_select(rows, 0, source, out=read)
            torch.mm(read, tap, out=product)
            total.index_add_(0, place, product.to(wide))
    return total


def _by_taps(rows: Tensor, taps: list[Tensor], windows: Windows) -> Tensor:
    """Sum over matching taps at every window: rows [N, C], taps [C, D] -> [N, D]; `rows` is changed and restored."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    total = torch.zeros(windows.size, taps[0].shape[1], dtype=wide, device=rows.device)
    for tap, step, different in zip(taps, windows.steps, windows.unmatched, strict=True):
        first, stop = _span(step, windows.size)
        source = different[(different >= first) & (different < stop)] + step
        kept = rows.index_select(0, source)
        rows.index_fill_(0, source, 0)
        if rows.dtype == wide:
            total[first:stop].addmm_(rows[first + step : stop + step], tap)
        else:
            total[first:stop].add_(rows[first + step : stop + step] @ tap)
        rows.index_copy_(0, source, kept)
    return total


def _library_gradient(
    scaled: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> Any:
    """Gradients of a plain convolution, same size: (input, weight, bias)."""
    stride = dilation = [1, 1]
    padding = [weight.shape[-1] // 2] * 2
    return torch.ops.aten.convolution_backward(
        scaled, x, weight, None, stride, padding, dilation, False, [0, 0], 1, wanted
    )


def _rows(x: Tensor) -> Tensor:
    """Channels-last map [B, C, H, W] as rows [B * H * W, C], the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _map(rows: Tensor, windows: Windows) -> Tensor:
    """Rows as a channels-last map [B, C, H, W], the same memory."""
    return rows.view(*windows.shape, -1).permute(0, 3, 1, 2)


def _span(step: int, size: int) -> tuple[int, int]:
    """Rows from which a step of this many rows stays on the list."""
    first, stop = max(0, -step), min(size, size - step)
    return first, max(first, stop)

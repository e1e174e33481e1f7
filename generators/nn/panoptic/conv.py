"""Panoptic-aware convolution (Dundar et al., CVPR 2020, section 3).

    maps = NeighbourhoodPyramid(identity, classes)        # once per batch
    rows = hole_features(head_weight, head_bias, [maps.at(64), maps.at(128)])  # eq. 3, holes only
    y = panoptic_conv(x, weight, bias, maps.at(64))       # equations 1 and 2
    x = panoptic_upsample(y, maps.at(128), rows[1])       # Algorithm 1 and hole filling

Each stands twice: as the definition (reference.py) and, here, fast. The fast convolution is a plain
one whose mixed windows are computed anew from their matching taps, so that nothing of one identity,
not even rounding, reaches another; where most windows are mixed it is one matrix product per tap,
with the pixels that do not match set to zero meanwhile. The gradient is the same operator with the
kernel transposed, because matching is symmetric. Maps are handled as rows of channels (channels
last); gradients of gradients are not provided.

Legend: B images, H W pixels, N = B H W rows, C input and D output channels, k kernel side, M mixed
windows, Q holes.
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

from synthaug.generators.nn.panoptic.neighbourhood import Neighbourhood, Windows
from synthaug.generators.nn.panoptic.upsample import as_rows

Form = Literal["auto", "windows", "taps", "fused"]

# Share of extra products from which a product per tap is faster (benchmarks/panoptic_ops.py)
_MOSTLY_MIXED = 0.2
# C D / (C + D) below which reading the map once per tap costs more than the library's gradient
_DENSE_WEIGHT = 64.0
_BLOCK = 2048  # mixed windows gathered at a time on a CPU, where they then stay in the cache


def panoptic_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    neighbourhood: Neighbourhood,
    form: Form = "auto",
) -> Tensor:
    """Compute the panoptic-aware convolution (eqs. 1 and 2), same size, odd kernel.

    x [B, C, H, W], weight [D, C, k, k], bias [D] -> [B, D, H, W], channels last. Follows autocast;
    sums of mixed windows are float32 at least. `form` is the way it is computed: a plain
    convolution with its mixed `windows` computed anew, or one product per tap (`taps`); on a GPU
    with triton `fused`, one product over all taps (fused.py). Raises ValueError when the map is of
    another size, or the form is for a GPU and x is not.
    """
    kernel = weight.shape[-1]
    if kernel == 1:
        return F.conv2d(x, weight, bias)  # a window of one pixel matches
    windows = neighbourhood.windows(kernel)
    batch, _, height, width = x.shape
    if (batch, height, width) != windows.shape:
        raise ValueError(f"features {list(x.shape)} do not fit a map of {list(windows.shape)}")
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x = x.to(dtype)
        weight = weight.to(dtype)
        if bias is not None:
            bias = bias.to(dtype)
    fused = None
    if form in ("auto", "fused"):
        fused = _kernels_for(x, kernel, form)
    if fused is None:
        out: Tensor = _PanopticConv.apply(x, weight, bias, windows, form)
    else:
        out = fused.FusedConv.apply(x, weight, bias, windows)
    return out


def _kernels_for(x: Tensor, kernel: int, form: Form) -> ModuleType | None:
    """Return fused.py where its kernels can take x; on a CPU only when asked for."""
    fused = None
    if x.is_cuda or form != "auto":
        fused = _fused()
    if fused is not None and fused.usable(x, kernel):
        return fused
    if form != "auto":
        raise ValueError(
            f"form: {form} needs triton, a GPU and short or single numbers; "
            f"x is {x.dtype} on {x.device}"
        )
    return None


@cache
def _fused() -> ModuleType | None:
    try:
        from synthaug.generators.nn.panoptic import fused
    except ImportError:  # triton comes with torch for GPUs, not with every torch
        return None
    return fused


def hole_features(
    weight: Tensor,
    bias: Tensor | None,
    neighbourhoods: Sequence[Neighbourhood],
) -> list[Tensor]:
    """Return the convolution of the map (equation 3) at holes alone, [Q, D] each.

    weight [D, C, k, k] has the one-hot channels of `classes` and then those of `extra`. One call
    for all scales that share a kernel makes one gradient of it. A 1 x 1 convolution after it is a
    linear layer on these rows.
    """
    out_channels, in_channels, kernel, _ = weight.shape
    tables = [maps.hole_table(kernel, in_channels) for maps in neighbourhoods]
    sizes = [len(table.column) for table in tables]
    if not sum(sizes):
        return [weight.new_zeros(0, out_channels) for _ in neighbourhoods]

    # the kernel's columns of the channels that occur in any of the maps
    all_channels = torch.cat([table.channels for table in tables])
    channels, positions = torch.unique(all_channels, return_inverse=True)
    wide = torch.promote_types(weight.dtype, torch.float32)
    chosen = weight.index_select(1, channels)
    columns = chosen.permute(2, 3, 1, 0)
    columns = columns.flatten(0, 2).to(wide)  # [k * k * c, D]

    indices = []
    counts = [len(table.channels) for table in tables]
    of_tables = torch.split(positions, counts)
    for table, position in zip(tables, of_tables, strict=True):
        indices.append(position[table.column] + table.tap * len(channels))
    weights = [table.weight for table in tables]
    scale = torch.cat(weights).to(wide)
    index = torch.cat(indices)
    rows = F.embedding_bag(index, columns, mode="sum", per_sample_weights=scale)
    if bias is not None:
        rows = rows + bias
    as_weight = rows.to(weight.dtype)
    return list(torch.split(as_weight, sizes))


class _PanopticConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        windows: Windows,
        form: Form,
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.windows = windows
        ctx.form = form
        with torch.autocast(x.device.type, enabled=False):
            return _convolve(x, weight, bias, windows, _per_tap(form, windows))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        windows: Windows = ctx.windows
        form: Form = ctx.form
        grad = grads[0]
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_x = None
        grad_weight = None
        grad_bias = None
        with torch.autocast(x.device.type, enabled=False):
            if wants_bias:
                grad_bias = grad.sum((0, 2, 3))
            with _scaled(grad, x, windows) as scaled:
                if wants_x:
                    per_tap = _per_tap(form, windows)
                    grad_x = _gradient_of_input(scaled, x, weight, windows, per_tap)
                if wants_weight:
                    per_tap = _weight_per_tap(form, weight)
                    grad_weight = _gradient_of_weight(scaled, x, weight, windows, per_tap)
        return grad_x, grad_weight, grad_bias, None, None


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    windows: Windows,
    per_tap: bool,
) -> Tensor:
    taps = [tap.t() for tap in _taps(weight)]  # [C, D] each
    shift: Tensor | float = 0
    if bias is not None:
        wide = torch.promote_types(x.dtype, torch.float32)
        shift = bias.to(wide)
    if per_tap:
        rows = as_rows(x).clone()
        return _as_map(aware_by_taps(rows, taps, shift, windows), windows)
    out = F.conv2d(x, weight, bias, padding=windows.kernel // 2)
    out = out.contiguous(memory_format=torch.channels_last)
    correct_windows(as_rows(out), as_rows(x), taps, shift, windows)
    return out


def aware_by_taps(
    rows: Tensor,
    taps: list[Tensor],
    shift: Tensor | float,
    windows: Windows,
) -> Tensor:
    """Compute the convolution as a product per tap; `rows` is changed and restored.

    rows [N, C], taps [C, D], shift [D] -> [N, D].
    """
    total = _by_taps(rows, taps, windows)
    ratio = windows.ratio(None, total.dtype)
    total = total.mul_(ratio).add_(shift)
    return total.to(rows.dtype)


def correct_windows(
    out: Tensor,
    rows: Tensor,
    taps: list[Tensor],
    shift: Tensor | float,
    windows: Windows,
) -> None:
    """Turn a plain convolution `out` [N, D] into the panoptic-aware one, in place.

    taps [C, D], shift [D].
    """
    wide = torch.promote_types(rows.dtype, torch.float32)
    mixed = _mixed_windows(rows, taps, windows)
    ratio = windows.ratio(windows.mixed, wide)
    mixed = mixed.mul_(ratio).add_(shift)
    out.index_copy_(0, windows.mixed, mixed.to(out.dtype))
    edge = out.index_select(0, windows.edge).to(wide)
    ratio = windows.ratio(windows.edge, wide)
    edge = edge.sub_(shift).mul_(ratio).add_(shift)
    out.index_copy_(0, windows.edge, edge.to(out.dtype))


def mostly_mixed(windows: Windows) -> bool:
    """Return whether a product per tap is faster than mixed windows anew."""
    return windows.work > _MOSTLY_MIXED


def _per_tap(form: Form, windows: Windows) -> bool:
    if form == "auto":
        return mostly_mixed(windows)
    return form == "taps"


def _weight_per_tap(form: Form, weight: Tensor) -> bool:
    if form == "auto":
        d, c = weight.shape[:2]
        return not weight.is_cuda and c * d >= _DENSE_WEIGHT * (c + d)
    return form == "taps"


@contextmanager
def _scaled(grad: Tensor, x: Tensor, windows: Windows) -> Iterator[Tensor]:
    """Give the gradient [B, D, H, W] times the ratio of equation 2, channels last.

    Changes of it end with the context. On a CPU it is the incoming tensor, because a copy would be
    a third of what a plain convolution needs: autograd runs one node of a graph at a time there,
    and the few rows that change are put back bit for bit (`data`: it counts no change).
    """
    scaled = grad.contiguous(memory_format=torch.channels_last).data
    is_incoming = scaled.data_ptr() == grad.data_ptr()
    address = grad.untyped_storage().data_ptr()
    is_input = address == x.untyped_storage().data_ptr()
    if is_incoming and (grad.is_cuda or is_input):
        scaled = scaled.clone(memory_format=torch.preserve_format)
    rows = as_rows(scaled)
    pixels = torch.cat([windows.mixed, windows.edge])
    before = rows.index_select(0, pixels)
    try:
        ratio = windows.ratio(pixels, grad.dtype)
        rows.index_copy_(0, pixels, before * ratio)
        yield scaled
    finally:
        rows.index_copy_(0, pixels, before)


def _gradient_of_input(
    scaled: Tensor,
    x: Tensor,
    weight: Tensor,
    windows: Windows,
    per_tap: bool,
) -> Tensor:
    """Apply the operator without ratio, tap o with the weights of tap -o transposed."""
    taps = _taps(weight)[::-1]  # [D, C] each
    if per_tap:
        grad_rows = _by_taps(as_rows(scaled), taps, windows)
        return _as_map(grad_rows.to(x.dtype), windows)
    gradients = _library_gradient(scaled, x, weight, (True, False, False))
    grad_x: Tensor = gradients[0]
    grad_x = grad_x.contiguous(memory_format=torch.channels_last)
    mixed = _mixed_windows(as_rows(scaled), taps, windows)
    as_rows(grad_x).index_copy_(0, windows.mixed, mixed.to(x.dtype))
    return grad_x


def _gradient_of_weight(
    scaled: Tensor,
    x: Tensor,
    weight: Tensor,
    windows: Windows,
    per_tap: bool,
) -> Tensor:
    """Return per tap the product of gradients and pixels where it matches."""
    grads = as_rows(scaled)
    pixels = as_rows(x)
    d, c, kernel, _ = weight.shape
    out = weight.new_empty(d, kernel, kernel, c)
    blocks = out.flatten(1, 2).unbind(1)  # [D, C] each
    if per_tap:
        steps = zip(blocks, windows.steps, windows.unmatched, strict=True)
        for block, step, different in steps:
            first, stop = _span(step, windows.size)
            before = grads.index_select(0, different)
            grads.index_fill_(0, different, 0)
            out_rows = grads[first:stop]
            in_rows = pixels[first + step : stop + step]
            torch.mm(out_rows.t(), in_rows, out=block)
            grads.index_copy_(0, different, before)
        return out.permute(0, 3, 1, 2)
    mixed = grads.index_select(0, windows.mixed)
    grads.index_fill_(0, windows.mixed, 0)
    gradients = _library_gradient(scaled, x, weight, (False, True, False))
    of_pure: Tensor = gradients[1]
    out.copy_(of_pure.permute(0, 2, 3, 1))
    for block, (index, source) in zip(blocks, windows.pairs, strict=True):
        out_rows = mixed.index_select(0, index)
        in_rows = pixels.index_select(0, source)
        block.addmm_(out_rows.t(), in_rows)
    return out.permute(0, 3, 1, 2)


def _mixed_windows(rows: Tensor, taps: Sequence[Tensor], windows: Windows) -> Tensor:
    """Sum over matching taps at mixed windows, float32 at least.

    rows [N, C], taps [C, D] -> [M, D].
    """
    count = len(windows.mixed)
    out_channels = taps[0].shape[1]
    wide = torch.promote_types(rows.dtype, torch.float32)
    total = torch.zeros(count, out_channels, dtype=wide, device=rows.device)
    block = _BLOCK
    if rows.is_cuda:
        block = max(1, count)
    read_buffer = rows.new_empty(block, rows.shape[1])
    product_buffer = rows.new_empty(block, out_channels)
    for tap, (indices, sources) in zip(taps, windows.pairs, strict=True):
        index_blocks = torch.split(indices, block)
        source_blocks = torch.split(sources, block)
        for index, source in zip(index_blocks, source_blocks, strict=True):
            read = read_buffer[: len(index)]
            product = product_buffer[: len(index)]
            torch.index_select(rows, 0, source, out=read)
            torch.mm(read, tap, out=product)
            total.index_add_(0, index, product.to(wide))
    return total


def _by_taps(rows: Tensor, taps: Sequence[Tensor], windows: Windows) -> Tensor:
    """Sum over matching taps at every window; `rows` is changed and restored.

    rows [N, C], taps [C, D] -> [N, D].
    """
    wide = torch.promote_types(rows.dtype, torch.float32)
    shape = (windows.size, taps[0].shape[1])
    total = torch.zeros(shape, dtype=wide, device=rows.device)
    steps = zip(taps, windows.steps, windows.unmatched, strict=True)
    for tap, step, different in steps:
        first, stop = _span(step, windows.size)
        on_list = (different >= first) & (different < stop)
        source = different[on_list] + step
        before = rows.index_select(0, source)
        rows.index_fill_(0, source, 0)
        read = rows[first + step : stop + step]
        if rows.dtype == wide:
            total[first:stop].addmm_(read, tap)
        else:
            total[first:stop].add_(read @ tap)
        rows.index_copy_(0, source, before)
    return total


def _library_gradient(
    scaled: Tensor,
    x: Tensor,
    weight: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Any:
    """Return the gradients of a plain convolution, same size: (input, weight, bias)."""
    stride = [1, 1]
    dilation = [1, 1]
    padding = [weight.shape[-1] // 2] * 2
    return torch.ops.aten.convolution_backward(
        scaled, x, weight, None, stride, padding, dilation, False, [0, 0], 1, wanted
    )


def _taps(weight: Tensor) -> Sequence[Tensor]:
    """Return the taps of a kernel [D, C, k, k], row-major: [D, C] each."""
    return weight.flatten(2).unbind(2)


def _as_map(rows: Tensor, windows: Windows) -> Tensor:
    """View rows as a channels-last map [B, C, H, W], the same memory."""
    by_pixel = rows.view(*windows.shape, -1)
    return by_pixel.permute(0, 3, 1, 2)


def _span(step: int, size: int) -> tuple[int, int]:
    """Return the rows, first and stop, from which a step stays on the list."""
    first = max(0, -step)
    stop = min(size, size - step)
    return first, max(first, stop)

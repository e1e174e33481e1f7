"""The panoptic-aware convolution on a GPU: one matrix product over all taps, in which a tap that does not match reads zeros.

Triton kernels (Tillet et al., 2019) in place of the lists of panoptic_ops.py; equal to it up to rounding. Equations 1 and 2
need two things of the map, a bit per tap that says whether it matches and the ratio, so there is one launch where the lists
take dozens. Sums are float32. float32 numbers are multiplied as cuDNN multiplies them in a plain convolution: in TF32 unless
`torch.backends.cudnn.allow_tf32` is false. Needs triton, a GPU of compute capability 8 or later and kernels up to 5 x 5.

Legend: B images, H W pixels, N = B H W rows, C input and D output channels, K taps, M mixed windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from synthaug.generators.nn.panoptic.neighbourhood import Windows

MOST_TAPS = 25  # bits of a window that fit one int32
_LARGE = 160 * 1024  # bytes that three stages of the largest tile need, with room to spare


@dataclass(frozen=True)
class Tile:
    """How much one program works on at a time, and by how many warps and stages of loading."""

    rows: int = 128
    columns: int = 128
    depth: int = 64
    warps: int = 8
    stages: int = 3


def usable(x: Tensor, kernel: int) -> bool:
    """Whether the kernels can take such features (on a CPU: under Triton's interpreter) with such a kernel size."""
    fits = (
        x.dtype in (torch.float32, torch.bfloat16, torch.float16) and kernel * kernel <= MOST_TAPS
    )
    if not x.is_cuda:
        return fits and bool(triton.knobs.runtime.interpret)
    return (
        fits and torch.version.hip is None and torch.cuda.get_device_capability(x.device) >= (8, 0)
    )


def tile_of(dtype: torch.dtype, rows: int, columns: int, depth: int, memory: int) -> Tile:
    """The tile for so many rows, output and input channels, where a program may have `memory` bytes of shared memory.

    From the table of tiles measured on an H200 (benchmarks/results/2026-11-27-gpu.md): large ones are faster from 128
    columns on in short numbers and from 256 in float32. With fewer rows than were measured, smaller ones make more programs.
    """
    short = dtype != torch.float32
    deep = _between(16, depth, 64 if short else 32)
    if memory >= _LARGE and rows >= 2**15 and columns > (64 if short else 128):
        return Tile(256, 128, deep, 8, 3) if short else Tile(128, 256, deep, 8, 3)
    wide = _between(16, columns, 128)
    return Tile(128, wide, deep, 8 if wide == 128 else 4, 3 if memory >= _LARGE else 2)


def weight_tile(dtype: torch.dtype, d: int, c: int, memory: int) -> Tile:
    """The tile of `gradient_of_weight`, from the same table; its depth counts rows."""
    short, stages = dtype != torch.float32, 3 if memory >= _LARGE else 2
    if d <= 64 or (short and d > 128):
        tall, wide, warps, stages = 64, 128, 4, stages + 1
    elif short:
        tall, wide, warps = 128, 128, 4
    elif d > 128 and memory >= _LARGE:
        tall, wide, warps = 256, 128, 8
    else:
        tall, wide, warps = 128, 64, 4
    return Tile(_between(16, d, tall), _between(16, c, wide), 64 if short else 32, warps, stages)


def memory_of(device: torch.device) -> int:
    """Bytes of shared memory that one program may have; on a CPU none."""
    return (
        torch.cuda.get_device_properties(device).shared_memory_per_block_optin
        if device.type == "cuda"
        else 0
    )


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows, tile: Tile | None = None
) -> Tensor:
    """Equations 1 and 2: x [B, C, H, W], channels last, weight [D, C, k, k], bias [D] -> [B, D, H, W], channels last."""
    return _product(x, _by_tap(weight), bias, windows, tile, ratio_of="results")


def gradient_of_input(
    grad: Tensor, weight: Tensor, windows: Windows, tile: Tile | None = None
) -> Tensor:
    """The gradient [B, C, H, W] of `convolve`: the same sum over rows that are scaled when read, the kernel transposed."""
    mirrored = weight.flip(2, 3).transpose(0, 1)
    return _product(grad, _by_tap(mirrored), None, windows, tile, ratio_of="features")


def gradient_of_weight(
    grad: Tensor, x: Tensor, windows: Windows, tile: Tile | None = None
) -> Tensor:
    """What the mixed windows add to the gradient of the weight: [D, C, k, k], channels last, float32.

    Rows are cut into as many parts as keep the GPU busy, each part is summed apart and then all are added up: no order
    depends on which program is faster.
    """
    d, c, kernel, rows = grad.shape[1], x.shape[1], windows.kernel, windows.mixed
    taps = kernel * kernel
    tile = tile or weight_tile(x.dtype, d, c, memory_of(x.device))
    blocks = taps * triton.cdiv(c, tile.columns) * triton.cdiv(d, tile.rows)
    most = max(1, triton.cdiv(len(rows), 8 * tile.depth))
    parts = max(1, min(most, triton.cdiv(1024, blocks)))
    sums = torch.empty(parts, d, taps, c, dtype=torch.float32, device=x.device)
    if not len(rows):
        return sums.zero_()[0].view(d, kernel, kernel, c).permute(0, 3, 1, 2)
    each = triton.cdiv(triton.cdiv(len(rows), parts), tile.depth) * tile.depth
    grid = (triton.cdiv(d, tile.rows), taps * triton.cdiv(c, tile.columns), parts)
    _weight_kernel[grid](
        _rows(grad),
        _rows(x),
        windows.bits,
        windows.scale,
        rows,
        sums,
        len(rows),
        each,
        c,
        d,
        windows.shape[2],
        SIDE=kernel,
        WIDE=_wide(grad, x),
        PRECISION=_precision(x),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return sums.sum(0).view(d, kernel, kernel, c).permute(0, 3, 1, 2)


def _product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    windows: Windows,
    tile: Tile | None,
    ratio_of: str,
) -> Tensor:
    """Sum over matching taps; weight [D, k, k, C] contiguous."""
    d, kernel, _, c = weight.shape
    batch, height, width = windows.shape
    out = torch.empty(
        batch, d, height, width, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    if not windows.size:
        return out
    tile = tile or tile_of(x.dtype, windows.size, d, c, memory_of(x.device))
    _product_kernel[(triton.cdiv(windows.size, tile.rows) * triton.cdiv(d, tile.columns),)](
        _rows(x),
        weight,
        bias,
        windows.bits,
        windows.scale,
        _rows(out),
        windows.size,
        c,
        d,
        width,
        SIDE=kernel,
        BIASED=bias is not None,
        SCALED=ratio_of == "features",
        WIDE=_wide(x, out),
        PRECISION=_precision(x),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


def _by_tap(weight: Tensor) -> Tensor:
    """[D, C, k, k] as [D, k, k, C], contiguous: the order of a channels-last kernel."""
    return weight.permute(0, 2, 3, 1).contiguous()


def _rows(x: Tensor) -> Tensor:
    """Channels-last map [B, C, H, W] as rows [N, C], the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _between(least: int, number: int, most: int) -> int:
    """The power of two from `number` up, within bounds."""
    return max(least, min(most, int(triton.next_power_of_2(number))))


def _wide(*maps: Tensor) -> bool:
    """Whether places in memory need 64 bits."""
    return any(m.numel() >= 2**31 for m in maps)


def _precision(x: Tensor) -> str:
    """How float32 numbers are multiplied; the rest has one way."""
    return "tf32" if torch.backends.cudnn.allow_tf32 and x.dtype == torch.float32 else "ieee"


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _product_kernel(
    x: tl.tensor,  # [N, C]
    weight: tl.tensor,  # [D, K, C]
    bias: tl.tensor,  # [D]
    bits: tl.tensor,  # [N] int32
    ratio: tl.tensor,  # [N] float32
    out: tl.tensor,  # [N, D]
    count: tl.tensor,
    c: tl.tensor,
    d: tl.tensor,
    width: tl.tensor,
    SIDE: tl.constexpr,
    BIASED: tl.constexpr,
    SCALED: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """One tile [ROWS, COLUMNS] of the result; tiles of the same rows are neighbours, so that these stay in the cache."""
    program = tl.program_id(0)
    across = (d + COLUMNS - 1) // COLUMNS
    place = program // across * ROWS + tl.arange(0, ROWS)
    column = program % across * COLUMNS + tl.arange(0, COLUMNS)
    channel = tl.arange(0, DEPTH)
    there = place < count
    row = place.to(tl.int64) if WIDE else place
    seen = tl.load(bits + row, mask=there, other=0)
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    deep = (c + DEPTH - 1) // DEPTH
    for step in range(SIDE * SIDE * deep):
        tap = step // deep
        at = step % deep * DEPTH + channel
        source = row + (tap // SIDE - SIDE // 2) * width + tap % SIDE - SIDE // 2
        matches = (seen >> tap) & 1 != 0
        read = tl.load(
            x + source[:, None] * c + at[None, :],
            mask=matches[:, None] & (at < c)[None, :],
            other=0.0,
        )
        if SCALED:
            factor = tl.load(ratio + source, mask=matches, other=0.0)
            read = (read.to(tl.float32) * factor[:, None]).to(read.dtype)
        kernel = tl.load(
            weight + (column * (SIDE * SIDE) + tap)[None, :] * c + at[:, None],
            mask=(column < d)[None, :] & (at < c)[:, None],
            other=0.0,
        )
        total = tl.dot(read, kernel, total, input_precision=PRECISION)
    if not SCALED:
        total = total * tl.load(ratio + row, mask=there, other=0.0)[:, None]
    if BIASED:
        total = total + tl.load(bias + column, mask=column < d, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + row[:, None] * d + column[None, :],
        total.to(out.dtype.element_ty),
        mask=there[:, None] & (column < d)[None, :],
    )


@triton.jit(do_not_specialize=["count", "each"])  # type: ignore[untyped-decorator]
def _weight_kernel(
    grad: tl.tensor,  # [N, D]
    x: tl.tensor,  # [N, C]
    bits: tl.tensor,  # [N] int32
    ratio: tl.tensor,  # [N] float32
    rows: tl.tensor,  # [M] int64
    sums: tl.tensor,  # [parts, D, K, C] float32
    count: tl.tensor,
    each: tl.tensor,
    c: tl.tensor,
    d: tl.tensor,
    width: tl.tensor,
    SIDE: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """One tile [ROWS of D, COLUMNS of C] of one tap, summed over `each` of the listed rows."""
    across = (c + COLUMNS - 1) // COLUMNS
    tap = tl.program_id(1) // across
    made = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    read = tl.program_id(1) % across * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(2) * each
    last = tl.minimum(first + each, count)
    shift = (tap // SIDE - SIDE // 2) * width + tap % SIDE - SIDE // 2
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for start in range(first, last, DEPTH):
        place = start + tl.arange(0, DEPTH)
        row = tl.load(rows + place, mask=place < last, other=0)
        row = row if WIDE else row.to(tl.int32)
        seen = tl.load(bits + row, mask=place < last, other=0)
        matches = (seen >> tap) & 1 != 0
        factor = tl.load(ratio + row, mask=matches, other=0.0)
        ours = tl.load(
            grad + row[None, :] * d + made[:, None],
            mask=matches[None, :] & (made < d)[:, None],
            other=0.0,
        )
        ours = (ours.to(tl.float32) * factor[None, :]).to(grad.dtype.element_ty)
        theirs = tl.load(
            x + (row + shift)[:, None] * c + read[None, :],
            mask=matches[:, None] & (read < c)[None, :],
            other=0.0,
        )
        total = tl.dot(ours, theirs, total, input_precision=PRECISION)
    where = (
        (tl.program_id(2).to(tl.int64) * d + made[:, None]) * (SIDE * SIDE * c)
        + tap * c
        + read[None, :]
    )
    tl.store(sums + where, total, mask=(made < d)[:, None] & (read < c)[None, :])

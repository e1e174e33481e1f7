"""The panoptic-aware convolution on a GPU: one matrix product over all taps.

A tap that does not match reads zeros. Triton kernels (Tillet et al., 2019) in place of the lists of
conv.py; equal to it up to rounding. Equations 1 and 2 need two things of the map, a bit per tap for
whether it matches and the ratio, so there is one launch where the lists take dozens. Sums are
float32. float32 numbers are multiplied as cuDNN multiplies them in a plain convolution: in TF32
unless `torch.backends.cudnn.allow_tf32` is false. Needs triton, a GPU of compute capability 8 or
later and kernels up to 5 x 5.

Legend: B images, H W pixels, N = B H W rows, C input and D output channels, K taps, M mixed
windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from synthaug.generators.nn.panoptic.neighbourhood import Windows
from synthaug.generators.nn.panoptic.upsample import as_rows

MAX_TAPS = 25  # bits of a window that fit one int32
_LARGE = 160 * 1024  # bytes that three stages of the largest tile need, with room to spare
_MIN_SIDE = 16  # of a tile, as Triton's product needs it


@dataclass(frozen=True)
class Tile:
    """The block that one program works on, and its warps and stages of loading."""

    rows: int = 128
    columns: int = 128
    depth: int = 64
    warps: int = 8
    stages: int = 3


def usable(x: Tensor, kernel: int) -> bool:
    """Return whether the kernels can take such features with such a kernel size.

    On a CPU they can under Triton's interpreter.
    """
    known_type = x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    if not known_type or kernel * kernel > MAX_TAPS:
        return False
    if not x.is_cuda:
        return bool(triton.knobs.runtime.interpret)
    if torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(x.device) >= (8, 0)


def tile_of(dtype: torch.dtype, rows: int, columns: int, depth: int, memory: int) -> Tile:
    """Return the tile for so many rows, output and input channels.

    A program may have `memory` bytes of shared memory. From the table of tiles measured on an H200
    (benchmarks/results/2026-11-27-gpu.md): large ones are faster from 128 columns on in short
    numbers and from 256 in float32. With fewer rows than were measured, smaller ones make more
    programs.
    """
    short = dtype != torch.float32
    large = memory >= _LARGE and rows >= 2**15
    if short:
        tile_depth = _power_of_two(depth, 64)
        if large and columns > 64:
            return Tile(256, 128, tile_depth, 8, 3)
    else:
        tile_depth = _power_of_two(depth, 32)
        if large and columns > 128:
            return Tile(128, 256, tile_depth, 8, 3)
    tile_columns = _power_of_two(columns, 128)
    warps = 8 if tile_columns == 128 else 4
    stages = 3 if memory >= _LARGE else 2
    return Tile(128, tile_columns, tile_depth, warps, stages)


def weight_tile(dtype: torch.dtype, d: int, c: int, memory: int) -> Tile:
    """Return the tile of `gradient_of_weight`; its depth counts rows."""
    short = dtype != torch.float32
    stages = 3 if memory >= _LARGE else 2
    if d <= 64 or (short and d > 128):
        rows, columns, warps = 64, 128, 4
        stages += 1
    elif short:
        rows, columns, warps = 128, 128, 4
    elif d > 128 and memory >= _LARGE:
        rows, columns, warps = 256, 128, 8
    else:
        rows, columns, warps = 128, 64, 4
    depth = 64 if short else 32
    return Tile(_power_of_two(d, rows), _power_of_two(c, columns), depth, warps, stages)


def memory_of(device: torch.device) -> int:
    """Return the bytes of shared memory that one program may have; on a CPU none."""
    if device.type != "cuda":
        return 0
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    windows: Windows,
    tile: Tile | None = None,
) -> Tensor:
    """Compute equations 1 and 2, channels last.

    x [B, C, H, W], weight [D, C, k, k], bias [D] -> [B, D, H, W].
    """
    return _product(x, _by_tap(weight), bias, windows, tile, scaled=False)


def gradient_of_input(
    grad: Tensor,
    weight: Tensor,
    windows: Windows,
    tile: Tile | None = None,
) -> Tensor:
    """Return the gradient [B, C, H, W] of `convolve`.

    It is the same sum over rows that are scaled when read, the kernel transposed.
    """
    mirrored = weight.flip(2, 3).transpose(0, 1)
    return _product(grad, _by_tap(mirrored), None, windows, tile, scaled=True)


def gradient_of_weight(
    grad: Tensor,
    x: Tensor,
    windows: Windows,
    tile: Tile | None = None,
) -> Tensor:
    """Return the mixed windows' part of the weight's gradient: [D, C, k, k], float32.

    Channels last. Rows are cut into as many parts as keep the GPU busy, each part is summed apart
    and then all are added up: no order depends on which program is faster.
    """
    d = grad.shape[1]
    c = x.shape[1]
    kernel = windows.kernel
    taps = kernel * kernel
    rows = windows.mixed
    count = len(rows)
    if tile is None:
        tile = weight_tile(x.dtype, d, c, memory_of(x.device))
    tiles_down = triton.cdiv(d, tile.rows)
    tiles_across = taps * triton.cdiv(c, tile.columns)
    max_parts = max(1, triton.cdiv(count, 8 * tile.depth))
    parts = max(1, min(max_parts, triton.cdiv(1024, tiles_down * tiles_across)))
    sums = torch.empty(parts, d, taps, c, dtype=torch.float32, device=x.device)
    if count == 0:
        return _from_tap_rows(sums.zero_()[0], kernel)
    per_part = triton.cdiv(triton.cdiv(count, parts), tile.depth) * tile.depth
    _weight_kernel[(tiles_down, tiles_across, parts)](
        as_rows(grad),
        as_rows(x),
        windows.bits,
        windows.scale,
        rows,
        sums,
        count,
        per_part,
        c,
        d,
        windows.shape[2],
        SIDE=kernel,
        WIDE=_needs_64_bits(grad, x),
        PRECISION=_precision(x),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return _from_tap_rows(sums.sum(0), kernel)


def _product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    windows: Windows,
    tile: Tile | None,
    scaled: bool,
) -> Tensor:
    """Sum over matching taps; weight [D, k, k, C] contiguous.

    The ratio of equation 2 multiplies the rows that are read if `scaled`, else the sums.
    """
    d, kernel, _, c = weight.shape
    batch, height, width = windows.shape
    out = torch.empty(
        (batch, d, height, width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    if not windows.size:
        return out
    if tile is None:
        tile = tile_of(x.dtype, windows.size, d, c, memory_of(x.device))
    programs = triton.cdiv(windows.size, tile.rows) * triton.cdiv(d, tile.columns)
    _product_kernel[(programs,)](
        as_rows(x),
        weight,
        bias,
        windows.bits,
        windows.scale,
        as_rows(out),
        windows.size,
        c,
        d,
        width,
        SIDE=kernel,
        BIASED=bias is not None,
        SCALED=scaled,
        WIDE=_needs_64_bits(x, out),
        PRECISION=_precision(x),
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


def _by_tap(weight: Tensor) -> Tensor:
    """Return [D, C, k, k] as [D, k, k, C], contiguous."""
    return weight.permute(0, 2, 3, 1).contiguous()


def _from_tap_rows(rows: Tensor, kernel: int) -> Tensor:
    """View [D, k * k, C] as a channels-last kernel [D, C, k, k]."""
    d, _, c = rows.shape
    return rows.view(d, kernel, kernel, c).permute(0, 3, 1, 2)


def _power_of_two(number: int, largest: int) -> int:
    """Return the power of two from `number` up, between _MIN_SIDE and `largest`."""
    power = int(triton.next_power_of_2(number))
    return max(_MIN_SIDE, min(largest, power))


def _needs_64_bits(*maps: Tensor) -> bool:
    """Return whether positions in memory need 64 bits."""
    return any(one.numel() >= 2**31 for one in maps)


def _precision(x: Tensor) -> str:
    """Return the way float32 numbers are multiplied; others have one way."""
    if torch.backends.cudnn.allow_tf32 and x.dtype == torch.float32:
        return "tf32"
    return "ieee"


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
    """Compute one tile [ROWS, COLUMNS] of the result.

    Tiles of the same rows are neighbours, so that these stay in the cache.
    """
    program = tl.program_id(0)
    tiles_across = (d + COLUMNS - 1) // COLUMNS
    position = program // tiles_across * ROWS + tl.arange(0, ROWS)
    column = program % tiles_across * COLUMNS + tl.arange(0, COLUMNS)
    row_exists = position < count
    column_exists = column < d
    row = position.to(tl.int64) if WIDE else position
    taps = tl.load(bits + row, mask=row_exists, other=0)
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    steps_per_tap = (c + DEPTH - 1) // DEPTH
    for step in range(SIDE * SIDE * steps_per_tap):
        tap = step // steps_per_tap
        channel = step % steps_per_tap * DEPTH + tl.arange(0, DEPTH)
        channel_exists = channel < c
        down = tap // SIDE - SIDE // 2
        right = tap % SIDE - SIDE // 2
        source = row + down * width + right
        matches = (taps >> tap) & 1 != 0
        read = tl.load(
            x + source[:, None] * c + channel[None, :],
            mask=matches[:, None] & channel_exists[None, :],
            other=0.0,
        )
        if SCALED:
            factor = tl.load(ratio + source, mask=matches, other=0.0)
            read = (read.to(tl.float32) * factor[:, None]).to(read.dtype)
        kernel_row = column * (SIDE * SIDE) + tap
        kernel = tl.load(
            weight + kernel_row[None, :] * c + channel[:, None],
            mask=column_exists[None, :] & channel_exists[:, None],
            other=0.0,
        )
        total = tl.dot(read, kernel, total, input_precision=PRECISION)
    if not SCALED:
        factor = tl.load(ratio + row, mask=row_exists, other=0.0)
        total = total * factor[:, None]
    if BIASED:
        shift = tl.load(bias + column, mask=column_exists, other=0.0).to(tl.float32)
        total = total + shift[None, :]
    tl.store(
        out + row[:, None] * d + column[None, :],
        total.to(out.dtype.element_ty),
        mask=row_exists[:, None] & column_exists[None, :],
    )


@triton.jit(do_not_specialize=["count", "per_part"])  # type: ignore[untyped-decorator]
def _weight_kernel(
    grad: tl.tensor,  # [N, D]
    x: tl.tensor,  # [N, C]
    bits: tl.tensor,  # [N] int32
    ratio: tl.tensor,  # [N] float32
    rows: tl.tensor,  # [M] int64
    sums: tl.tensor,  # [parts, D, K, C] float32
    count: tl.tensor,
    per_part: tl.tensor,
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
    """Compute one tile [ROWS of D, COLUMNS of C] of one tap over some rows."""
    tiles_across = (c + COLUMNS - 1) // COLUMNS
    tap = tl.program_id(1) // tiles_across
    out_channel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    in_channel = tl.program_id(1) % tiles_across * COLUMNS + tl.arange(0, COLUMNS)
    out_exists = out_channel < d
    in_exists = in_channel < c
    first = tl.program_id(2) * per_part
    last = tl.minimum(first + per_part, count)
    down = tap // SIDE - SIDE // 2
    right = tap % SIDE - SIDE // 2
    shift = down * width + right
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for start in range(first, last, DEPTH):
        position = start + tl.arange(0, DEPTH)
        row = tl.load(rows + position, mask=position < last, other=0)
        row = row if WIDE else row.to(tl.int32)
        taps = tl.load(bits + row, mask=position < last, other=0)
        matches = (taps >> tap) & 1 != 0
        factor = tl.load(ratio + row, mask=matches, other=0.0)
        gradient = tl.load(
            grad + row[None, :] * d + out_channel[:, None],
            mask=matches[None, :] & out_exists[:, None],
            other=0.0,
        )
        scaled = (gradient.to(tl.float32) * factor[None, :]).to(grad.dtype.element_ty)
        pixels = tl.load(
            x + (row + shift)[:, None] * c + in_channel[None, :],
            mask=matches[:, None] & in_exists[None, :],
            other=0.0,
        )
        total = tl.dot(scaled, pixels, total, input_precision=PRECISION)
    part_row = tl.program_id(2).to(tl.int64) * d + out_channel
    target = part_row[:, None] * (SIDE * SIDE * c) + tap * c + in_channel[None, :]
    tl.store(sums + target, total, mask=out_exists[:, None] & in_exists[None, :])

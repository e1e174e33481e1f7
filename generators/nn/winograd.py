"""3 x 3 convolutions for inference with fewer multiplications, no gradients.

The fast forms turn a convolution into matrix products between sums and differences of neighbouring
pixels (minimal filtering: Winograd; Lavin & Gray 2016). A tile of 2 x 2 outputs takes 16 products
instead of 36 and rounds no worse than the plain form; one of 4 x 4 takes 36 instead of 144, rounds
about twice as coarsely and is for float32 only. The fastest depends on the channels, the side and
the device; it is the caller's to choose, by measurement
(benchmarks/results/2026-11-22-lostgan-speed.md).

Legend: B images, H W pixels, C input channels, N output channels. Maps are [B, H, W, C],
contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Matrix = tuple[tuple[float, ...], ...]

# F(2, 3) along one axis: 2 outputs from 4 pixels d0 .. d3 by 4 products, with d0 - d2, d1 + d2,
# d2 - d1 and d1 - d3
TWO = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, -1.0))
# F(4, 3): 4 outputs from 6 pixels by 6 products, at the points 0, A, -A, B, -B and infinity. These
# two are exact in binary and round four times less than the customary 1 and 2
_A = 0.75
_B = 1.5
_A2 = _A * _A
_B2 = _B * _B


def _four() -> Matrix:
    """Return the matrix from a kernel's taps to F(4, 3)'s products.

    Those at A count A times and those at B B^2 times, which saves `_from_fours` its factors.
    """
    a = 1 / (2 * _A * (_A2 - _B2))
    b = 1 / (2 * (_B2 - _A2))
    return (
        (1 / (_A2 * _B2), 0.0, 0.0),
        (a, a * _A, a * _A2),
        (a, -a * _A, a * _A2),
        (b, b * _B, b * _B2),
        (b, -b * _B, b * _B2),
        (0.0, 0.0, 1.0),
    )


class SameConv(nn.Module):
    """3 x 3 convolution, same padding, of maps with channels last.

    It may add a 1 x 1 convolution of a map of half the side, repeated 2 x 2. weight [N, C, 3, 3],
    bias [N], shortcut [N, C', 1, 1]; outputs per side of a `tile`: 1 (plain), 2 or 4.
    """

    bias: Tensor
    weight: Tensor
    shortcut: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        shortcut: Tensor | None = None,
        tile: int = 1,
    ) -> None:
        super().__init__()
        assert tile in (1, 2, 4)
        self.tile = tile
        if tile == 1:
            weight = weight.contiguous(memory_format=torch.channels_last)
        elif tile == 2:
            weight = both_axes(TWO, weight).contiguous()  # [4, 4, C, N]
        else:
            weight = both_axes(_four(), weight).contiguous()  # [6, 6, C, N]
        if shortcut is not None:
            matrix = shortcut[:, :, 0, 0]
            shortcut = matrix.t().contiguous()  # [C', N]
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("shortcut", shortcut, persistent=False)

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        """Map [B, H, W, C], H and W multiples of the tile, to [B, H, W, N].

        low [B, H/2, W/2, C'] is the shortcut's input.
        """
        if low is None:
            if self.tile == 1:
                return _conv(x, self.weight, self.bias)
            return self._by_tiles(x).add_(self.bias)
        assert self.shortcut is not None
        batch, height, width, _ = low.shape
        pixels = low.flatten(0, 2)
        added = torch.addmm(self.bias, pixels, self.shortcut)
        added = added.view(batch, height, 1, width, 1, -1)
        if self.tile == 1:
            out = _conv(x, self.weight, None)
        else:
            out = self._by_tiles(x)
        of_low = out.view(batch, height, 2, width, 2, -1)
        of_low.add_(added)
        return out

    def _by_tiles(self, x: Tensor) -> Tensor:
        """Return the convolution without the bias."""
        transform_in = _into_twos if self.tile == 2 else _into_fours
        transform_out = from_twos if self.tile == 2 else _from_fours
        return by_tiles(x, self.weight, x.shape[1:3], self.tile, transform_in, transform_out)


def by_tiles(
    seen: Tensor,
    weight: Tensor,
    size: Sequence[int],
    tile: int,
    transform_in: Callable[[Tensor, Tensor, int], None],
    transform_out: Callable[[Tensor, Tensor], None],
) -> Tensor:
    """Return the convolution [B, H, W, N] of all that it sees [B, h, w, C].

    `size` is (H, W). weight [P, P, C, N] holds the factors of the P products along either axis of
    a tile of `tile` x `tile` outputs; `transform_in` writes their inputs along an axis,
    `transform_out` the outputs of a tile from them. One row of the tiles comes at a time, so that
    its transformed values stay in the cache.
    """
    batch, _, seen_width, channels = seen.shape
    points, _, _, out_channels = weight.shape
    height, width = size
    tile_rows = height // tile
    tile_columns = width // tile
    tiles = (batch, tile_rows, tile_columns)

    rows = seen.new_empty(points, batch, tile_rows, seen_width, channels)
    transform_in(seen, rows, 1)
    pixels = seen.new_empty(points, *tiles, channels)
    products = seen.new_empty(points, *tiles, out_channels)
    columns = seen.new_empty(points, tile, *tiles, out_channels)
    for i in range(points):
        transform_in(rows[i], pixels, 2)
        for j in range(points):
            flat = pixels[j].view(-1, channels)
            target = products[j].view(-1, out_channels)
            torch.mm(flat, weight[i, j], out=target)
        transform_out(products, columns[i])
    out = seen.new_empty(batch, tile_rows, tile, tile_columns, tile, out_channels)
    transform_out(columns, out.permute(2, 4, 0, 1, 3, 5))
    return out.view(batch, height, width, out_channels)


def same_tile(weight: Tensor, side: int, most: int) -> int:
    """Return the tile of a 3 x 3 convolution [N, C, 3, 3] that is fastest on a CPU.

    Measured, for a map of that side.

    Narrow ones cost more sums than they save products. At small sides a batch of one has too few
    tiles to pay for reading the larger transformed weight.
    """
    channels = weight.shape[1]
    if channels < 64:
        return 1
    if channels < 128 and most < 4:
        return 1
    if side < 16:
        return min(most, 2)
    return most


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = F.conv2d(channels_first(x), weight, bias, padding=1)
    return channels_last(out)


def both_axes(matrix: Matrix, weight: Tensor) -> Tensor:
    """Transform a kernel [N, C, 3, 3] by a matrix [k, 3] twice: [k, k, C, N]."""
    m = weight.new_tensor(matrix)
    return torch.einsum("ru,sv,ncuv->rscn", m, m, weight)


def channels_first(x: Tensor) -> Tensor:
    """View a map [B, H, W, C] as [B, C, H, W]."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """Return a map [B, C, H, W] as [B, H, W, C], contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def strided(x: Tensor, axis: int, stride: int) -> list[Tensor]:
    """Return every stride-th pixel along an axis, from the first, the second ..."""
    before = (slice(None),) * axis
    every = []
    for start in range(stride):
        of_axis = slice(start, None, stride)
        every.append(x[(*before, of_axis)])
    return every


def _into_twos(x: Tensor, out: Tensor, axis: int) -> None:
    """Write d0 - d2, d1 + d2, d2 - d1, d1 - d3 of every tile along an axis.

    Outside the map is zero. d0 is the d2 of the tile before, d3 the d1 of the tile after.
    """
    d1, d2 = strided(x, axis, 2)
    last = d1.shape[axis] - 1
    d0 = d2.narrow(axis, 0, last)
    d3 = d1.narrow(axis, 1, last)
    before = d2.narrow(axis, 1, last)
    first = d2.select(axis, 0)
    torch.sub(d0, before, out=out[0].narrow(axis, 1, last))
    torch.neg(first, out=out[0].select(axis, 0))
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    inner = d1.narrow(axis, 0, last)
    end = d1.select(axis, last)
    torch.sub(inner, d3, out=out[3].narrow(axis, 0, last))
    out[3].select(axis, last).copy_(end)


def from_twos(m: Tensor, out: Tensor) -> None:
    """Write the outputs of products m[0] .. m[3] into out[0], out[1]; changes `m`."""
    torch.add(m[0].add_(m[1]), m[2], out=out[0])
    torch.add(m[1].sub_(m[2]), m[3], out=out[1])


def _into_fours(x: Tensor, out: Tensor, axis: int) -> None:
    """Write the inputs of F(4, 3)'s six products of every tile along an axis.

    A point p takes of the pixels d0 .. d5 the coefficients of M(x) / (x - p), infinity those of
    M(x) = x (x^2 - A^2) (x^2 - B^2).
    """
    # d0 is the d4 of the tile before, d5 the d1 of the tile after
    d1, d2, d3, d4 = strided(x, axis, 4)
    last = d1.shape[axis] - 1
    d0 = d4.narrow(axis, 0, last)
    d5 = d1.narrow(axis, 1, last)
    even = torch.sub(d4, d2, alpha=_B2)
    odd = torch.sub(d3, d1, alpha=_B2)
    torch.add(even, odd, alpha=_A, out=out[1])
    torch.sub(even, odd, alpha=_A, out=out[2])
    torch.sub(even, d2, alpha=_A2, out=out[0])
    out[0].narrow(axis, 1, last).add_(d0, alpha=_A2 * _B2)
    torch.mul(odd, -_A2, out=out[5])
    out[5].sub_(d3, alpha=_B2)
    out[5].narrow(axis, 0, last).add_(d5)
    torch.sub(d4, d2, alpha=_A2, out=even)
    torch.sub(d3, d1, alpha=_A2, out=odd)
    torch.add(even, odd, alpha=_B, out=out[3])
    torch.sub(even, odd, alpha=_B, out=out[4])


def _from_fours(m: Tensor, out: Tensor) -> None:
    """Write the outputs y_j = sum of p^j m_p into out[0] .. out[3]; changes `m`.

    m[0] .. m[5] are the products at the six points p.
    """
    even_a = m[1] + m[2]  # A times the even part of the points A and -A
    even_b = m[3] + m[4]  # B^2 times that of B and -B
    odd_a = m[1].sub_(m[2])
    odd_b = m[3].sub_(m[4])
    sums = m[0].add_(even_a, alpha=1 / _A)
    torch.add(sums, even_b, alpha=1 / _B2, out=out[0])
    torch.add(odd_a, odd_b, alpha=1 / _B, out=out[1])
    torch.add(even_b, even_a, alpha=_A, out=out[2])
    sums = m[5].add_(odd_a, alpha=_A2)
    torch.add(sums, odd_b, alpha=_B, out=out[3])

"""3 x 3 convolutions for inference with fewer multiplications, channels last: exact up to rounding, no gradients.

The fast forms turn a convolution into matrix products between sums and differences of neighbouring pixels (minimal
filtering: Winograd; Lavin & Gray 2016). A tile of 2 x 2 outputs takes 16 products instead of 36 and rounds no worse than the
plain form; one of 4 x 4 takes 36 instead of 144, rounds about twice as coarsely and is for float32 only. Which is fastest
depends on the channels, the side and the device; it is the caller's to choose, by measurement
(benchmarks/results/2026-11-22-lostgan-speed.md).

Legend: B images, H W pixels, C input channels, N output channels. Maps are [B, H, W, C], contiguous.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Matrix = tuple[tuple[float, ...], ...]

# F(2, 3) along one axis: 2 outputs from 4 pixels d0 .. d3 by 4 products, with d0 - d2, d1 + d2, d2 - d1 and d1 - d3
_TWO = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, -1.0))
# F(4, 3): 4 outputs from 6 pixels by 6 products, at the points 0, A, -A, B, -B and infinity. These two are exact in
# binary and round four times less than the customary 1 and 2
_A, _B = 0.75, 1.5
_A2, _B2 = _A * _A, _B * _B


def _four() -> Matrix:
    """Kernel to products; those at A count A times and those at B B^2 times, which saves `_from_fours` its factors."""
    a, b = 1 / (2 * _A * (_A2 - _B2)), 1 / (2 * (_B2 - _A2))
    return (
        (1 / (_A2 * _B2), 0.0, 0.0),
        (a, a * _A, a * _A2),
        (a, -a * _A, a * _A2),
        (b, b * _B, b * _B2),
        (b, -b * _B, b * _B2),
        (0.0, 0.0, 1.0),
    )


class SameConv(nn.Module):
    """3 x 3 convolution, same padding; may add a 1 x 1 convolution of a map of half the side, repeated 2 x 2."""

    def __init__(
        self, weight: Tensor, bias: Tensor, shortcut: Tensor | None = None, tile: int = 1
    ) -> None:
        """weight [N, C, 3, 3], bias [N], shortcut [N, C', 1, 1]; outputs per side of a `tile`: 1 (plain), 2 or 4."""
        super().__init__()
        assert tile in (1, 2, 4)
        self.tile = tile
        self.register_buffer("bias", bias, persistent=False)
        if tile == 1:
            weight = weight.contiguous(memory_format=torch.channels_last)
        else:
            weight = both_axes(
                _TWO if tile == 2 else _four(), weight
            ).contiguous()  # [tile + 2, tile + 2, C, N]
        self.register_buffer("weight", weight, persistent=False)
        lower = None if shortcut is None else shortcut[:, :, 0, 0].t().contiguous()  # [C', N]
        self.register_buffer("shortcut", lower, persistent=False)

    bias: Tensor
    weight: Tensor
    shortcut: Tensor | None

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        """x [B, H, W, C] with H and W multiples of the tile, low [B, H/2, W/2, C'] -> [B, H, W, N]."""
        if low is None:
            return (
                _conv(x, self.weight, self.bias)
                if self.tile == 1
                else self._by_tiles(x).add_(self.bias)
            )
        assert self.shortcut is not None
        b, h, w, _ = low.shape
        added = torch.addmm(self.bias, low.flatten(0, 2), self.shortcut).view(b, h, 1, w, 1, -1)
        out = _conv(x, self.weight, None) if self.tile == 1 else self._by_tiles(x)
        out.view(b, h, 2, w, 2, -1).add_(added)
        return out

    def _by_tiles(self, x: Tensor) -> Tensor:
        """Without the bias. One row of the tiles at a time, so that what it is transformed to stays in the cache."""
        into, back = (_into_twos, _from_twos) if self.tile == 2 else (_into_fours, _from_fours)
        (b, height, width, c), n = x.shape, self.weight.shape[3]
        h, w, wide = height // self.tile, width // self.tile, self.tile + 2
        rows = x.new_empty(wide, b, h, width, c)
        into(x, rows, 1)
        taken, products = x.new_empty(wide, b, h, w, c), x.new_empty(wide, b, h, w, n)
        columns = x.new_empty(wide, self.tile, b, h, w, n)
        for row, weights, column in zip(rows, self.weight, columns, strict=True):
            into(row, taken, 2)
            for pixels, weight, product in zip(taken, weights, products, strict=True):
                torch.mm(pixels.view(-1, c), weight, out=product.view(-1, n))
            back(products, column)
        out = x.new_empty(b, h, self.tile, w, self.tile, n)
        back(columns, out.permute(2, 4, 0, 1, 3, 5))
        return out.view(b, height, width, n)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return channels_last(F.conv2d(channels_first(x), weight, bias, padding=1))


def both_axes(matrix: Matrix, weight: Tensor) -> Tensor:
    """Kernel [N, C, 3, 3] transformed along both axes by a matrix [k, 3]: [k, k, C, N]."""
    m = weight.new_tensor(matrix)
    return torch.einsum("ru,sv,ncuv->rscn", m, m, weight)


def channels_first(x: Tensor) -> Tensor:
    """View a map [B, H, W, C] as [B, C, H, W]."""
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """Return a map [B, C, H, W] as [B, H, W, C], contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def _strided(x: Tensor, axis: int, stride: int) -> list[Tensor]:
    """Every stride-th pixel along an axis, from the first, the second ..."""
    at = (slice(None),) * axis
    return [x[(*at, slice(i, None, stride))] for i in range(stride)]


def _into_twos(x: Tensor, out: Tensor, axis: int) -> None:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3 of every tile along an axis; into out[0] .. out[3]. Outside the map is zero."""
    d1, d2 = _strided(x, axis, 2)
    inner = d1.shape[axis] - 1
    torch.sub(
        d2.narrow(axis, 0, inner), d2.narrow(axis, 1, inner), out=out[0].narrow(axis, 1, inner)
    )
    torch.neg(d2.select(axis, 0), out=out[0].select(axis, 0))
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(
        d1.narrow(axis, 0, inner), d1.narrow(axis, 1, inner), out=out[3].narrow(axis, 0, inner)
    )
    out[3].select(axis, inner).copy_(d1.select(axis, inner))


def _from_twos(m: Tensor, out: Tensor) -> None:
    """Outputs out[0] and out[1] from the products m[0] .. m[3]; `m` is used up."""
    torch.add(m[0].add_(m[1]), m[2], out=out[0])
    torch.add(m[1].sub_(m[2]), m[3], out=out[1])


def _into_fours(x: Tensor, out: Tensor, axis: int) -> None:
    """What each of F(4, 3)'s six points takes of the pixels d0 .. d5 of every tile along an axis; into out[0] .. out[5].

    A point p takes the coefficients of M(x) / (x - p), infinity those of M(x) = x (x^2 - A^2) (x^2 - B^2).
    """
    d1, d2, d3, d4 = _strided(
        x, axis, 4
    )  # d0 is the d4 of the tile before, d5 the d1 of the tile after
    inner = d1.shape[axis] - 1
    even, odd = torch.sub(d4, d2, alpha=_B2), torch.sub(d3, d1, alpha=_B2)
    torch.add(even, odd, alpha=_A, out=out[1])
    torch.sub(even, odd, alpha=_A, out=out[2])
    torch.sub(even, d2, alpha=_A2, out=out[0])
    out[0].narrow(axis, 1, inner).add_(d4.narrow(axis, 0, inner), alpha=_A2 * _B2)
    torch.mul(odd, -_A2, out=out[5])
    out[5].sub_(d3, alpha=_B2).narrow(axis, 0, inner).add_(d1.narrow(axis, 1, inner))
    torch.sub(d4, d2, alpha=_A2, out=even)
    torch.sub(d3, d1, alpha=_A2, out=odd)
    torch.add(even, odd, alpha=_B, out=out[3])
    torch.sub(even, odd, alpha=_B, out=out[4])


def _from_fours(m: Tensor, out: Tensor) -> None:
    """Outputs out[0] .. out[3] from the products m[0] .. m[5] at the six points: y_j = sum of p^j m_p; `m` is used up."""
    near, far = (
        m[1] + m[2],
        m[3] + m[4],
    )  # A times the even part of the points A and -A, B^2 times that of B and -B
    near_odd, far_odd = m[1].sub_(m[2]), m[3].sub_(m[4])
    torch.add(m[0].add_(near, alpha=1 / _A), far, alpha=1 / _B2, out=out[0])
    torch.add(near_odd, far_odd, alpha=1 / _B, out=out[1])
    torch.add(far, near, alpha=_A, out=out[2])
    torch.add(m[5].add_(near_odd, alpha=_A2), far_odd, alpha=_B, out=out[3])

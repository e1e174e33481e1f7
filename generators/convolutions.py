"""3 x 3 convolutions for inference with fewer multiplications, channels last: exact up to rounding, no gradients.

Both fast forms turn a convolution into matrix products between sums and differences of neighbouring pixels (minimal
filtering: Winograd; Lavin & Gray 2016). Which form is fastest depends on the channels, the side and the device; it is the
caller's to choose, by measurement (benchmarks/results/2026-11-22-lostgan-speed.md).

Legend: B images, H W pixels, C input channels, N output channels. Maps are [B, H, W, C], contiguous.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# F(2, 3) along one axis: 2 outputs from 4 pixels d0 .. d3 by 4 products, with d0 - d2, d1 + d2, d2 - d1 and d1 - d3
_FOUR = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, -1.0))
# two outputs per repeated pixel by 3 products: with the pixel itself, its step from the left and its step to the right
_THREE = ((1.0, 1.0, 1.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
# the kernel's taps as the four taps of a transposed convolution of stride 2
_STRIDE_2 = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


class SameConv(nn.Module):
    """3 x 3 convolution, same padding; may add a 1 x 1 convolution of a map of half the side, repeated 2 x 2."""

    def __init__(self, weight: Tensor, bias: Tensor, shortcut: Tensor | None = None, fast: bool = False) -> None:
        """weight [N, C, 3, 3], bias [N], shortcut [N, C', 1, 1]; `fast` takes 16 products per 4 pixels instead of 36."""
        super().__init__()
        self.fast = fast
        self.register_buffer("bias", bias, persistent=False)
        if fast:
            weight = _both_axes(_FOUR, weight).flatten(0, 1).contiguous()  # [16, C, N]
        else:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)
        lower = None if shortcut is None else shortcut[:, :, 0, 0].t().contiguous()  # [C', N]
        self.register_buffer("shortcut", lower, persistent=False)

    bias: Tensor
    weight: Tensor
    shortcut: Tensor | None

    def forward(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        """x [B, H, W, C], low [B, H/2, W/2, C'] -> [B, H, W, N]."""
        return self._by_tiles(x, low) if self.fast else self._plain(x, low)

    def _plain(self, x: Tensor, low: Tensor | None) -> Tensor:
        out = _last(F.conv2d(_first(x), self.weight, self.bias, padding=1))
        if low is not None:
            assert self.shortcut is not None
            b, h, w, _ = low.shape
            added = (low.flatten(0, 2) @ self.shortcut).view(b, h, 1, w, 1, -1)
            out.view(b, h, 2, w, 2, -1).add_(added)
        return out

    def _by_tiles(self, x: Tensor, low: Tensor | None) -> Tensor:
        b, h, w, c = x.shape
        tiles = _tiles(x).view(16, -1, c)
        n = self.weight.shape[2]
        products = x.new_empty(16, tiles.shape[1], n)
        for i, (tile, weight) in enumerate(zip(tiles, self.weight, strict=True)):
            # product 5 goes unchanged into all four pixels of a tile: what is the same for them is added there
            if i == 5:
                torch.addmm(self.bias, tile, weight, out=products[5])
            else:
                torch.mm(tile, weight, out=products[i])
        if low is not None:
            assert self.shortcut is not None
            products[5].addmm_(low.flatten(0, 2), self.shortcut)
        return _from_tiles(products.view(4, 4, b, h // 2, w // 2, n))


class DoublingConv(nn.Module):
    """3 x 3 convolution, same padding, of a map whose pixels are repeated 2 x 2 first."""

    def __init__(self, weight: Tensor, bias: Tensor, form: str) -> None:
        """weight [N, C, 3, 3], bias [N]; form: steps (9 products per pixel read), transposed (16) or plain (36)."""
        super().__init__()
        self.form = form
        self.register_buffer("bias", bias, persistent=False)
        if form == "steps":
            weight = _both_axes(_THREE, weight).contiguous()  # [3, 3, C, N]
        elif form == "transposed":
            taps = weight.new_tensor(_STRIDE_2)
            weight = torch.einsum("au,bv,ncuv->cnab", taps, taps, weight)
            weight = weight.contiguous(memory_format=torch.channels_last)
        else:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)

    bias: Tensor
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, 2 H, 2 W, N]."""
        if self.form == "steps":
            return self._by_steps(x)
        if self.form == "transposed":
            return _last(F.conv_transpose2d(_first(x), self.weight, self.bias, stride=2, padding=1))
        repeated = F.interpolate(_first(x), scale_factor=2, mode="nearest")
        return _last(F.conv2d(repeated, self.weight, self.bias, padding=1))

    def _by_steps(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        across = _steps(x, 2)  # [B, H, W + 1, C]
        down = _steps(x, 1)  # [B, H + 1, W, C]
        both = _steps(across, 1)  # [B, H + 1, W + 1, C]
        centre = torch.addmm(self.bias, x.flatten(0, 2), self.weight[0, 0]).view(b, h, w, -1)
        columns = [_product(down[:, p : h + p], self.weight[1 + p, 0]) for p in (0, 1)]
        out = x.new_empty(b, h, 2, w, 2, centre.shape[-1])
        for q in (0, 1):  # left and right pixel of each pair
            row = _product(across[:, :, q : w + q], self.weight[0, 1 + q]).add_(centre)
            for p in (0, 1):  # upper and lower one
                corner = _product(both[:, p : h + p, q : w + q], self.weight[1 + p, 1 + q])
                torch.add(corner.add_(columns[p]), row, out=out[:, :, p, :, q])
        return out.view(b, 2 * h, 2 * w, -1)


def _both_axes(matrix: tuple[tuple[float, ...], ...], weight: Tensor) -> Tensor:
    """Kernel [N, C, 3, 3] transformed along both axes: [k, k, C, N]."""
    m = weight.new_tensor(matrix)
    return torch.einsum("ru,sv,ncuv->rscn", m, m, weight)


def _first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return (x.flatten(0, 2) @ weight).view(*x.shape[:3], -1)


def _steps(x: Tensor, axis: int) -> Tensor:
    """Each pixel minus the one before it along an axis, zero outside the map: one more than there are pixels."""
    size = list(x.shape)
    size[axis] += 1
    out = x.new_empty(size)
    count = x.shape[axis]
    torch.sub(x.narrow(axis, 1, count - 1), x.narrow(axis, 0, count - 1), out=out.narrow(axis, 1, count - 1))
    out.select(axis, 0).copy_(x.select(axis, 0))
    torch.neg(x.select(axis, count - 1), out=out.select(axis, count))
    return out


def _tiles(x: Tensor) -> Tensor:
    """All overlapping 4 x 4 tiles at stride 2, transformed: [B, H, W, C] -> [4, 4, B, H/2, W/2, C]."""
    b, h, w, c = x.shape
    rows = x.new_empty(4, b, h // 2, w, c)
    _transform(x[:, 0::2], x[:, 1::2], rows, 1)
    out = x.new_empty(4, 4, b, h // 2, w // 2, c)
    _transform(rows[:, :, :, 0::2], rows[:, :, :, 1::2], out.transpose(0, 1), 3)
    return out


def _transform(even: Tensor, odd: Tensor, out: Tensor, axis: int) -> None:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3 of every tile along an axis, where d1 is even, d2 odd; into out[0] .. out[3]."""
    inner = even.shape[axis] - 1
    torch.sub(odd.narrow(axis, 0, inner), odd.narrow(axis, 1, inner), out=out[0].narrow(axis, 1, inner))
    torch.neg(odd.select(axis, 0), out=out[0].select(axis, 0))
    torch.add(even, odd, out=out[1])
    torch.sub(odd, even, out=out[2])
    torch.sub(even.narrow(axis, 0, inner), even.narrow(axis, 1, inner), out=out[3].narrow(axis, 0, inner))
    out[3].select(axis, inner).copy_(even.select(axis, inner))


def _from_tiles(m: Tensor) -> Tensor:
    """Products [4, 4, B, H/2, W/2, N] -> map [B, H, W, N]; `m` is used up."""
    b, h, w, n = m.shape[2:]
    m[0].add_(m[1]).add_(m[2])
    m[1].sub_(m[2]).add_(m[3])
    out = m.new_empty(b, h, 2, w, 2, n)
    pixels = out.permute(2, 4, 0, 1, 3, 5)  # [2, 2, B, H/2, W/2, N]
    a = m[:2]
    torch.add(a[:, 0].add_(a[:, 1]), a[:, 2], out=pixels[:, 0])
    torch.add(a[:, 1].sub_(a[:, 2]), a[:, 3], out=pixels[:, 1])
    return out.view(b, 2 * h, 2 * w, n)

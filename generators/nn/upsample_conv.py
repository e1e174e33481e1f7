"""3 x 3 convolutions of maps enlarged by repeating pixels, for inference, without making the enlarged map.

Legend as in convolutions.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.winograd import both_axes, channels_first, channels_last

# two outputs per repeated pixel by 3 products: with the pixel itself, its step from the left and its step to the right
_STEPS = ((1.0, 1.0, 1.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
# four outputs per pair of pixels by 5 products; which ones, _into_pairs and _from_pairs tell
_PAIRS = ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0))
_READ = (0, 1, 2, 2, 3)  # the sum or difference of _into_pairs that each of these products takes
# the kernel's taps as the four taps of a transposed convolution of stride 2
_STRIDE_2 = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


class DoublingConv(nn.Module):
    """3 x 3 convolution, same padding, of a map whose pixels are repeated 2 x 2 first."""

    def __init__(self, weight: Tensor, bias: Tensor, form: str) -> None:
        """weight [N, C, 3, 3], bias [N]; form: products per pixel read: pairs (6.25), steps (9) or transposed (16).

        Plainly it were 36. Pairs needs even sides.
        """
        super().__init__()
        self.form = form
        self.register_buffer("bias", bias, persistent=False)
        if form == "transposed":
            taps = weight.new_tensor(_STRIDE_2)
            weight = torch.einsum("au,bv,ncuv->cnab", taps, taps, weight)
            weight = weight.contiguous(memory_format=torch.channels_last)
        else:
            weight = both_axes(
                _STEPS if form == "steps" else _PAIRS, weight
            ).contiguous()  # [3, 3, C, N] or [5, 5, C, N]
        self.register_buffer("weight", weight, persistent=False)

    bias: Tensor
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, 2 H, 2 W, N]."""
        if self.form == "pairs":
            return self._by_pairs(x)
        if self.form == "steps":
            return self._by_steps(x)
        return channels_last(
            F.conv_transpose2d(channels_first(x), self.weight, self.bias, stride=2, padding=1)
        )

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

    def _by_pairs(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        rows = x.new_empty(4, b, h // 2, w, c)
        _into_pairs(x, rows, 1)
        taken = x.new_empty(4, b, h // 2, w // 2, c)
        products = x.new_empty(5, 5, b, h // 2, w // 2, self.weight.shape[3])
        for i, row in enumerate(
            _READ
        ):  # one after the other, so that what a row is transformed to stays in the cache
            _into_pairs(rows[row], taken, 2)
            for j, column in enumerate(_READ):
                torch.mm(
                    taken[column].flatten(0, 2), self.weight[i, j], out=products[i, j].flatten(0, 2)
                )
            m = products[i]
            m[1:4].add_(m[:1])
            m[4, :, :, 1:].add_(m[0, :, :, 1:])
        return _from_pairs(products, self.bias)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return (x.flatten(0, 2) @ weight).view(*x.shape[:3], -1)


def _steps(x: Tensor, axis: int) -> Tensor:
    """Each pixel minus the one before it along an axis, zero outside the map: one more than there are pixels."""
    size = list(x.shape)
    size[axis] += 1
    out = x.new_empty(size)
    count = x.shape[axis]
    torch.sub(
        x.narrow(axis, 1, count - 1),
        x.narrow(axis, 0, count - 1),
        out=out.narrow(axis, 1, count - 1),
    )
    out.select(axis, 0).copy_(x.select(axis, 0))
    torch.neg(x.select(axis, count - 1), out=out.select(axis, count))
    return out


def _into_pairs(x: Tensor, out: Tensor, axis: int) -> None:
    """x0, x- - x0, x+ - x0 of every second pixel x0 along an axis and its neighbours; into out[0] .. out[2].

    Outside the map is zero. out[3] is out[1] but for the first pixel's, whose place the last x+ takes: see `_from_pairs`.
    """
    at = (slice(None),) * axis
    even, odd = x[(*at, slice(0, None, 2))], x[(*at, slice(1, None, 2))]
    inner = even.shape[axis] - 1
    out[0].copy_(even)
    torch.sub(
        odd.narrow(axis, 0, inner), even.narrow(axis, 1, inner), out=out[1].narrow(axis, 1, inner)
    )
    out[3].copy_(out[1])
    torch.neg(even.select(axis, 0), out=out[1].select(axis, 0))
    out[3].select(axis, 0).copy_(odd.select(axis, inner))
    torch.sub(odd, even, out=out[2])


def _from_pairs(m: Tensor, bias: Tensor) -> Tensor:
    """Products [5, 5, B, H/2, W/2, N], the common one already added along the columns, -> map [B, 2 H, 2 W, N].

    With k the kernel's taps along one axis and s their sum, the outputs around an even pixel x0 are, before it
    s x0 + (k0 + k1) (x- - x0), at its two places s x0 + k0 (x- - x0) and s x0 + k2 (x+ - x0), and after it
    s x0 + (k1 + k2) (x+ - x0): Toom-Cook with the points 0, 1 and infinity for two filters of two taps that have the same
    sum. m[0] is the common product, m[1] .. m[3] belong to the second, third and last of these outputs, m[4] to the first:
    it is the last output of the pair before, and for the first pair that of the last pair, (k0 + k1) x+ alone.
    """
    b, h, w, n = m.shape[2:]
    m[0, 1:].add_(bias)
    out = m.new_empty(b, h, 4, w, 4, n)
    pixels = out.permute(2, 4, 0, 1, 3, 5)  # [4, 4, B, H/2, W/2, N]
    for columns, own, at in (
        (slice(1, 4), slice(None), (slice(0, 3), slice(None))),
        (slice(4, 5), slice(1, None), (slice(3, 4), slice(None, -1))),
        (slice(4, 5), slice(0, 1), (slice(3, 4), slice(-1, None))),
    ):
        part, place = m[:, columns, :, :, own], pixels[:, at[0], :, :, at[1]]
        torch.add(part[1:4], part[0], out=place[:3])
        torch.add(part[4, :, :, 1:], part[0, :, :, 1:], out=place[3, :, :, :-1])
        torch.add(part[4, :, :, :1], bias, out=place[3, :, :, -1:])
    return out.view(b, 4 * h, 4 * w, n)

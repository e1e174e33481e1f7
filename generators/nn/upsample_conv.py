"""3 x 3 convolutions of maps enlarged by repeating pixels, for inference.

Legend as in winograd.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.winograd import both_axes, channels_first, channels_last, strided

# two outputs per repeated pixel by 3 products: with the pixel itself, its step from the left and
# its step to the right
_STEPS = ((1.0, 1.0, 1.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
# four outputs per pair of pixels by 5 products; see _into_pairs and _from_pairs
_PAIRS = ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0))
_PAIR_INPUTS = (0, 1, 2, 2, 3)  # the input of each of these products among those of _into_pairs
# the kernel's taps as the four taps of a transposed convolution of stride 2
_STRIDE_2 = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


class DoublingConv(nn.Module):
    """3 x 3 convolution, same padding, of a map whose pixels are repeated 2 x 2 first.

    weight [N, C, 3, 3], bias [N]. `form` is pairs (6.25 products per pixel read; even sides only),
    steps (9) or transposed (16); plainly it were 36.
    """

    bias: Tensor
    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, form: str) -> None:
        super().__init__()
        self.form = form
        if form == "transposed":
            taps = weight.new_tensor(_STRIDE_2)
            weight = torch.einsum("au,bv,ncuv->cnab", taps, taps, weight)
            weight = weight.contiguous(memory_format=torch.channels_last)
        elif form == "steps":
            weight = both_axes(_STEPS, weight).contiguous()  # [3, 3, C, N]
        else:
            weight = both_axes(_PAIRS, weight).contiguous()  # [5, 5, C, N]
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C] to [B, 2 H, 2 W, N]."""
        if self.form == "pairs":
            return self._by_pairs(x)
        if self.form == "steps":
            return self._by_steps(x)
        x = channels_first(x)
        out = F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)
        return channels_last(out)

    def _by_steps(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        weight = self.weight
        across = _steps(x, 2)  # [B, H, W + 1, C]
        down = _steps(x, 1)  # [B, H + 1, W, C]
        both = _steps(across, 1)  # [B, H + 1, W + 1, C]
        pixels = x.flatten(0, 2)
        centre = torch.addmm(self.bias, pixels, weight[0, 0])
        centre = centre.view(batch, height, width, -1)
        columns = []
        for p in (0, 1):
            column = down[:, p : height + p]
            columns.append(_product(column, weight[1 + p, 0]))
        channels = centre.shape[-1]
        out = x.new_empty(batch, height, 2, width, 2, channels)
        for q in (0, 1):  # left and right pixel of each pair
            sides = across[:, :, q : width + q]
            row = _product(sides, weight[0, 1 + q])
            row.add_(centre)
            for p in (0, 1):  # upper and lower one
                corners = both[:, p : height + p, q : width + q]
                corner = _product(corners, weight[1 + p, 1 + q])
                corner.add_(columns[p])
                target = out[:, :, p, :, q]
                torch.add(corner, row, out=target)
        return out.view(batch, 2 * height, 2 * width, -1)

    def _by_pairs(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        pairs = (batch, height // 2, width // 2)
        rows = x.new_empty(4, batch, height // 2, width, channels)
        _into_pairs(x, rows, 1)
        inputs = x.new_empty(4, *pairs, channels)
        outputs = self.weight.shape[3]
        products = x.new_empty(5, 5, *pairs, outputs)
        # one row after the other, so that its transformed values stay in the cache
        for i, row in enumerate(_PAIR_INPUTS):
            _into_pairs(rows[row], inputs, 2)
            for j, column in enumerate(_PAIR_INPUTS):
                pixels = inputs[column].flatten(0, 2)
                target = products[i, j].flatten(0, 2)
                torch.mm(pixels, self.weight[i, j], out=target)
            of_row = products[i]
            common = of_row[0]
            of_row[1:4].add_(common)
            after_first = of_row[4, :, :, 1:]
            after_first.add_(common[:, :, 1:])
        return _from_pairs(products, self.bias)


def doubling_form(weight: Tensor, side: int) -> str:
    """Return the form of a DoublingConv [N, C, 3, 3] that is fastest on a CPU.

    Measured, for a map of that side.
    """
    if weight.shape[0] < 128:
        return "transposed"
    if side < 8:
        return "steps"
    return "pairs"


def _product(x: Tensor, weight: Tensor) -> Tensor:
    product = x.flatten(0, 2) @ weight
    return product.view(*x.shape[:3], -1)


def _steps(x: Tensor, axis: int) -> Tensor:
    """Return each pixel minus the one before it along an axis, and the last's end.

    Outside the map is zero.
    """
    count = x.shape[axis]
    size = list(x.shape)
    size[axis] += 1
    out = x.new_empty(size)
    after = x.narrow(axis, 1, count - 1)
    before = x.narrow(axis, 0, count - 1)
    inner = out.narrow(axis, 1, count - 1)
    torch.sub(after, before, out=inner)
    first = x.select(axis, 0)
    last = x.select(axis, count - 1)
    out.select(axis, 0).copy_(first)
    torch.neg(last, out=out.select(axis, count))
    return out


def _into_pairs(x: Tensor, out: Tensor, axis: int) -> None:
    """Write x0, x- - x0, x+ - x0 of every second pixel x0 into out[0] .. out[2].

    x- and x+ are its neighbours; outside the map is zero. out[3] is out[1] but for the first
    pixel's, whose position the last x+ takes: see `_from_pairs`.
    """
    even, odd = strided(x, axis, 2)
    last = even.shape[axis] - 1
    out[0].copy_(even)
    before = odd.narrow(axis, 0, last)
    here = even.narrow(axis, 1, last)
    torch.sub(before, here, out=out[1].narrow(axis, 1, last))
    out[3].copy_(out[1])
    first = even.select(axis, 0)
    torch.neg(first, out=out[1].select(axis, 0))
    end = odd.select(axis, last)
    out[3].select(axis, 0).copy_(end)
    torch.sub(odd, even, out=out[2])


def _from_pairs(m: Tensor, bias: Tensor) -> Tensor:
    """Return the map [B, 2 H, 2 W, N] of products [5, 5, B, H/2, W/2, N].

    The common product is already added along the columns. With k the kernel's taps along one axis
    and s their sum, the outputs around an even pixel x0 are, before it s x0 + (k0 + k1) (x- - x0),
    at its two pixels s x0 + k0 (x- - x0) and s x0 + k2 (x+ - x0), and after it s x0 + (k1 + k2) (x+
    - x0): Toom-Cook with the points 0, 1 and infinity for two filters of two taps that have the
    same sum. m[0] is the common product, m[1] .. m[3] belong to the second, third and last of these
    outputs, m[4] to the first: it is the last output of the pair before, and for the first pair
    that of the last pair, (k0 + k1) x+ alone.
    """
    batch, rows, columns, channels = m.shape[2:]
    m[0, 1:].add_(bias)
    out = m.new_empty(batch, rows, 4, columns, 4, channels)
    pixels = out.permute(2, 4, 0, 1, 3, 5)  # [4, 4, B, H/2, W/2, N]
    every = slice(None)
    second_to_last = slice(1, 4)
    first_output = slice(4, 5)
    own = slice(0, 3)
    of_pair_before = slice(3, 4)
    # (products, of which pairs, outputs, of which pairs)
    parts = (
        (second_to_last, every, own, every),
        (first_output, slice(1, None), of_pair_before, slice(None, -1)),
        (first_output, slice(0, 1), of_pair_before, slice(-1, None)),
    )
    for products, from_pairs, outputs, to_pairs in parts:
        part = m[:, products, :, :, from_pairs]
        target = pixels[:, outputs, :, :, to_pairs]
        common = part[0]
        first = part[4]
        torch.add(part[1:4], common, out=target[:3])
        after_first = first[:, :, 1:]
        inner = target[3, :, :, :-1]
        torch.add(after_first, common[:, :, 1:], out=inner)
        of_first = first[:, :, :1]
        end = target[3, :, :, -1:]
        torch.add(of_first, bias, out=end)
    return out.view(batch, 4 * rows, 4 * columns, channels)

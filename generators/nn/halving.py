"""4 x 4 convolutions of stride 2, down and up, for inference with fewer products.

Along one axis both are two filters of two taps, one for even and one for odd pixels. Two outputs of
such a filter take three products instead of four (minimal filtering, as in winograd.py): with a, b
the taps and d0, d1, d2 the pixels, (d0 - d1) a, d1 (a + b) and (d1 - d2) b. So four outputs by two
axes take 36 products instead of 64. Rounding is that of the plain form. No gradients.

Legend: B images, H W pixels, C input channels, N output channels. Maps are [B, H, W, C].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.winograd import Matrix, channels_first, channels_last

# the taps of the two filters' products: of even pixels, which taps 1 and 3 meet, then of odd ones
_HALVE: tuple[Matrix, Matrix] = (
    ((0.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0)),
    ((1.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
)
# first of three pixels, two apart, of even and of odd ones, in a map with a border of one
_FIRST = (1, 0)
# the taps of the products of even outputs, then of odd ones
_DOUBLE: Matrix = (
    (0.0, 0.0, 0.0, 1.0),
    (0.0, 1.0, 0.0, 1.0),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (1.0, 0.0, 1.0, 0.0),
    (1.0, 0.0, 0.0, 0.0),
)
_DOUBLE_INPUTS = (0, 1, 2, 2, 3, 4)  # the input of each product among those of `_double_inputs`
# from so many tiles of an image on, and so many channels, tiles are faster on a CPU: with fewer the
# kernels, 2.25 times as large, are what takes the time. An image's own, so that its last bit does
# not depend on its batch
MIN_TILES = 16
MIN_CHANNELS = 32


class HalvingConv(nn.Module):
    """4 x 4 convolution, stride 2, padding 1, of maps with channels last.

    weight [N, C, 4, 4], bias [N]. `tiles` allows the fast form, where sides and channels do.
    """

    bias: Tensor
    weight: Tensor
    kernels: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, tiles: bool = True) -> None:
        super().__init__()
        kernels = None
        if tiles and min(weight.shape[:2]) >= MIN_CHANNELS:
            taps = weight.new_tensor(_HALVE)  # [2, 3, 4]
            by_phase = torch.einsum("pqu,rsv,ncuv->qsprcn", taps, taps, weight)
            kernels = by_phase.flatten(2, 4).contiguous()  # [3, 3, 4 C, N]
        plain = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", plain, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C] to [B, H/2, W/2, N]."""
        _, height, width, _ = x.shape
        even = height % 4 == 0 and width % 4 == 0
        tiles = height * width // 16
        if self.kernels is None or not even or tiles < MIN_TILES:
            return channels_last(
                F.conv2d(channels_first(x), self.weight, self.bias, stride=2, padding=1)
            )
        return self._by_tiles(x, self.kernels)

    def _by_tiles(self, x: Tensor, kernels: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        rows, columns = height // 4, width // 4
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        out = x.new_empty(batch, rows, 2, columns, 2, kernels.shape[3])
        by_row = [_three_inputs(padded, first, rows, 1) for first in _FIRST]
        gathered = x.new_empty(batch, rows, columns, 4, channels)
        sums = []
        for i in range(3):
            of_row = []
            by_column = []
            for inputs in by_row:
                for first in _FIRST:
                    by_column.append(_three_inputs(inputs[i], first, columns, 2))
            for j in range(3):
                for phase, inputs in enumerate(by_column):
                    gathered[:, :, :, phase].copy_(inputs[j])
                of_row.append(gathered.view(-1, 4 * channels) @ kernels[i, j])
            sums.append(_two_outputs(*of_row))
        for k in range(2):
            upper, lower = _two_outputs(*(of_row[k] for of_row in sums))
            shape = (batch, rows, columns, -1)
            torch.add(upper.view(shape), self.bias, out=out[:, :, 0, :, k])
            torch.add(lower.view(shape), self.bias, out=out[:, :, 1, :, k])
        return out.view(batch, 2 * rows, 2 * columns, -1)


class DoublingConv(nn.Module):
    """4 x 4 transposed convolution, stride 2, padding 1, of maps with channels last.

    weight [C, N, 4, 4], bias [N]. `tiles` allows the fast form, where sides and channels do.
    """

    bias: Tensor
    weight: Tensor
    kernels: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, tiles: bool = True) -> None:
        super().__init__()
        kernels = None
        if tiles and min(weight.shape[:2]) >= MIN_CHANNELS:
            taps = weight.new_tensor(_DOUBLE)  # [6, 4]
            kernels = torch.einsum("pu,qv,cnuv->pqcn", taps, taps, weight).contiguous()
        self.register_buffer("weight", weight.contiguous(), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C] to [B, 2 H, 2 W, N]."""
        _, height, width, _ = x.shape
        even = height % 2 == 0 and width % 2 == 0
        tiles = height * width // 4
        if self.kernels is None or not even or tiles < MIN_TILES:
            out = F.conv_transpose2d(channels_first(x), self.weight, self.bias, stride=2, padding=1)
            return channels_last(out)
        return self._by_tiles(x, self.kernels)

    def _by_tiles(self, x: Tensor, kernels: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        rows, columns = height // 2, width // 2
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        out = x.new_empty(batch, rows, 4, columns, 4, kernels.shape[3])
        by_row = _double_inputs(padded, rows, 1)
        of_rows = []
        for i, row_input in enumerate(_DOUBLE_INPUTS):
            by_column = _double_inputs(by_row[row_input], columns, 2)
            flat = [inputs.reshape(-1, channels) for inputs in by_column]
            products = []
            for j, column_input in enumerate(_DOUBLE_INPUTS):
                products.append(flat[column_input] @ kernels[i, j])
            of_rows.append(_four_outputs(products))
        shape = (batch, rows, columns, -1)
        for k in range(4):
            outputs = _four_outputs([of_row[k] for of_row in of_rows])
            for row, values in enumerate(outputs):
                torch.add(values.view(shape), self.bias, out=out[:, :, row, :, k])
        return out.view(batch, 4 * rows, 4 * columns, -1)


def _three_inputs(x: Tensor, first: int, count: int, axis: int) -> tuple[Tensor, ...]:
    """Return d0 - d1, d1 and d1 - d2 of every tile along an axis of a padded map."""
    d0, d1, d2 = (_every(x, first + 2 * k, 4, count, axis) for k in range(3))
    return d0 - d1, d1, d1 - d2


def _double_inputs(x: Tensor, count: int, axis: int) -> tuple[Tensor, ...]:
    """Return d0 - d1, d1, d1 - d2, d2 and d2 - d3 of every tile along an axis."""
    d0, d1, d2, d3 = (_every(x, k, 2, count, axis) for k in range(4))
    return d0 - d1, d1, d1 - d2, d2, d2 - d3


def _every(x: Tensor, first: int, stride: int, count: int, axis: int) -> Tensor:
    """Return `count` pixels along an axis, from the first, so far apart."""
    before = (slice(None),) * axis
    last = first + stride * (count - 1) + 1
    return x[(*before, slice(first, last, stride))]


def _two_outputs(m0: Tensor, m1: Tensor, m2: Tensor) -> tuple[Tensor, Tensor]:
    """Return both outputs of a filter's three products."""
    return m0 + m1, m1 - m2


def _four_outputs(products: list[Tensor]) -> list[Tensor]:
    """Return the outputs of both filters' products in the order of their pixels."""
    even = _two_outputs(*products[:3])
    odd = _two_outputs(*products[3:])
    return [even[0], odd[0], even[1], odd[1]]

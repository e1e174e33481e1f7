"""5 x 5 convolutions for inference with fewer multiplications, no gradients.

Two outputs along an axis from six pixels by six products instead of ten (F(2, 5); Winograd, Lavin &
Gray 2016), at the points of winograd.py's F(4, 3), so as coarsely rounded: for float32 only. A tile
of 2 x 2 outputs takes 36 products instead of 100.

Legend as in winograd.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.winograd import Matrix, by_tiles, channels_first, channels_last, strided

A = 0.75  # the products are at 0, A, -A, B, -B and infinity
B = 1.5
A2 = A * A
B2 = B * B


def _of_kernel() -> Matrix:
    """Return the matrix [6, 5] from a kernel's taps to the factors of the products."""
    at_a = 1 / (2 * A2 * (A2 - B2))
    at_b = 1 / (2 * B2 * (B2 - A2))
    rows = [(1 / (A2 * B2), 0.0, 0.0, 0.0, 0.0)]
    for point, scale in ((A, at_a), (-A, at_a), (B, at_b), (-B, at_b)):
        rows.append((scale, scale * point, scale * point**2, scale * point**3, scale * point**4))
    rows.append((0.0, 0.0, 0.0, 0.0, 1.0))
    return tuple(rows)


class FiveConv(nn.Module):
    """5 x 5 convolution, same padding, of maps with channels first.

    weight [N, C, 5, 5].
    """

    bias: Tensor
    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        matrix = weight.new_tensor(_of_kernel())
        transformed = torch.einsum("ru,sv,ncuv->rscn", matrix, matrix, weight)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("weight", transformed.contiguous(), persistent=False)  # [6, 6, C, N]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W], H and W even, to [B, N, H, W]."""
        height, width = x.shape[2:]
        seen = channels_last(F.pad(x, (2, 2, 2, 2)))
        size = (height, width)
        pixels_last = by_tiles(seen, self.weight, size, 2, _into_tiles, _from_products)
        pixels_last.add_(self.bias)
        return channels_first(pixels_last).contiguous()  # as the convolutions after it are fastest


def _into_tiles(x: Tensor, out: Tensor, axis: int) -> None:
    """Write the inputs of the six products of each tile of six pixels d0 .. d5.

    Tiles lie two pixels apart along the axis. As `_into_fours` of winograd.py.
    """
    even, odd = strided(x, axis, 2)
    count = even.shape[axis] - 2
    d0, d2, d4 = (even.narrow(axis, start, count) for start in range(3))
    d1, d3, d5 = (odd.narrow(axis, start, count) for start in range(3))
    of_even = torch.sub(d4, d2, alpha=B2)
    of_odd = torch.sub(d3, d1, alpha=B2)
    torch.add(of_even, of_odd, alpha=A, out=out[1])
    torch.sub(of_even, of_odd, alpha=A, out=out[2])
    torch.sub(of_even, d2, alpha=A2, out=out[0])
    out[0].add_(d0, alpha=A2 * B2)
    torch.sub(d5, of_odd, alpha=A2, out=out[5])
    out[5].sub_(d3, alpha=B2)
    torch.sub(d4, d2, alpha=A2, out=of_even)
    torch.sub(d3, d1, alpha=A2, out=of_odd)
    torch.add(of_even, of_odd, alpha=B, out=out[3])
    torch.sub(of_even, of_odd, alpha=B, out=out[4])


def _from_products(m: Tensor, out: Tensor) -> None:
    """Write the outputs y_j = sum of p^j m_p into out[0] and out[1]; changes `m`."""
    even_a = m[1] + m[2]
    even_b = m[3] + m[4]
    odd_a = m[1].sub_(m[2])
    odd_b = m[3].sub_(m[4])
    torch.add(m[0].add_(even_a), even_b, out=out[0])
    torch.add(m[5].add_(odd_a, alpha=A), odd_b, alpha=B, out=out[1])

"""3 x 3 convolutions of maps that are reflected at their borders, for inference.

Legend as in winograd.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.winograd import (
    TWO,
    both_axes,
    by_tiles,
    channels_first,
    channels_last,
    from_twos,
    strided,
)


class ReflectedConv(nn.Module):
    """3 x 3 convolution without bias, by tiles of 2 x 2 outputs.

    16 products instead of 36. weight [N, C, 3, 3].
    """

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        transformed = both_axes(TWO, weight.double()).to(weight.dtype)
        self.register_buffer("weight", transformed.contiguous(), persistent=False)  # [4, 4, C, N]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C], H and W even, to [B, H, W, N]."""
        height, width = x.shape[1:3]
        padded = F.pad(channels_first(x), (1, 1, 1, 1), mode="reflect")
        seen = channels_last(padded)
        size = (height, width)
        return by_tiles(seen, self.weight, size, 2, _into_tiles, from_twos)


def _into_tiles(x: Tensor, out: Tensor, axis: int) -> None:
    """Write d0 - d2, d1 + d2, d2 - d1, d1 - d3 of the four pixels that each tile sees.

    Tiles lie two pixels apart along the axis.
    """
    even, odd = strided(x, axis, 2)
    count = even.shape[axis] - 1
    d0 = even.narrow(axis, 0, count)
    d1 = odd.narrow(axis, 0, count)
    d2 = even.narrow(axis, 1, count)
    d3 = odd.narrow(axis, 1, count)
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])

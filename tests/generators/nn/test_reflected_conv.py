"""The convolution of reflected maps by tiles against the plain one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.nn.reflected_conv import ReflectedConv
from synthaug.generators.nn.winograd import channels_first, channels_last


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 8)])
def test_tiles_give_the_plain_convolution(size: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, *size, generator=rng)
    weight = torch.randn(7, 5, 3, 3, generator=rng)
    padded = F.pad(x.double(), (1, 1, 1, 1), mode="reflect")
    expected = F.conv2d(padded, weight.double())
    made = channels_first(ReflectedConv(weight)(channels_last(x)))
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=2e-5)

"""The 5 x 5 convolution by tiles against the plain one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.nn.five_conv import FiveConv


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 8)])
def test_tiles_give_the_plain_convolution(size: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, *size, generator=rng).double()
    weight = torch.randn(7, 5, 5, 5, generator=rng).double()
    bias = torch.randn(7, generator=rng).double()
    expected = F.conv2d(x, weight, bias, padding=2)
    exact = FiveConv(weight, bias)
    torch.testing.assert_close(exact(x), expected, rtol=0, atol=1e-12)
    made = FiveConv(weight, bias).float()(x.float())
    scale = float(expected.abs().max())
    assert float((made - expected).abs().max()) / scale < 1e-5

"""Norms folded into weights are the layers they came from, in float64."""

from __future__ import annotations

import torch
from torch import nn

from synthaug.generators.lostgan.folding import Affine, Folded, pixels_first
from synthaug.generators.lostgan.network import IslaNorm
from synthaug.generators.nn.folding import scaled
from synthaug.generators.nn.layers import SNConv2d


def settled(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A batch norm in evaluation whose statistics are not those of a fresh one."""
    with torch.no_grad():
        for value in (norm.running_mean, norm.weight, norm.bias):
            if value is not None:
                value.normal_()
        assert norm.running_var is not None
        norm.running_var.uniform_(0.5, 2)
    return norm.eval()


def test_a_spectral_norm_is_divided_out() -> None:
    torch.manual_seed(0)
    layer = SNConv2d(3, 4, 3).double().eval()
    weight, bias = Folded({f"conv.{k}": v for k, v in layer.state_dict().items()}).normed("conv")
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    folded = nn.functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(folded, layer(x), rtol=0, atol=1e-12)


def test_a_convolution_and_its_batch_norm_are_one_convolution() -> None:
    torch.manual_seed(0)
    for affine in (True, False):
        conv = nn.Conv2d(3, 4, 1, bias=False).double()
        norm = settled(nn.BatchNorm2d(4, affine=affine).double())
        state = nn.Sequential(conv, norm).state_dict()
        weight, bias = Folded(state).convolution("0", "1")
        x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
        folded = nn.functional.conv2d(x, weight, bias)
        torch.testing.assert_close(folded, norm(conv(x)), rtol=0, atol=1e-12)


def test_scaled_scales_and_shifts_the_outputs() -> None:
    weight, bias = torch.randn(4, 3), torch.randn(4)
    scale, shift = torch.randn(4), torch.randn(4)
    x = torch.randn(5, 3)
    expected = nn.functional.linear(x, weight, bias) * scale + shift
    made = Affine(*scaled((weight, bias), (scale, shift)))(x)
    torch.testing.assert_close(made, expected)


def test_the_affine_rows_of_an_isla_norm_are_its_scales_and_shifts() -> None:
    """A pixel of one object alone, and a pixel of none, which gets the plain batch norm."""
    torch.manual_seed(0)
    norm = IslaNorm(4, 6).double().eval()
    settled(norm.batch_norm2d)
    rows = Folded({f"b1.{k}": v for k, v in norm.state_dict().items()}).affine("b1")
    assert rows.shape == (6 + 2, 2 * 4)
    code = torch.randn(1, 1, 6, dtype=torch.float64)
    x = torch.randn(1, 4, 1, 1, dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    plain = torch.cat([torch.zeros(6, dtype=torch.float64), zero, one]) @ rows
    expected = norm.batch_norm2d(x)[0, :, 0, 0]
    torch.testing.assert_close(x[0, :, 0, 0] * plain[:4] + plain[4:], expected)
    own = torch.cat([code[0, 0], one, zero]) @ rows
    mask = torch.full((1, 1, 1, 1), 1e6, dtype=torch.float64)  # its share is 1
    expected = norm(x, mask, code, torch.ones(1, 1))[0, :, 0, 0]
    both = own + plain
    torch.testing.assert_close(x[0, :, 0, 0] * both[:4] + both[4:], expected, rtol=0, atol=1e-6)


def test_rows_of_a_map_are_brought_to_channels_last() -> None:
    rows = torch.randn(3 * 16, 5)
    x = torch.randn(2, 5)
    maps = nn.functional.linear(x, rows).view(2, 3, 4, 4)
    last = nn.functional.linear(x, pixels_first(rows)).view(2, 4, 4, 3)
    torch.testing.assert_close(last, maps.permute(0, 2, 3, 1))

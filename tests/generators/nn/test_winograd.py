"""Tiled convolutions are the plain ones, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.nn.winograd import SameConv, channels_first, channels_last


def layer_and_map(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [6, 5, 3, 3], bias [6] and a map [2, H, W, 5], float64."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 5, 3, 3, dtype=torch.float64, generator=rng)
    bias = torch.randn(6, dtype=torch.float64, generator=rng)
    return weight, bias, torch.randn(2, height, width, 5, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("tile", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 12), (8, 4), (16, 8)])
def test_every_tile_size_gives_the_convolution_to_the_last_bits(tile, height, width) -> None:
    """Sides of one tile and of several, unequal, so that borders and axes show."""
    weight, bias, x = layer_and_map(height, width)
    expected = channels_last(F.conv2d(channels_first(x), weight, bias, padding=1))
    torch.testing.assert_close(SameConv(weight, bias, tile=tile)(x), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("tile", [1, 2, 4])
def test_the_shortcut_is_added_to_each_of_the_four_pixels(tile: int) -> None:
    weight, bias, x = layer_and_map(8, 12)
    rng = torch.Generator().manual_seed(3)
    shortcut = torch.randn(6, 4, 1, 1, dtype=torch.float64, generator=rng)
    low = torch.randn(2, 4, 6, 4, dtype=torch.float64, generator=rng)
    doubled = F.interpolate(channels_first(low), scale_factor=2, mode="nearest")
    expected = F.conv2d(channels_first(x), weight, bias, padding=1) + F.conv2d(doubled, shortcut)
    made = SameConv(weight, bias, shortcut, tile)(x, low)
    torch.testing.assert_close(made, channels_last(expected), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("tile", "limit"), [(2, 1.5), (4, 4.0)])
def test_single_precision_rounds_no_worse_than_the_plain_form_by_so_much(tile, limit) -> None:
    errors = {}
    for form in (1, tile):
        weight, bias, x = layer_and_map(32, 32, seed=form)
        exact = channels_last(F.conv2d(channels_first(x), weight, bias, padding=1))
        made = SameConv(weight.float(), bias.float(), tile=form)(x.float())
        errors[form] = float((made.double() - exact).square().mean().sqrt())
    assert errors[tile] < limit * errors[1]


def test_the_input_is_left_alone_and_nothing_is_saved_with_the_network() -> None:
    weight, bias, x = layer_and_map(8, 8)
    before = x.clone()
    conv = SameConv(weight, bias, tile=4)
    conv(x)
    assert torch.equal(x, before)
    assert conv.state_dict() == {}

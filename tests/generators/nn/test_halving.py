"""Convolutions of stride 2 by tiles are the plain ones, up to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.nn import halving
from synthaug.generators.nn.halving import DoublingConv, HalvingConv
from synthaug.generators.nn.winograd import channels_first, channels_last


@pytest.fixture(autouse=True)
def tiles_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "MIN_TILES", 1)
    monkeypatch.setattr(halving, "MIN_CHANNELS", 1)


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (16, 4)])
def test_a_halving_is_the_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    weight, bias = torch.randn(5, 3, 4, 4), torch.randn(5)
    expected = F.conv2d(x, weight, bias, stride=2, padding=1)
    fast = HalvingConv(weight, bias)
    assert fast.kernels is not None
    made = fast._by_tiles(channels_last(x), fast.kernels)
    torch.testing.assert_close(channels_first(made), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_a_doubling_is_the_transposed_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    weight, bias = torch.randn(3, 5, 4, 4), torch.randn(5)
    expected = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    fast = DoublingConv(weight, bias)
    assert fast.kernels is not None
    made = fast._by_tiles(channels_last(x), fast.kernels)
    torch.testing.assert_close(channels_first(made), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("size", [(2, 6), (6, 4), (1, 1)])
def test_sides_that_make_no_tiles_go_the_plain_way(tiles: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, *size)
    weight, bias = torch.randn(3, 3, 4, 4), torch.randn(3)
    doubled = channels_first(DoublingConv(weight, bias, tiles)(channels_last(x)))
    expected = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    torch.testing.assert_close(doubled, expected, rtol=1e-5, atol=1e-4)
    if min(size) > 1:
        halved = channels_first(HalvingConv(weight, bias, tiles)(channels_last(x)))
        expected = F.conv2d(x, weight, bias, stride=2, padding=1)
        torch.testing.assert_close(halved, expected, rtol=1e-5, atol=1e-4)


def test_narrow_layers_and_few_tiles_stay_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "MIN_CHANNELS", 4)
    narrow = HalvingConv(torch.randn(5, 3, 4, 4), torch.zeros(5))
    assert narrow.kernels is None
    monkeypatch.setattr(halving, "MIN_TILES", 10**6)
    wide = HalvingConv(torch.randn(5, 4, 4, 4), torch.zeros(5))
    monkeypatch.setattr(wide, "_by_tiles", None)  # a call would fail
    assert wide(torch.randn(1, 8, 8, 4)).shape == (1, 4, 4, 5)

"""Convolutions of doubled maps without the doubled map, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.nn.upsample_conv import DoublingConv
from synthaug.generators.nn.winograd import channels_first, channels_last

FORMS = ("pairs", "steps", "transposed")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 6), (8, 4)])
def test_every_form_is_the_convolution_of_the_repeated_pixels(form, height, width) -> None:
    """Unequal sides and an asymmetric kernel, so that axes and corners show."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 5, 3, 3, dtype=torch.float64, generator=rng)
    bias = torch.randn(6, dtype=torch.float64, generator=rng)
    x = torch.randn(3, height, width, 5, dtype=torch.float64, generator=rng)
    doubled = F.interpolate(channels_first(x), scale_factor=2, mode="nearest")
    expected = channels_last(F.conv2d(doubled, weight, bias, padding=1))
    made = DoublingConv(weight, bias, form)(x)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", ["steps", "transposed"])
def test_odd_sides_are_for_all_forms_but_pairs(form: str) -> None:
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, generator=rng)
    x = torch.randn(1, 3, 5, 3, dtype=torch.float64, generator=rng)
    doubled = F.interpolate(channels_first(x), scale_factor=2, mode="nearest")
    expected = channels_last(F.conv2d(doubled, weight, None, padding=1))
    made = DoublingConv(weight, torch.zeros(2, dtype=torch.float64), form)(x)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_lit_pixel_lights_its_four_and_their_neighbours_alone(form: str) -> None:
    x = torch.zeros(1, 4, 6, 1, dtype=torch.float64)
    x[0, 2, 3] = 1
    ones = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    made = DoublingConv(ones, torch.zeros(1, dtype=torch.float64), form)(x)
    lit = made[0, :, :, 0].abs() > 1e-12
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[3:7, 5:9] = True
    assert torch.equal(lit, expected)

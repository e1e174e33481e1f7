"""The definitions of the panoptic-aware operators, by hand and by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from synthaug.generators.nn.panoptic.reference import (
    panoptic_conv_reference,
    panoptic_upsample_reference,
)
from tests.panoptic_maps import blobs, randn


def test_a_map_of_one_identity_and_a_matching_border_is_the_plain_convolution() -> None:
    x, weight, bias = randn(2, 3, 6, 7), randn(4, 3, 3, 3), randn(4)
    identity = torch.ones(2, 6, 7, dtype=torch.int64)
    made = panoptic_conv_reference(x, weight, bias, identity, border="same")
    torch.testing.assert_close(made, F.conv2d(x, weight, bias, padding=1))


@pytest.mark.parametrize("scaling", ["mean", "root"])
def test_a_pixel_alone_in_its_identity_reads_itself_nine_times(scaling) -> None:
    x, weight = randn(1, 2, 3, 3), randn(1, 2, 3, 3)
    identity = torch.arange(9).view(1, 3, 3)
    made = panoptic_conv_reference(x, weight, None, identity, scaling=scaling)
    factor = 9 if scaling == "mean" else 3
    expected = factor * torch.einsum("c,chw->hw", weight[0, :, 1, 1], x[0])
    torch.testing.assert_close(made[0, 0], expected)


def test_the_bias_is_not_scaled() -> None:
    x, weight = torch.zeros(1, 2, 3, 3), torch.zeros(4, 2, 3, 3)
    bias = torch.arange(4.0)
    made = panoptic_conv_reference(x, weight, bias, torch.arange(9).view(1, 3, 3))
    assert torch.equal(made, bias[None, :, None, None].expand(1, 4, 3, 3))


def test_upsampling_copies_matching_pixels_and_leaves_holes_at_zero() -> None:
    x = randn(2, 3, 3, 4)
    coarse, fine = blobs(2, 3, 4, seed=3), blobs(2, 6, 8, seed=4)
    made, corrected = panoptic_upsample_reference(x, coarse, fine)
    for image, y, x_ in np.ndindex(2, 6, 8):
        pixel = made[image, :, y, x_]
        if not corrected[image, y, x_]:
            assert not pixel.any()
            continue
        sources = [
            x[image, :, row, column]
            for row, column in np.ndindex(3, 4)
            if coarse[image, row, column] == fine[image, y, x_]
        ]
        assert any(torch.equal(pixel, source) for source in sources)
    assert corrected.any()
    assert not corrected.all()

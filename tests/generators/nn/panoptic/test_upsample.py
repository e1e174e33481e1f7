"""Panoptic-aware upsampling and hole filling against the definition and by hand.

What a neighbourhood reads and refuses.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from synthaug.generators.nn.panoptic.conv import hole_features, panoptic_conv
from synthaug.generators.nn.panoptic.neighbourhood import (
    Border,
    Neighbourhood,
    NeighbourhoodPyramid,
    Order,
)
from synthaug.generators.nn.panoptic.reference import (
    panoptic_conv_reference,
    panoptic_upsample_reference,
)
from synthaug.generators.nn.panoptic.upsample import panoptic_upsample
from tests.panoptic_maps import blobs, randn, with_gradients

BORDERS: tuple[Border, ...] = ("hole", "same")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["xy", "yx"]),
    st.sampled_from(BORDERS),
    st.sampled_from([1, 3, 5]),
    st.integers(0, 99),
)
def test_upsampling_and_filling_are_the_definition_with_their_gradients(
    shape: tuple[int, int, int], order: Order, border: Border, kernel: int, seed: int
) -> None:
    """The semantic map has one-hot classes, whatever they are within an identity, and an edge
    channel with any values.
    """
    b, h, w = shape
    fine = blobs(b, 2 * h, 2 * w, seed=seed, cell=1 + seed % 3)
    coarse = fine[:, ::2, ::2] if seed % 2 else blobs(b, h, w, seed=seed + 1)
    classes, edges = blobs(b, 2 * h, 2 * w, seed=seed + 2, cell=2, ids=5), randn(b, 1, 2 * h, 2 * w)
    semantic = torch.cat([F.one_hot(classes, 5).permute(0, 3, 1, 2), edges], 1)
    neighbourhood = Neighbourhood(fine, classes, edges, coarse=coarse, border=border, order=order)
    leaves = randn(b, 3, h, w), randn(4, 6, kernel, kernel), randn(4), randn(3, 4, 1, 1), randn(3)

    def defined(x: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, shift: Tensor) -> Tensor:
        up, mask = panoptic_upsample_reference(x, coarse, fine, order)
        filling = F.conv2d(
            panoptic_conv_reference(semantic, weight, bias, fine, border), reduce, shift
        )
        return up + ~mask[:, None] * filling

    def fast(x: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, shift: Tensor) -> Tensor:
        rows = F.linear(hole_features(weight, bias, [neighbourhood])[0], reduce[:, :, 0, 0], shift)
        return panoptic_upsample(x, neighbourhood, rows)

    for e, m in zip(with_gradients(defined, *leaves), with_gradients(fast, *leaves), strict=True):
        torch.testing.assert_close(m, e, rtol=0, atol=1e-11)


def test_algorithm_1_copies_the_first_neighbour_that_matches() -> None:
    """By hand.

    1 | 2 with the border half a coarse pixel further right, and a 3 that has no coarse pixel.
    """
    coarse = torch.tensor([[[1, 2], [1, 2]]])
    fine = torch.tensor([[[1, 1, 1, 2], [1, 2, 2, 2], [1, 1, 2, 2], [1, 1, 2, 3]]])
    x = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    up, mask = panoptic_upsample_reference(x, coarse, fine)
    # (0, 2) is 1 over coarse 2, whose right and lower neighbours are no 1: a hole; (1, 1) takes 2
    # from its right
    expected = torch.tensor(
        [[10.0, 10, 0, 20], [10, 20, 20, 20], [30, 30, 40, 40], [30, 30, 40, 0]]
    )
    assert torch.equal(up[0, 0], expected)
    assert (~mask[0]).nonzero().tolist() == [[0, 2], [3, 3]]
    neighbourhood = Neighbourhood(fine, coarse=coarse)
    assert torch.equal(panoptic_upsample(x, neighbourhood), up)
    filled = panoptic_upsample(x, neighbourhood, torch.tensor([[-1.0], [-2.0]]))
    assert (filled[0, 0, 0, 2], filled[0, 0, 3, 3]) == (-1, -2)


def test_the_order_of_passes_chooses_between_right_and_below() -> None:
    coarse, fine = torch.tensor([[[1, 2], [2, 1]]]), torch.full((1, 4, 4), 2)
    x = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    assert panoptic_upsample(x, Neighbourhood(fine, coarse=coarse, order="xy"))[0, 0, 0, 0] == 20
    assert panoptic_upsample(x, Neighbourhood(fine, coarse=coarse, order="yx"))[0, 0, 0, 0] == 30


def test_gradients_of_upsampling_are_those_of_finite_differences() -> None:
    fine = blobs(2, 6, 6, seed=3, cell=1)
    neighbourhood = Neighbourhood(fine, fine)
    leaves = [
        t.requires_grad_()
        for t in (randn(2, 2, 3, 3), randn(len(neighbourhood.upsampling.holes), 2))
    ]
    assert len(leaves[1])
    assert torch.autograd.gradcheck(
        lambda x, rows: panoptic_upsample(x, neighbourhood, rows), leaves
    )
    weight, bias = randn(3, 4, 3, 3).requires_grad_(), randn(3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w, b: hole_features(w, b, [neighbourhood])[0], [weight, bias]
    )


def test_holes_of_all_scales_at_once_are_those_of_each() -> None:
    """With other classes at each scale, one scale without holes, and an edge channel."""
    identity, classes = blobs(2, 16, 16, cell=1, ids=9), blobs(2, 16, 16, seed=1, cell=8, ids=7)
    neighbourhood = NeighbourhoodPyramid(identity, classes, randn(2, 1, 16, 16))
    flat = torch.zeros(1, 4, 4, dtype=torch.int64)
    neighbourhoods = [
        neighbourhood.at(4),
        Neighbourhood(flat, flat, randn(1, 1, 4, 4)),
        neighbourhood.at(16),
    ]
    weight, bias = randn(3, 8, 3, 3), randn(3)
    rows = hole_features(weight, bias, neighbourhoods)
    assert [len(r) for r in rows] == [len(g.upsampling.holes) for g in neighbourhoods]
    assert len(rows[0]) and not len(rows[1]) and len(rows[2])
    for alone, together in zip(
        [hole_features(weight, bias, [g])[0] for g in neighbourhoods], rows, strict=True
    ):
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_a_guide_reads_the_top_left_pixel_of_each_block() -> None:
    identity, classes = (
        torch.arange(2 * 8 * 16).view(2, 8, 16),
        torch.arange(2 * 8 * 16).view(2, 8, 16) % 5,
    )
    neighbourhood = NeighbourhoodPyramid(identity, classes, identity[:, None].float())
    low = neighbourhood.at(2)
    assert low is neighbourhood.at(2)
    assert torch.equal(low.identity, identity[:, ::4, ::4])
    assert low.classes is not None and torch.equal(low.classes, classes[:, ::4, ::4])
    assert low.extra is not None and torch.equal(low.extra[:, 0], identity[:, ::4, ::4].float())
    assert neighbourhood.at(8).identity is identity


def test_mistakes_are_told_in_one_line() -> None:
    neighbourhood = NeighbourhoodPyramid(blobs(1, 8, 8), blobs(1, 8, 8), border="hole")
    x, weight = randn(1, 2, 8, 8), randn(2, 2, 3, 3)
    with pytest.raises(ValueError, match="no whole blocks at height 3"):
        neighbourhood.at(3)
    with pytest.raises(ValueError, match="do not fit a map"):
        panoptic_conv(x, weight, None, neighbourhood.at(4))
    with pytest.raises(ValueError, match="odd kernel"):
        panoptic_conv(x, randn(2, 2, 4, 4), None, neighbourhood.at(8))
    with pytest.raises(ValueError, match="not half"):
        panoptic_upsample(x, neighbourhood.at(8))
    with pytest.raises(ValueError, match="cannot be filled"):
        panoptic_upsample(x[:, :, ::2, ::2], neighbourhood.at(8), randn(1, 7))
    with pytest.raises(ValueError, match="integers"):
        Neighbourhood(torch.rand(1, 8, 8))
    with pytest.raises(ValueError, match="classes are integers"):
        Neighbourhood(blobs(1, 8, 8), torch.rand(1, 8, 8))
    with pytest.raises(ValueError, match="other channels"):
        Neighbourhood(blobs(1, 8, 8), None, torch.rand(1, 1, 8, 9))
    with pytest.raises(ValueError, match="scaling is mean or root"):
        Neighbourhood(blobs(1, 8, 8), scaling="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="border is hole or same"):
        Neighbourhood(blobs(1, 8, 8), border="zero")  # type: ignore[arg-type]
    holes = Neighbourhood(torch.arange(16).view(1, 4, 4), torch.full((1, 4, 4), 9))
    with pytest.raises(ValueError, match=r"classes must lie in 0 \.\. 4, not in 9 \.\. 9"):
        hole_features(randn(2, 5, 3, 3), None, [holes])
    with pytest.raises(ValueError, match="needs the classes"):
        hole_features(randn(2, 5, 3, 3), None, [Neighbourhood(torch.arange(16).view(1, 4, 4))])

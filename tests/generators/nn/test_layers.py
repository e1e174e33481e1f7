"""Layers against the library's own, in float64 where it allows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from synthaug.generators.lostgan.discriminator import DiscriminatorBlock, merges
from synthaug.generators.nn.layers import (
    SNConv2d,
    SNEmbedding,
    SNLinear,
    box_lattice,
    inside_boxes,
    orthogonal_init,
    place_masks,
    resize,
    roi_features,
    upsample2,
)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_separable_roi_align_equals_the_librarys_forward_and_backward(scale: float) -> None:
    """Also for boxes at, over and beyond the border, thin ones and none at all."""
    torch.manual_seed(0)
    low = torch.rand(40, 2) * 50 - 5
    boxes = torch.cat([low, low + torch.rand(40, 2) * 50], 1)
    odd = torch.tensor(
        [[0, 0, 64, 64], [10, 10, 10.2, 40], [-30, -30, 3, 3], [60, 60, 90, 90], [-60, 0, -40, 9]]
    )
    boxes = torch.cat([boxes, odd.float()])
    rois = torch.cat([torch.randint(0, 2, (45, 1)).sort(0).values.float(), boxes], 1)
    ours = torch.randn(2, 3, int(64 * scale), int(64 * scale), requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    expected = roi_align(theirs, rois, 8, scale, sampling_ratio=0, aligned=False)
    found = roi_features(ours, rois, 8, scale)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    weight = torch.randn_like(expected)
    torch.autograd.backward([(expected * weight).sum(), (found * weight).sum()])
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=2e-5)
    assert roi_features(ours, rois[:0], 8, scale).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("align_corners", [True, False])
def test_placed_masks_equal_grid_sampling(align_corners: bool) -> None:
    torch.manual_seed(0)
    masks = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    low = torch.rand(2, 3, 2, dtype=torch.float64) * 0.6 - 0.1
    boxes = torch.cat([low, low + 0.2 + 0.4 * torch.rand(2, 3, 2, dtype=torch.float64)], -1)
    lattice = torch.linspace(0, 1, 64, dtype=torch.float64)
    x = (lattice - boxes[..., 0:1]) / (boxes[..., 2:3] - boxes[..., 0:1])
    y = (lattice - boxes[..., 1:2]) / (boxes[..., 3:4] - boxes[..., 1:2])
    grid = (
        torch.stack([x[:, :, None].expand(-1, -1, 64, -1), y[..., None].expand(-1, -1, -1, 64)], -1)
        * 2
        - 1
    )
    expected = F.grid_sample(
        masks.view(6, 1, 16, 16), grid.view(6, 64, 64, 2), align_corners=align_corners
    )
    found = place_masks(masks, boxes, 64, align_corners)
    torch.testing.assert_close(found.view(6, 1, 64, 64), expected, rtol=0, atol=1e-10)


def test_inside_boxes_includes_both_edges() -> None:
    whole = inside_boxes(torch.tensor([[[0.0, 0, 1, 1], [0.5, 0.5, 1, 1]]]), 5)
    assert whole[0, 0].min() == 1
    assert whole[0, 1].sum() == 9


def test_spectral_norm_finds_the_largest_singular_value() -> None:
    """In float64, after enough training passes; gradients flow into the weight through sigma."""
    torch.manual_seed(0)
    layer = SNConv2d(3, 5, 3).double().train()
    with torch.no_grad():
        layer.weight_orig.normal_()
    for _ in range(200):
        layer.weight()
    sigma = torch.linalg.matrix_norm(layer.weight().flatten(1), ord=2)
    torch.testing.assert_close(sigma.item(), 1.0, rtol=0, atol=1e-9)
    reference = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 5, 3, padding=1).double())
    reference.load_state_dict(dict(layer.state_dict()))
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    layer.eval(), reference.eval()
    torch.autograd.backward([layer(x).square().sum(), reference(x).square().sum()])
    torch.testing.assert_close(
        layer.weight_orig.grad, reference.weight_orig.grad, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("kind", [None, torch.float64])
def test_pooling_inside_a_convolution_is_pooling_after_it(
    side: int, kind: torch.dtype | None
) -> None:
    """Forward and backward, by itself in float64 and in the discriminator's block, which does so
    from side 32.
    """
    torch.manual_seed(0)
    block = DiscriminatorBlock(2, 3, pool=True).eval()
    x = torch.randn(2, 2, 12, side)
    assert merges(x) == (side == 32)
    if kind is not None:
        block, x = block.double(), x.double()
    x.requires_grad_()
    main = torch.relu(block.conv1(torch.relu(x)))
    expected = F.avg_pool2d(block.conv2(main), 2) + F.avg_pool2d(block.c_sc(x), 2)
    out = block(x) if kind is None else block.conv2.pooled(main) + F.avg_pool2d(block.c_sc(x), 2)
    limit = 1e-5 if kind is None else 1e-12
    torch.testing.assert_close(
        out, expected, rtol=0, atol=limit * float(expected.detach().abs().max())
    )
    seeds = torch.randn_like(out)
    sources = [x, *block.parameters()]
    ours = torch.autograd.grad(out, sources, seeds, retain_graph=True)
    theirs = torch.autograd.grad(expected, sources, seeds)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=limit * float(other.abs().max()))


def test_a_lattice_is_zero_at_the_left_upper_and_one_at_the_right_lower_edge() -> None:
    boxes = torch.tensor([[[0.25, 0.5, 0.75, 1.0]]])
    x, y = box_lattice(boxes, 5)
    assert x[0, 0].tolist() == [-0.5, 0, 0.5, 1, 1.5]
    assert y[0, 0].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_boxes_that_are_not_square_are_filled_along_rows_and_columns() -> None:
    inside = inside_boxes(torch.tensor([[[0.25, 0.5, 1.0, 0.5]]]), 5)
    expected = torch.zeros(5, 5)
    expected[2, 1:] = 1
    assert torch.equal(inside[0, 0], expected)


def test_resizing_has_half_pixel_centres_and_no_antialiasing() -> None:
    x = torch.tensor([0.0, 8.0, 16.0, 24.0]).expand(1, 1, 4, 4)
    assert resize(x, 2)[0, 0, 0].tolist() == [4, 20]
    assert resize(x, 8)[0, 0, 0].tolist() == [0, 2, 6, 10, 14, 18, 22, 24]
    assert resize(x, 4) is x


def test_pixels_are_repeated_along_both_axes() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert upsample2(x)[0, 0].tolist() == expected


def test_power_iterations_move_in_training_alone() -> None:
    torch.manual_seed(0)
    layer = SNLinear(6, 4)
    before = layer.weight_u.clone()
    layer.eval()
    layer(torch.randn(2, 6))
    assert torch.equal(layer.weight_u, before)
    layer.train()
    layer(torch.randn(2, 6))
    assert not torch.equal(layer.weight_u, before)


def test_one_power_iteration_is_done_per_training_forward() -> None:
    torch.manual_seed(0)
    layer = SNLinear(6, 4).double().train()
    matrix = torch.randn(4, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_orig.copy_(matrix)
    v = F.normalize(matrix.t() @ layer.weight_u, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    weight = layer.weight().detach()
    torch.testing.assert_close(layer.weight_u, u)
    torch.testing.assert_close(layer.weight_v, v)
    torch.testing.assert_close(weight, matrix / (u @ matrix @ v))


def test_an_embedding_is_normed_as_one_matrix() -> None:
    torch.manual_seed(0)
    table = SNEmbedding(5, 3).double().train()
    with torch.no_grad():
        table.weight_orig.normal_()
    for _ in range(100):
        table.weight()
    rows = table.eval()(torch.tensor([4, 0]))
    sigma = torch.linalg.matrix_norm(table.weight_orig.detach(), ord=2)
    torch.testing.assert_close(rows.detach(), table.weight_orig.detach()[[4, 0]] / sigma)


def test_an_orthogonal_start_has_zero_biases() -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Conv2d(2, 3, 3))
    orthogonal_init(layers)
    for layer in layers:
        rows = layer.weight.detach().flatten(1)
        torch.testing.assert_close(rows @ rows.t(), torch.eye(len(rows)), rtol=0, atol=1e-5)
        assert not layer.bias.any()

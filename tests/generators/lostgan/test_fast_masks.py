"""The mask networks of production are those of training, piece by piece, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.lostgan.fast_masks import (
    FastHead,
    FastMasks,
    PooledShare,
    _pool,
    _spread,
    instance_norm_,
)
from synthaug.generators.lostgan.folding import Folded
from synthaug.generators.lostgan.masks import PYRAMID, MaskRegression, PyramidHead, to_mask
from synthaug.generators.nn.winograd import channels_first, channels_last, same_tile

SIDE = 12


def folded_of(network: nn.Module, name: str) -> Folded:
    """Return the weights of a network as part of a larger one, with running statistics of their
    own.
    """
    torch.manual_seed(1)
    for key, buffer in network.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2)
    state = {f"{name}.{key}": value for key, value in network.state_dict().items()}
    return Folded(state)


def double(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("side", [6, 8, 16, 32])
@pytest.mark.parametrize("cells", PYRAMID)
def test_pooling_as_a_matrix_is_torchs_adaptive_pooling(cells: int, side: int) -> None:
    """Also where the cells overlap, because they do not divide the side."""
    x = double((1, 5, side))
    matrix = _pool(cells, side, x)
    expected = F.adaptive_avg_pool1d(x, cells)
    torch.testing.assert_close(x @ matrix.t(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [6, 16])
@pytest.mark.parametrize("cells", PYRAMID)
def test_spreading_is_interpolation_followed_by_each_tap(cells: int, side: int) -> None:
    """The tap before, at and after each pixel of the interpolated line, zero outside."""
    line = double((1, 1, cells))
    spread = F.interpolate(line, side, mode="linear", align_corners=True)[0, 0]
    padded = F.pad(spread, (1, 1))
    weights = _spread(cells, side, line).view(side, cells, 3)
    for tap in range(3):
        expected = padded[tap : tap + side]
        torch.testing.assert_close(weights[:, :, tap] @ line[0, 0], expected, rtol=0, atol=1e-12)


def test_instance_norm_is_torchs_of_each_map_and_works_in_place() -> None:
    x = 3 * double((3, 5, 7, 4)) + 2
    expected = channels_last(F.instance_norm(channels_first(x)))
    normalized = instance_norm_(x)
    assert normalized.data_ptr() == x.data_ptr()
    torch.testing.assert_close(normalized, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", [1, 2])
def test_masks_of_production_are_those_of_training(version: int) -> None:
    torch.manual_seed(0)
    network = MaskRegression(6, 8, version).eval()
    folded = folded_of(network, "mask_regress")
    code = double((5, 6))
    fast = FastMasks(folded, version, 2)(code)
    expected = network.double()(code[None])[0]
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pyramid", [False, True])
def test_a_head_of_production_has_the_logits_of_the_classes_asked_for(pyramid: bool) -> None:
    """Of each image its own labels, in the order of its slots."""
    torch.manual_seed(0)
    head = to_mask(4, 5, 7, pyramid).eval()
    folded = folded_of(head, "head")
    x = double((2, SIDE, SIDE, 4))
    labels = torch.tensor([[3, 0, 6], [1, 1, 5]])
    fast = FastHead(folded, "head", SIDE, 1)(x, labels)
    logits = head.double()(channels_first(x))
    assert fast.shape == (2, 3, SIDE, SIDE)
    for image in range(2):
        for slot in range(3):
            expected = logits[image, labels[image, slot]]
            torch.testing.assert_close(fast[image, slot].double(), expected, rtol=0, atol=1e-5)


def test_the_pooled_share_is_the_convolution_of_the_pooled_maps_alone() -> None:
    """And it is added to what stands there."""
    torch.manual_seed(0)
    head = PyramidHead(4, 5).eval()
    folded = folded_of(head, "psp")
    weight = double((5, 20, 3, 3), seed=2)
    x = double((2, SIDE, SIDE, 4))
    out = double((2, SIDE, SIDE, 5), seed=3)
    before = out.clone()
    PooledShare(folded, "psp", weight, SIDE)(x, out)

    head = head.double()
    maps = []
    for stage in head.stages:
        pooled = stage(channels_first(x))
        spread = F.interpolate(pooled, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
        maps.append(spread)
    expected = F.conv2d(torch.cat(maps, 1), weight, padding=1)
    torch.testing.assert_close(out - before, channels_last(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "side", "most", "tile"),
    [
        (63, 32, 4, 1),
        (64, 32, 4, 4),
        (64, 32, 2, 1),
        (127, 32, 2, 1),
        (128, 32, 2, 2),
        (128, 15, 4, 2),
        (128, 16, 4, 4),
        (64, 8, 4, 2),
        (256, 8, 1, 1),
    ],
)
def test_tiles_are_those_measured(channels: int, side: int, most: int, tile: int) -> None:
    weight = torch.empty(2, channels, 3, 3)
    assert same_tile(weight, side, most) == tile

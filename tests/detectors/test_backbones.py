"""Feature pyramids.

Sizes and order of the maps, norms, precision and the first step of training.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops.misc import FrozenBatchNorm2d

from synthaug.detectors.backbones import (
    Residual,
    SmallBody,
    norm_layer,
    resnet50_pyramid,
    small_pyramid,
)

GN = norm_layer("gn", 1e-5)


@pytest.mark.parametrize("strides", [(8, 16, 32), (4, 8, 16, 32), (8,)])
def test_maps_come_finest_first_with_the_strides_asked_for(strides) -> None:
    pyramid = small_pyramid(8, strides, 16, GN, bf16=False)
    maps = pyramid(torch.rand(2, 3, 64, 96))
    assert list(maps) == [str(i) for i in range(len(strides))]
    expected = [(2, 16, 64 // stride, 96 // stride) for stride in strides]
    assert [tuple(level.shape) for level in maps.values()] == expected


def test_channels_double_up_to_four_times_the_width() -> None:
    body = SmallBody(8, (4, 8, 16, 32), GN)
    assert body.out_channels == [8, 16, 32, 32]
    coarse = SmallBody(8, (16, 32), GN)
    assert coarse.out_channels == [32, 32]


def test_a_fresh_residual_block_of_a_pyramid_is_its_shortcut() -> None:
    torch.manual_seed(0)
    pyramid = small_pyramid(8, (8, 16), 16, GN, bf16=False)
    block = pyramid.get_submodule("body.stages.1")
    assert isinstance(block, Residual)
    x = torch.randn(1, 8, 12, 10)
    torch.testing.assert_close(block(x), F.relu(block.shortcut(x)))


def test_the_shortcut_sees_every_pixel_of_a_halved_map() -> None:
    """A strided 1 x 1 convolution would have a gradient at one pixel of four."""
    block = Residual(4, 8, 2, GN)
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(block.shortcut(x).square().sum(), x)
    assert (gradient != 0).all()


def test_a_block_of_stride_one_and_equal_channels_adds_its_input() -> None:
    block = Residual(4, 4, 1, GN)
    assert isinstance(block.shortcut, nn.Identity)
    assert block(torch.rand(2, 4, 5, 7)).shape == (2, 4, 5, 7)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 16), (128, 32), (48, 8), (24, 4), (8, 2), (7, 1), (3, 1)]
)
def test_group_norm_has_at_least_four_channels_in_a_group(channels: int, groups: int) -> None:
    norm = GN(channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_each_norm_has_its_class_and_the_eps_asked_for() -> None:
    for name, kind in (
        ("gn", nn.GroupNorm),
        ("bn", nn.BatchNorm2d),
        ("frozen_bn", FrozenBatchNorm2d),
    ):
        norm = norm_layer(name, 0.125)(16)
        assert type(norm) is kind
        assert norm.eps == 0.125


def test_in_bfloat16_the_maps_are_float32_and_near_those_in_full_precision() -> None:
    torch.manual_seed(0)
    pyramid = small_pyramid(8, (8, 16), 16, GN, bf16=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        exact = pyramid(images)
        pyramid.bf16 = True
        rounded = pyramid(images)
    for name, level in exact.items():
        assert rounded[name].dtype == torch.float32
        assert not torch.equal(level, rounded[name])
        error = (level - rounded[name]).norm() / level.norm()
        assert error < 0.05


def test_as_many_stages_of_the_resnet_learn_as_are_asked_for() -> None:
    with torch.device("meta"):
        pyramid = resnet50_pyramid(norm_layer("bn", 1e-5), 2, bf16=False)
    body = pyramid.body.named_parameters()
    learned = {name.split(".")[0] for name, parameter in body if parameter.requires_grad}
    assert learned == {"layer3", "layer4"}
    assert pyramid.out_channels == 256

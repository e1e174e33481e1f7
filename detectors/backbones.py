"""Feature pyramids on a compact network, on EfficientNet-Lite0 and on ResNet-50.

All have the children `body` and `fpn`, so their parameter names are those of torchvision's
detection files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.misc import FrozenBatchNorm2d

from synthaug.detectors.nn.lite0 import Lite0Body

NormLayer = Callable[[int], nn.Module]
NORMS = ("gn", "bn", "frozen_bn")
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1], of torchvision's pretrained networks
IMAGENET_STD = (0.229, 0.224, 0.225)


def norm_layer(norm: str, eps: float) -> NormLayer:
    """Return the constructor channels -> normalization layer."""
    if norm == "gn":
        return partial(_group_norm, eps=eps)
    if norm == "frozen_bn":
        return partial(FrozenBatchNorm2d, eps=eps)
    return partial(nn.BatchNorm2d, eps=eps)


def _group_norm(channels: int, eps: float) -> nn.Module:
    """Return a group norm of as many groups as leave at least four channels in each."""
    for groups in (32, 16, 8, 4, 2):
        per_group = channels // groups
        if channels % groups == 0 and per_group >= min(4, channels):
            return nn.GroupNorm(groups, channels, eps=eps)
    return nn.GroupNorm(1, channels, eps=eps)


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut; `stride` 2 halves the map."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: NormLayer) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = norm(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            # A strided 1x1 would drop three of four pixels; averaging before it keeps all.
            pool: nn.Module = nn.Identity()
            if stride == 2:
                pool = nn.AvgPool2d(2)
            conv = nn.Conv2d(in_channels, channels, 1, bias=False)
            self.shortcut = nn.Sequential(pool, conv, norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.norm1(self.conv1(x))
        y = F.relu(y, inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


class SmallBody(nn.Module):
    """Stem at stride 2, then one residual block per stage at strides 4, 8, 16 ...

    Channels double up to 4 x width. Only the stages at `strides` come out, finest first.
    """

    def __init__(self, width: int, strides: Sequence[int], norm: NormLayer) -> None:
        super().__init__()
        depth = strides[-1].bit_length() - 2  # stages at strides 4 .. strides[-1]
        channels = [min(width * 2**i, 4 * width) for i in range(depth)]
        conv = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.stem = nn.Sequential(conv, norm(width), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList()
        in_channels = width
        for out_channels in channels:
            self.stages.append(Residual(in_channels, out_channels, 2, norm))
            in_channels = out_channels
        self.out_channels = channels[depth - len(strides) :]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images [B, 3, H, W] to feature maps named "0", "1" ..., finest first."""
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        skipped = len(features) - len(self.out_channels)
        kept = enumerate(features[skipped:])
        return OrderedDict((str(i), feature) for i, feature in kept)


class Pyramid(nn.Module):
    """A body and its feature pyramid; with `bf16` it trains in bfloat16.

    The maps are float32: torchvision makes its anchors in the dtype of the maps, and bfloat16
    cannot hold the coordinates of an image wider than 256 pixels. Predictions are made in float32.
    """

    def __init__(self, body: nn.Module, fpn: nn.Module, out_channels: int, bf16: bool) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn
        self.out_channels = out_channels
        self.bf16 = bf16

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Map images [B, 3, H, W] to maps [B, C, H / stride, W / stride] by name."""
        x = images.contiguous(memory_format=torch.channels_last)
        rounded = self.bf16 and self.training
        with torch.autocast(images.device.type, torch.bfloat16, enabled=rounded):
            features = self.fpn(self.body(x))
        return OrderedDict((name, feature.float()) for name, feature in features.items())


def small_pyramid(
    width: int,
    strides: Sequence[int],
    out_channels: int,
    norm: NormLayer,
    bf16: bool,
) -> Pyramid:
    """Return the compact pyramid with maps at `strides`.

    Each stride is twice the one before, the first is 4 or 8.
    """
    body = SmallBody(width, strides, norm)
    fpn = FeaturePyramidNetwork(body.out_channels, out_channels)
    for name, parameter in body.named_parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
        elif name.endswith("norm2.weight"):
            # each block starts as its shortcut, which trains faster from scratch
            nn.init.zeros_(parameter)
    return Pyramid(body, fpn, out_channels, bf16)


def lite0_pyramid(
    strides: Sequence[int],
    out_channels: int,
    learning_parts: int,
    bf16: bool,
) -> Pyramid:
    """Return the pyramid on EfficientNet-Lite0 with maps at `strides`, of 4 to 32.

    Its weights mean nothing before the published ones are read into it. The lowest
    `5 - learning_parts` parts of the body stay frozen.
    """
    body = Lite0Body(strides, learning_parts)
    fpn = FeaturePyramidNetwork(body.out_channels, out_channels)
    return Pyramid(body, fpn, out_channels, bf16)


def resnet50_pyramid(norm: NormLayer, trainable_layers: int, bf16: bool) -> Pyramid:
    """Return torchvision's ResNet-50 FPN: five maps of 256 channels.

    The lowest `5 - trainable_layers` stages stay frozen.
    """
    backbone = resnet_fpn_backbone(
        backbone_name=resnet50.__name__,
        weights=None,
        norm_layer=norm,
        trainable_layers=trainable_layers,
    )
    return Pyramid(backbone.body, backbone.fpn, backbone.out_channels, bf16)

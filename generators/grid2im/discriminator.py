"""The discriminators of Grid2Im: of images with layouts, of masks, of crops.

Parameter names are those of the official checkpoints. That of crops is sg2im's.

Legend: B images, n objects of all images, L labels, M side of a mask, S image side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
Features = list[list[Tensor]]  # of each scale, the largest first: maps of every layer


def patch_layer(
    channels_in: int, channels_out: int, kernel: int, stride: int, normed: bool
) -> nn.Sequential:
    """Return a convolution, maybe an instance norm, and LeakyReLU."""
    padding = kernel // 2
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=padding)
    ]
    if normed:
        layers.append(nn.InstanceNorm2d(channels_out))
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE))


def init_patches(module: nn.Module) -> None:
    """Draw the weights of convolutions as published."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, 0.02)


class ImageDiscriminator(nn.Module):
    """Scores of patches of images with their layouts, at two scales (pix2pixHD)."""

    def __init__(self, channels: int, width: int, scales: int = 2) -> None:
        super().__init__()
        self.scales = scales
        widths = (width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        for scale in range(scales):
            before = channels
            for number, (after, stride) in enumerate(zip(widths, strides, strict=True)):
                layer = patch_layer(before, after, 4, stride, normed=number > 0)
                self.add_module(f"scale{scale}_layer{number}", layer)
                before = after
            last = nn.Sequential(nn.Conv2d(before, 1, 4, padding=2))
            self.add_module(f"scale{scale}_layer{len(widths)}", last)
        self.layers = len(widths) + 1
        init_patches(self)

    def forward(self, layouts: Tensor, images: Tensor) -> Features:
        """Layouts [B, L + A, S, S] and images [B, 3, S, S] -> features of the scales."""
        x = torch.cat([layouts, images], 1)
        features = []
        for scale in reversed(range(self.scales)):  # full size passes the last scale's layers
            maps = []
            out = x
            for number in range(self.layers):
                out = self.get_submodule(f"scale{scale}_layer{number}")(out)
                maps.append(out)
            features.append(maps)
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return features


class MaskDiscriminator(nn.Module):
    """Scores of patches of masks, told of their classes before the third convolution."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.labels = labels
        self.scale0_layer0 = patch_layer(1, width, 3, 2, normed=False)
        self.scale0_layer1 = patch_layer(width, 2 * width, 3, 2, normed=True)
        self.scale0_layer2 = patch_layer(2 * width + labels, 4 * width, 3, 1, normed=True)
        self.scale0_layer3 = nn.Sequential(nn.Conv2d(4 * width, 1, 3, padding=1))
        init_patches(self)

    def forward(self, masks: Tensor, labels: Tensor) -> Features:
        """Masks [n, M, M] of objects with labels [n] -> features of the one scale."""
        first = self.scale0_layer0(masks[:, None])
        second = self.scale0_layer1(first)
        classes = F.one_hot(labels, self.labels).to(masks.dtype)
        height, width = second.shape[2:]
        everywhere = classes[:, :, None, None].expand(-1, -1, height, width)
        with_classes = torch.cat([second, everywhere], 1)
        third = self.scale0_layer2(with_classes)
        scores = self.scale0_layer3(third)
        return [[first, second, third, scores]]

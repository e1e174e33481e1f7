"""ResNets for small images (He et al., CVPR 2016, section 4.2): CAS's classifier.

"Deep Residual Learning for Image Recognition".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthaug.pipeline.core.seeding import seed_for

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER_DEPTH = 101  # LostGAN-V2's CAS


def network(depth: int, width: int, num_classes: int, seed: int) -> nn.Module:
    """Return a CIFAR-form ResNet: a 3x3 stem, no pooling before the end.

    `depth` 6n+2: three stages of n basic blocks, widths w, 2w, 4w. `depth` 101: four stages of 3,
    4, 23, 3 bottlenecks, widths w .. 8w, four times as many channels out.
    """
    from torch import nn

    bottleneck = depth == PAPER_DEPTH
    num_blocks = [(depth - 2) // 6] * 3
    if bottleneck:
        num_blocks = [3, 4, 23, 3]
    layers: list[nn.Module] = [_conv(3, width, 3, 1), nn.ReLU(inplace=True)]
    channels = width
    for stage, count in enumerate(num_blocks):
        inner = width * 2**stage
        for block in range(count):
            stride = 1
            if stage and not block:
                stride = 2
            if bottleneck:
                widths = [channels, inner, inner, 4 * inner]
                layers.append(_residual(widths, [1, 3, 1], stride))
                channels = 4 * inner
            else:
                layers.append(_residual([channels, inner, inner], [3, 3], stride))
                channels = inner
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return _initialized(nn.Sequential(*layers), seed)


def _residual(channels: Sequence[int], kernels: Sequence[int], stride: int) -> nn.Module:
    """Return relu(convolutions + shortcut).

    The first 3x3 strides, a 1x1 shortcut follows the shape.
    """
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
            super().__init__()
            self.body = body
            self.shortcut = shortcut

        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = self.body(x) + self.shortcut(x)
            return total.relu()

    body: list[nn.Module] = []
    strided = kernels.index(3)
    for i, kernel in enumerate(kernels):
        if i:
            body.append(nn.ReLU(inplace=True))
        conv_stride = stride if i == strided else 1
        body.append(_conv(channels[i], channels[i + 1], kernel, conv_stride))
    shortcut: nn.Module = nn.Identity()
    if stride > 1 or channels[0] != channels[-1]:
        shortcut = _conv(channels[0], channels[-1], 1, stride)
    return Residual(nn.Sequential(*body), shortcut)


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    """Return a convolution that keeps the size (with stride 1), and its batch norm."""
    from torch import nn

    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _initialized(net: nn.Module, seed: int) -> nn.Module:
    """Draw the weights (He et al. 2015) from a generator of their own.

    Batch norms start as the identity.
    """
    import torch
    from torch import nn

    rng = torch.Generator().manual_seed(seed_for(seed, "cas", "weights"))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=rng
            )
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=rng)
            nn.init.zeros_(module.bias)
    return net

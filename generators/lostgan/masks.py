"""The mask networks of LostGAN.

The mask of an object from its code, and the logits that refine masks from features.

Parameter names are those of the official checkpoints. Legend as in network.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.layers import BatchNorm2d, SNConv2d, SNLinear, resize

PYRAMID = (1, 2, 3, 6)  # cells per side of the pooled maps of a PyramidHead


class MaskRegression(nn.Module):
    """Component (iii): the joint code of one object to its 16 x 16 mask.

    Version 1 normalises over the batch (padded slots included, as published), version 2 each object
    for itself.
    """

    def __init__(self, code: int, channels: int, version: int) -> None:
        super().__init__()
        self.channels = channels
        self.fc = SNLinear(code, channels * 16)
        self.conv1 = _mask_stage(channels, version)
        self.conv2 = _mask_stage(channels, version)
        head = SNConv2d(channels, 1, 1, eps=1e-12)
        self.conv3 = _mask_stage(channels, version)
        self.conv3.append(head)

    def forward(self, code: Tensor) -> Tensor:
        """[B, O, D_w] -> soft masks [B, O, 16, 16]."""
        batch, slots, _ = code.shape
        flat = self.fc(code.flatten(0, 1))
        x = flat.view(-1, self.channels, 4, 4)
        x = resize(self.conv1(x), 8)
        x = resize(self.conv2(x), 16)
        masks = torch.sigmoid(self.conv3(x))
        return masks.view(batch, slots, 16, 16)


def _mask_stage(channels: int, version: int) -> nn.Sequential:
    convolution = SNConv2d(channels, channels, 3, eps=1e-12)
    norm = BatchNorm2d(channels) if version == 1 else nn.InstanceNorm2d(channels)
    return nn.Sequential(convolution, norm, nn.ReLU())


class PyramidHead(nn.Module):
    """Pyramid pooling before the class logits.

    In the mask head of one stage of the 128 model.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for cells in PYRAMID:
            stage = nn.Sequential(
                nn.AdaptiveAvgPool2d(cells),
                nn.Conv2d(channels, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(),
            )
            self.stages.append(stage)
        wide = channels + len(PYRAMID) * hidden
        conv = nn.Conv2d(wide, hidden, 3, padding=1, bias=False)
        self.bottleneck = nn.Sequential(conv, BatchNorm2d(hidden), nn.ReLU(), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, hidden, S, S]."""
        size = x.shape[-2:]
        parts = []
        for stage in self.stages:
            pooled = stage(x)
            at_size = F.interpolate(pooled, size=size, mode="bilinear", align_corners=True)
            parts.append(at_size)
        joined = torch.cat([*parts, x], 1)
        out: Tensor = self.bottleneck(joined)
        return out


def to_mask(channels: int, hidden: int, labels: int, pyramid: bool) -> nn.Sequential:
    """Return component (iv).

    From a block's output [B, C, S, S] to class logits [B, K, S, S].
    """
    layers: list[nn.Module]
    if pyramid:
        layers = [PyramidHead(channels, hidden)]
    else:
        first = nn.Conv2d(channels, hidden, 3, padding=1)
        layers = [first, BatchNorm2d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(hidden, labels, 1))

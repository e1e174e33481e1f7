"""The mask networks of LostGAN: the mask of an object from its code, and the logits that refine masks from features.

Parameter names are those of the official checkpoints. Legend as in lostgan.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.nn.layers import BatchNorm2d, SNConv2d, SNLinear, resize


class MaskRegression(nn.Module):
    """Component (iii): the joint code of one object to its 16 x 16 mask.

    Version 1 normalises over the batch (padded slots included, as published), version 2 each object for itself.
    """

    def __init__(self, code: int, channels: int, version: int) -> None:
        super().__init__()
        self.channels = channels
        self.fc = SNLinear(code, channels * 16)

        def stage(*head: nn.Module) -> nn.Sequential:
            norm = BatchNorm2d(channels) if version == 1 else nn.InstanceNorm2d(channels)
            return nn.Sequential(SNConv2d(channels, channels, 3, eps=1e-12), norm, nn.ReLU(), *head)

        self.conv1 = stage()
        self.conv2 = stage()
        self.conv3 = stage(SNConv2d(channels, 1, 1, eps=1e-12))

    def forward(self, code: Tensor) -> Tensor:
        """[B, O, D_w] -> soft masks [B, O, 16, 16]."""
        batch, slots, _ = code.shape
        x = self.fc(code.flatten(0, 1)).view(-1, self.channels, 4, 4)
        x = resize(self.conv1(x), 8)
        x = resize(self.conv2(x), 16)
        return torch.sigmoid(self.conv3(x)).view(batch, slots, 16, 16)


class PyramidHead(nn.Module):
    """Pyramid pooling before the class logits, in the mask head of one stage of the 128 model."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(k),
                nn.Conv2d(channels, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(),
            )
            for k in (1, 2, 3, 6)
        )
        wide = channels + 4 * hidden
        conv = nn.Conv2d(wide, hidden, 3, padding=1, bias=False)
        self.bottleneck = nn.Sequential(conv, BatchNorm2d(hidden), nn.ReLU(), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, hidden, S, S]."""
        size = x.shape[-2:]
        parts = [
            F.interpolate(s(x), size=size, mode="bilinear", align_corners=True) for s in self.stages
        ]
        out: Tensor = self.bottleneck(torch.cat([*parts, x], 1))
        return out


def to_mask(channels: int, hidden: int, labels: int, pyramid: bool) -> nn.Sequential:
    """Component (iv): class logits [B, K, S, S] from a block's output [B, C, S, S]."""
    if pyramid:
        return nn.Sequential(PyramidHead(channels, hidden), nn.Conv2d(hidden, labels, 1))
    first = nn.Conv2d(channels, hidden, 3, padding=1)
    return nn.Sequential(first, BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, labels, 1))

"""The network from an object's vector to its mask."""

from __future__ import annotations

import math

from torch import nn

from synthaug.generators.nn.layers import BatchNorm2d


def mask_net(width: int, side: int, norm_first: bool = True) -> nn.Sequential:
    """Return the network from vectors [n, D, 1, 1] to logits of masks [n, 1, M, M].

    Its norms are before the convolutions, as in sg2im, or after them, as in Grid2Im.
    """
    layers: list[nn.Module] = []
    doublings = int(math.log2(side))
    for _ in range(doublings):
        conv = nn.Conv2d(width, width, 3, padding=1)
        norm = BatchNorm2d(width)
        layers.append(nn.Upsample(scale_factor=2))
        if norm_first:
            layers += [norm, conv]
        else:
            layers += [conv, norm]
        layers.append(nn.ReLU())
    to_logit = nn.Conv2d(width, 1, 1)
    return nn.Sequential(*layers, to_logit)

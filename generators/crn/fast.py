"""CRN for sampling: network.py in evaluation, rewritten for speed.

Equal to it up to rounding. Nearly all products are those of 3 x 3 convolutions, which go by tiles
(nn/winograd.py) on maps with channels last, and of the head only the three channels of the image
that is asked for are made. The doublings between the corners depend on the position, so no
convolution can be moved before them, and layer norms are an image's own, so none can be folded.

Legend: B images, C channels, H W pixels. Maps are [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.crn.network import (
    NORM_EPS,
    SLOPE,
    CascadedRefinement,
    LayerNorm,
    Level,
    at_size,
    double,
)
from synthaug.generators.nn.winograd import SameConv, channels_first, channels_last

MIN_TILE_CHANNELS = 64  # from which on tiles save more products than they cost sums, on CPUs


class FastLevel(nn.Module):
    """Level in evaluation, of maps of a size (H, W)."""

    def __init__(self, level: Level, size: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__()
        self.conv1 = _convolution(level.conv1, size, dtype)
        self.conv2 = _convolution(level.conv2, size, dtype)
        self.norm1 = level.norm1
        self.norm2 = level.norm2

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C'] to [B, H, W, C]."""
        x = _normed(self.conv1(x), self.norm1)
        return _normed(self.conv2(x), self.norm2)


def _convolution(conv: nn.Conv2d, size: tuple[int, int], dtype: torch.dtype) -> SameConv:
    """Return a convolution by the largest tiles that its channels and its map allow."""
    weight = conv.weight.detach()
    tile = 1
    if weight.device.type == "cpu" and min(weight.shape[:2]) >= MIN_TILE_CHANNELS:
        tile = _largest_tile(size, dtype)
    bias = weight.new_zeros(len(weight))
    return SameConv(weight, bias, tile=tile).to(dtype)


def _largest_tile(size: tuple[int, int], dtype: torch.dtype) -> int:
    """Return the outputs per side of a tile: 4 in float32, 2, or 1 at odd sides."""
    height, width = size
    if dtype == torch.float32 and height % 4 == 0 and width % 4 == 0:
        return 4
    if height % 2 == 0 and width % 2 == 0:
        return 2
    return 1


def _normed(x: Tensor, norm: LayerNorm) -> Tensor:
    """Return layer norm and leaky ReLU of [B, H, W, C]; changes float32 maps."""
    values = x.float()
    flat = values.flatten(1)
    variance, mean = torch.var_mean(flat, 1, correction=0, keepdim=True)  # [B, 1]
    scale = norm.weight.float() * torch.rsqrt(variance + NORM_EPS)  # [B, C]
    shift = norm.bias.float() - mean * scale
    values.mul_(scale[:, None, None]).add_(shift[:, None, None])
    return F.leaky_relu_(values, SLOPE).to(x.dtype)


class FastCascade(nn.Module):
    """A trained CascadedRefinement's forward, inside `torch.inference_mode()`."""

    def __init__(self, network: CascadedRefinement, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = network.config
        self.dtype = dtype
        height, width = network.config.start
        self.levels = nn.ModuleList()
        for level in network.levels:
            assert isinstance(level, Level)
            self.levels.append(FastLevel(level, (height, width), dtype))
            height = 2 * height
            width = 2 * width
        head = network.head
        assert head.bias is not None
        self.head_weight = head.weight.detach()[:, :, 0, 0]  # [3 K, C]
        self.head_bias = head.bias.detach()

    def forward(self, maps: Tensor, choices: Sequence[int]) -> Tensor:
        """Return image `choices` of each of maps [B, C, H, W]: [B, 3, H, W] float32."""
        seen = at_size(maps, self.config.start)
        x = self.levels[0](channels_last(seen.to(self.dtype)))
        for level in self.levels[1:]:
            doubled = double(channels_first(x))
            seen = at_size(maps, (doubled.shape[2], doubled.shape[3]))
            both = torch.cat([doubled, seen.to(self.dtype)], 1)
            x = level(channels_last(both))
        return self._colors(x, choices)

    def _colors(self, x: Tensor, choices: Sequence[int]) -> Tensor:
        """Return the three channels of each image's choice [B, 3, H, W]."""
        images = []
        for features, choice in zip(x, choices, strict=True):
            rows = slice(choice, None, self.config.images)
            weight = self.head_weight[rows]
            bias = self.head_bias[rows]
            colors = features.float() @ weight.t() + bias  # [H, W, 3]
            images.append(colors.permute(2, 0, 1))
        return torch.stack(images)

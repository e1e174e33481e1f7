"""pix2pix for sampling: network.py in evaluation, rewritten for speed.

Equal to it up to rounding. The first convolution reads a condition of up to 200 channels of which a
layout or a pixel has a few: it runs over the classes that a layout has, or is a sum of 16 rows of a
table per pixel of a map. Running statistics are folded into the kernels.

Legend: B images, O object slots, C channels of the condition, N channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.base import Layouts
from synthaug.generators.pix2pix.network import (
    SLOPE,
    Level,
    Norm,
    UNet,
    has_dropout,
    norm_per_image,
)
from synthaug.generators.pix2pix.painting import Size, filled_boxes
from synthaug.generators.spade.semantics import Semantics

KERNEL = 4  # pixels per side of every kernel


class BoxStem(nn.Module):
    """The first convolution of layouts, over the classes that each of them has."""

    kernels: Tensor

    def __init__(self, weight: Tensor, size: Size) -> None:
        super().__init__()
        self.size = size
        by_class = weight.detach().transpose(0, 1).contiguous()  # [C, N, 4, 4]
        self.register_buffer("kernels", by_class, persistent=False)

    def forward(self, layouts: Layouts) -> Tensor:
        """Return [B, N, H/2, W/2]."""
        inside = filled_boxes(layouts, self.size)
        outputs = []
        for labels, boxes in zip(layouts.labels, inside, strict=True):
            outputs.append(self._convolve(labels, boxes))
        return torch.stack(outputs)

    def _convolve(self, labels: Tensor, boxes: Tensor) -> Tensor:
        """Return [N, H/2, W/2] of one image's labels [O] and boxes [O, H, W]."""
        present = torch.unique(labels[labels > 0])
        areas = [boxes[labels == label].any(0) for label in present]
        if not areas:
            height, width = self.size
            return self.kernels.new_zeros(self.kernels.shape[1], height // 2, width // 2)
        channels = torch.stack(areas).to(self.kernels.dtype)
        kernels = self.kernels[present - 1].transpose(0, 1)
        return F.conv2d(channels[None], kernels, stride=2, padding=1)[0]


class MapStem(nn.Module):
    """The first convolution of maps: the rows of a table, one per tap, added up."""

    table: Tensor
    edge_kernel: Tensor | None

    def __init__(self, weight: Tensor, num_classes: int) -> None:
        super().__init__()
        self.rows_per_tap = num_classes + 1  # of each class, and of pixels outside the image
        by_tap = weight.detach().permute(2, 3, 1, 0).flatten(0, 1)  # [16, C, N]
        of_classes = F.pad(by_tap[:, :num_classes], (0, 0, 0, 1))
        self.register_buffer("table", of_classes.flatten(0, 1).contiguous(), persistent=False)
        edge_kernel = None
        if weight.shape[1] > num_classes:
            edge_kernel = weight.detach()[:, num_classes:]
        self.register_buffer("edge_kernel", edge_kernel, persistent=False)

    def forward(self, maps: Semantics) -> Tensor:
        """Return [B, N, H/2, W/2]."""
        count, height, width = maps.channel.shape
        outside = self.rows_per_tap - 1
        padded = F.pad(maps.channel, (1, 1, 1, 1), value=outside)
        taps: list[Tensor] = []
        for u in range(KERNEL):
            for v in range(KERNEL):
                pixels = padded[:, u : u + height : 2, v : v + width : 2]
                taps.append(pixels + len(taps) * self.rows_per_tap)
        rows = torch.stack(taps, -1).flatten(0, 2)  # [B H/2 W/2, 16]
        summed = F.embedding_bag(rows, self.table, mode="sum")
        channels_last = summed.view(count, height // 2, width // 2, -1)
        out = channels_last.permute(0, 3, 1, 2)
        if self.edge_kernel is None or maps.edges is None:
            return out
        edges = maps.edges[:, None].to(self.table.dtype)
        return out + F.conv2d(edges, self.edge_kernel, stride=2, padding=1)


class FastConv(nn.Module):
    """A halving or a doubling with the norm behind it, in evaluation."""

    weight: Tensor
    bias: Tensor | None
    gain: Tensor | None
    shift: Tensor | None

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, norm: Norm | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.doubles = isinstance(conv, nn.ConvTranspose2d)
        weight = conv.weight.detach()
        bias = conv.bias
        gain = shift = None
        self.eps = 0.0
        if norm is not None and norm.per_image:
            self.eps = norm.eps
            gain = norm.weight.detach()
            shift = norm.bias.detach()
        elif norm is not None:
            weight, bias = folded(weight, norm, self.doubles)
        if bias is not None:
            bias = bias.detach().to(dtype)
        # the faster layout for these convolutions, on CPUs and on GPUs alike
        kernels = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", kernels, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, N, H/2, W/2] or [B, N, 2 H, 2 W]."""
        convolve = F.conv_transpose2d if self.doubles else F.conv2d
        out: Tensor = convolve(x, self.weight, self.bias, stride=2, padding=1)
        if self.gain is None or self.shift is None:
            return out
        return norm_per_image(out, self.gain, self.shift, self.eps)


def folded(weight: Tensor, norm: Norm, doubles: bool) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of a convolution with its norm folded in."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    variance = norm.running_var.double() + norm.eps
    scale = norm.weight.detach().double() * torch.rsqrt(variance)
    bias = norm.bias.detach().double() - norm.running_mean.double() * scale
    per_kernel = scale[:, None, None, None]
    if doubles:
        per_kernel = scale[:, None, None]  # kernels are [in, out, 4, 4]
    return (weight.double() * per_kernel).float(), bias.float()


class FastUNet(nn.Module):
    """UNet in evaluation, from the output of its first convolution on."""

    def __init__(self, network: UNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.share = network.config.dropout  # of features that dropout leaves out
        self.halving = nn.ModuleList()
        self.doubling = nn.ModuleList()
        level: Level | None = network.model
        while level is not None:
            halve, norm, level, double, last_norm = _layers(level)
            if self.doubling:  # the first halving is a stem's
                self.halving.append(FastConv(halve, norm, dtype))
            self.doubling.append(FastConv(double, last_norm, dtype))
        self.downs = len(self.doubling)

    def forward(self, first: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Return images [B, 3, H, W] float32 of the first convolution's output.

        It is [B, N, H/2, W/2]. `seeds`: dropout stays on, its features drawn by an image's seed.
        """
        x = first.to(self.dtype).contiguous(memory_format=torch.channels_last)
        levels = [x]
        for halve in self.halving:
            x = halve(F.leaky_relu(x, SLOPE))
            levels.append(x)
        streams = _streams(seeds)
        made = levels.pop()
        for level in reversed(range(1, self.downs)):
            made = self.doubling[level](F.relu(made))
            if streams and has_dropout(level, self.downs):
                made = made * _kept(made, streams, self.share)
            made = torch.cat([levels.pop(), made], 1)
        out: Tensor = self.doubling[0](F.relu(made))
        return torch.tanh(out.float())


def _layers(
    level: Level,
) -> tuple[nn.Conv2d, Norm | None, Level | None, nn.ConvTranspose2d, Norm | None]:
    """Return a level's halving, its norm, the level below, the doubling and its norm."""
    halve = double = below = None
    norms: dict[bool, Norm] = {}  # by whether it is behind the doubling
    for layer in level.model:
        if isinstance(layer, nn.Conv2d):
            halve = layer
        elif isinstance(layer, nn.ConvTranspose2d):
            double = layer
        elif isinstance(layer, Level):
            below = layer
        elif isinstance(layer, Norm):
            norms[double is not None] = layer
    assert halve is not None and double is not None
    return halve, norms.get(False), below, double, norms.get(True)


def _streams(seeds: Sequence[int] | None) -> list[torch.Generator]:
    """Return a stream of chance for each image; none without seeds."""
    return [torch.Generator().manual_seed(seed) for seed in seeds or ()]


def _kept(x: Tensor, streams: Sequence[torch.Generator], share: float) -> Tensor:
    """Return the factors of dropout for features [B, N, h, w]: 0, or 1 / (1 - share)."""
    drawn = [torch.rand(x.shape[1:], generator=rng) for rng in streams]
    kept = torch.stack(drawn) >= share
    factors = kept.to(x.dtype) / (1 - share)
    return factors.to(x.device)

"""U-Net that predicts the velocity of a rectified flow in a window.

Inside the region that is to be painted. The blocks follow the usual diffusion U-Net (Ho et al.
2020; Dhariwal and Nichol 2021, adaptive group norm): four levels of 1, 2, 3 and 4 times the width,
one block per level on the way down, two on the way up, attention at the coarsest level only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.generators.fill.config import Config
from synthaug.generators.fill.windows import (
    EXAMPLE_CHANNELS,
    NUM_AUGMENTATIONS,
    NUM_SIZES,
    Windows,
)

MULTIPLES = (1, 2, 3, 4)  # channels of the levels, in widths
GROUPS = 8  # of the group norms, or 4 where the channels are no multiple of 8
FREQUENCIES = 32  # sines and cosines of the time
NEIGHBOUR_CHANNELS = 4  # colors in which the boxes of other objects are painted for the network
COORDINATES = 2
LEAST_TIME = 0.1  # before the end of the flow: nearer to it the way to an example is not faster
INPUT_CHANNELS = 3 + 3 + 1 + 1 + COORDINATES + NEIGHBOUR_CHANNELS


class ResidualBlock(nn.Module):
    """Two convolutions around a normalization.

    The vector of the window scales and shifts it.
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = _norm(channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_and_shift = nn.Linear(embedding, 2 * channels_out)
        self.norm_out = _norm(channels_out)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.skip = nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.conv_out.weight)  # each block begins as its skip
        nn.init.zeros_(_bias(self.conv_out))

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Return features [B, out, H, W] of x [B, in, H, W] and the vector [B, embedding]."""
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        of_vector = self.scale_and_shift(vector)[:, :, None, None]
        scale, shift = of_vector.chunk(2, dim=1)
        hidden = self.norm_out(hidden) * (1 + scale) + shift
        hidden = self.conv_out(self.dropout(F.silu(hidden)))
        output: Tensor = self.skip(x) + hidden
        return output


class SelfAttention(nn.Module):
    """Attention of every position to every other one."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _norm(channels)
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(_bias(self.out))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of x [B, C, H, W]."""
        count, channels, height, width = x.shape
        projected = self.queries_keys_values(self.norm(x))
        width_of_head = channels // self.heads
        shape = (count, 3, self.heads, width_of_head, height * width)
        of_heads = projected.reshape(shape).transpose(-1, -2)
        queries, keys, values = of_heads.unbind(1)
        attended = F.scaled_dot_product_attention(queries, keys, values)
        as_map = attended.transpose(-1, -2).reshape(x.shape)
        output: Tensor = x + self.out(as_map)
        return output


class FillNetwork(nn.Module):
    """Velocity of the pixels in the region, given all that surrounds it."""

    def __init__(self, config: Config, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self._dropout = dropout
        self.config, self.num_classes = config, num_classes
        width, embedding = config.width, config.embedding
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.classes = nn.Embedding(num_classes + 2, embedding)
        self.sizes = nn.Linear(NUM_SIZES, embedding)
        self.augmentations = nn.Linear(NUM_AUGMENTATIONS, embedding, bias=False)
        self.neighbours = nn.Embedding(num_classes + 1, NEIGHBOUR_CHANNELS, padding_idx=0)

        channels = width
        inputs = INPUT_CHANNELS
        if config.examples:
            inputs += EXAMPLE_CHANNELS
        self.conv_in = nn.Conv2d(inputs, channels, 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        skips = [channels]
        for level, multiple in enumerate(MULTIPLES):
            self.down.append(self._block(channels, multiple * width))
            channels = multiple * width
            skips.append(channels)
            if level < len(MULTIPLES) - 1:
                halved = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
                self.shrink.append(halved)
                skips.append(channels)

        self.middle_first = self._block(channels, channels)
        self.middle_attention = SelfAttention(channels, config.heads)
        self.middle_last = self._block(channels, channels)

        self.up = nn.ModuleList()
        for multiple in reversed(MULTIPLES):
            for _ in range(2):
                joined = channels + skips.pop()
                self.up.append(self._block(joined, multiple * width))
                channels = multiple * width
        assert not skips
        self.norm_out = _norm(channels)
        outputs = 3
        if config.examples:
            outputs += 1  # how much of the example is copied
        self.conv_out = nn.Conv2d(channels, outputs, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(_bias(self.conv_out))

    def _block(self, channels_in: int, channels_out: int) -> ResidualBlock:
        return ResidualBlock(channels_in, channels_out, self.config.embedding, self._dropout)

    def forward(self, noisy: Tensor, time: Tensor, windows: Windows) -> Tensor:
        """Return the velocity [B, 3, S, S] of noisy pixels [B, 3, S, S].

        At times [B] in [0, 1].
        """
        vector = self._vector(time, windows)
        x = self.conv_in(self._input(noisy, windows))
        skips = [x]
        for level, block in enumerate(self.down):
            x = block(x, vector)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
                skips.append(x)

        x = self.middle_first(x, vector)
        x = self.middle_attention(x)
        x = self.middle_last(x, vector)

        for number, block in enumerate(self.up):
            begins_a_level = number > 0 and number % 2 == 0
            if begins_a_level:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            joined = torch.cat([x, skips.pop()], dim=1)
            x = block(joined, vector)
        x = F.silu(self.norm_out(x))
        output: Tensor = self.conv_out(x)
        if not self.config.examples:
            return output
        velocity, gate = output[:, :3], output[:, 3:]
        return velocity + gate * _towards_example(noisy, time, windows)

    def _vector(self, time: Tensor, windows: Windows) -> Tensor:
        """Return what holds for a whole window, [B, embedding]."""
        numbers = torch.arange(FREQUENCIES, device=time.device)
        exponents = numbers / (FREQUENCIES - 1)
        slower = torch.exp(-math.log(1000) * exponents)  # from 1 down to 1 / 1000
        angles = 1000 * time[:, None] * slower  # [B, FREQUENCIES]
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        vector = self.time(waves)
        vector = vector + self.classes(windows.labels)
        vector = vector + self.sizes(windows.sizes)
        vector = vector + self.augmentations(windows.augmentations)
        return F.silu(vector)

    def _input(self, noisy: Tensor, windows: Windows) -> Tensor:
        """Return all that holds per pixel, [B, inputs, S, S]."""
        known = windows.pixels * (1 - windows.region)
        colors = self.neighbours(windows.neighbours)
        neighbours = colors.permute(0, 3, 1, 2)
        side = noisy.shape[-1]
        line = torch.linspace(-1, 1, side, device=noisy.device)
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        pair = torch.stack([columns, rows])
        coordinates = pair.expand(len(noisy), -1, -1, -1)
        parts = [noisy, known, windows.region, windows.box, coordinates, neighbours]
        if self.config.examples:
            parts.append(windows.example)
        stacked = torch.cat(parts, dim=1)
        return stacked.contiguous(memory_format=torch.channels_last)


def _towards_example(noisy: Tensor, time: Tensor, windows: Windows) -> Tensor:
    """Return the velocity [B, 3, S, S] that ends at the example, or 0.

    With it a network copies what is to be copied by one number per pixel, and has to learn only
    what differs.
    """
    colors, mask = windows.example[:, :3], windows.example[:, 3:]
    left = (1 - time).clamp_min(LEAST_TIME)[:, None, None, None]
    return (colors - mask * noisy) / left


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias

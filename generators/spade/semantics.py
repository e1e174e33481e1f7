"""What SPADE's networks see of panoptic maps: one-hot classes, don't care and the boundaries between instances.

Two equal forms. `dense` is the tensor S that the paper's convolutions run over. `patterns` uses that the modulation of a
pixel depends on nothing but S in the 5 x 5 window around it, and that a map has few windows that differ: it numbers
them, so that work is done once per window instead of once per pixel.

Legend: B images, H W pixels, S channels of the semantic tensor, C channels of a feature map, U3 and U5 distinct windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.base import Maps


@dataclass(frozen=True)
class Patterns:
    """The distinct 3 x 3 and 5 x 5 windows of a batch of maps; taps are row-major, and outside the image is a value too."""

    classes: (
        Tensor  # [U3, 9] int64 channel of each tap's class; outside = the number of class channels
    )
    edges: Tensor  # [U3, 9] bool: which taps are on a boundary
    taps: Tensor  # [U5, 9] int64: the 3 x 3 window around each tap of a 5 x 5 one; outside the image = U3
    pixels: Tensor  # [B, H, W] int64: the 5 x 5 window around each pixel


@dataclass(frozen=True)
class Semantics:
    """Classes and boundaries of a batch of maps at one resolution."""

    channel: Tensor  # [B, H, W] int64: channel of S that is 1 besides the boundaries'
    instances: (
        Tensor  # [B, H, W] int64, for systems that look at more of them than their boundaries
    )
    edges: Tensor | None  # [B, H, W] bool, where S has a channel of boundaries
    num_classes: int  # channels of S without the boundaries': don't care counts where it has one

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return (self.channel.shape[1], self.channel.shape[2])

    def at(self, size: tuple[int, int]) -> Semantics:
        """The same at another (H, W): of each block of pixels the top-left one, boundaries too."""
        if size == self.size:
            return self
        rows, columns = (
            torch.arange(new, device=self.channel.device) * old // new
            for new, old in zip(size, self.size, strict=True)
        )
        channel, instances, edges = (
            None if x is None else x[:, rows[:, None], columns]
            for x in (self.channel, self.instances, self.edges)
        )
        assert channel is not None and instances is not None
        return Semantics(channel, instances, edges, self.num_classes)

    @cached_property
    def dense(self) -> Tensor:
        """S: [B, S, H, W] float32 of 0 and 1; classes, don't care, boundaries."""
        count, (height, width) = len(self.channel), self.size
        extra = int(self.edges is not None)
        out = torch.zeros(
            count, self.num_classes + extra, height, width, device=self.channel.device
        )
        out.scatter_(1, self.channel[:, None], 1)
        if self.edges is not None:
            out[:, -1] = self.edges
        return out

    @cached_property
    def patterns(self) -> Patterns:
        """The distinct windows; takes milliseconds, and is shared by all norms of a resolution."""
        outside = 2 * self.num_classes
        code = 2 * self.channel
        code = code if self.edges is None else code + self.edges
        threes, around = _windows(code, outside)
        fives, pixels = _windows(around, len(threes))
        return Patterns(threes // 2, threes % 2 == 1, fives, pixels)


def _windows(values: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """Distinct 3 x 3 windows of values [B, H, W] in 0 .. outside - 1: their values [U, 9], and the window of each pixel.

    Found along one axis and then along the other, so that a window's number stays far below 2^63.
    """
    padded = F.pad(values, (1, 1, 1, 1), value=outside)
    rows, across = torch.unique(_triples(padded, 2, outside + 1), return_inverse=True)
    found, pixels = torch.unique(_triples(across, 1, len(rows)), return_inverse=True)
    three_rows = rows[_split(found, len(rows))]  # [U, 3]
    return _split(three_rows, outside + 1).flatten(1), pixels


def _triples(values: Tensor, axis: int, base: int) -> Tensor:
    """Number of each run of three values 0 .. base - 1 along an axis."""
    assert base < 2**21, "so many different windows do not fit one number"
    count = values.shape[axis] - 2
    first, second, third = (values.narrow(axis, start, count) for start in range(3))
    return (first * base + second) * base + third


def _split(numbers: Tensor, base: int) -> Tensor:
    """The three values of each number: [...] -> [..., 3]."""
    return torch.stack([numbers // (base * base), numbers // base % base, numbers % base], -1)


def semantics(maps: Maps, dont_care: bool, edges: bool) -> Semantics:
    """What the networks see of maps: with a channel for don't care, and one for boundaries between instances, or without.

    Without a channel for don't care no pixel may be it: ValueError then, or when a label is out of range.
    """
    num_classes = maps.classes + int(dont_care)
    if maps.labels.numel() and int(maps.labels.max()) >= num_classes:
        what = (
            "don't care, for which dont_care: false leaves no channel"
            if not dont_care
            else "no class"
        )
        raise ValueError(
            f"labels: {int(maps.labels.max())} is {what}; set dont_care: true, or map it to a class"
        )
    return Semantics(
        maps.labels, maps.instances, boundaries(maps.instances) if edges else None, num_classes
    )


def boundaries(instances: Tensor) -> Tensor:
    """Which pixels differ from one of their four neighbours: [B, H, W] -> bool. The image's own border is no boundary."""
    found = torch.zeros_like(instances, dtype=torch.bool)
    for axis in (1, 2):
        last = instances.shape[axis] - 1
        differ = instances.narrow(axis, 0, last) != instances.narrow(axis, 1, last)
        found.narrow(axis, 0, last).logical_or_(differ)
        found.narrow(axis, 1, last).logical_or_(differ)
    return found

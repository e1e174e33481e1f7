"""Panoptic maps as SPADE reads them: classes, don't care, boundaries.

Two equal forms. `dense` is the tensor S that the paper's convolutions run over. `patterns` uses
that the modulation of a pixel depends on nothing but S in the 5 x 5 window around it, and that a
map has few windows that differ: it numbers them, so that work is done once per window instead of
once per pixel.

Legend: B images, H W pixels, S channels of the semantic tensor, U3 and U5 distinct windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.base import Maps
from synthaug.generators.nn.panoptic.neighbourhood import Neighbourhood, NeighbourhoodSettings


@dataclass(frozen=True)
class Patterns:
    """The distinct 3 x 3 and 5 x 5 windows of a batch of maps.

    Taps are row-major, and outside the image is a value too.
    """

    # [U3, 9] int64 channel of each tap's class; outside = the number of class channels
    classes: Tensor
    edges: Tensor  # [U3, 9] bool: the taps that are on a boundary
    # [U5, 9] int64: the 3 x 3 window around each tap of a 5 x 5 one; outside the image = U3
    taps: Tensor
    pixels: Tensor  # [B, H, W] int64: the 5 x 5 window around each pixel


@dataclass(frozen=True)
class Semantics:
    """Classes and boundaries of a batch of maps at one resolution."""

    channel: Tensor  # [B, H, W] int64: channel of S that is 1 besides the boundaries'
    instances: Tensor  # [B, H, W] int64
    edges: Tensor | None  # [B, H, W] bool, where S has a channel of boundaries
    num_classes: int  # channels of S without the boundaries': don't care counts where it has one
    _neighbourhoods: dict[NeighbourhoodSettings, Neighbourhood] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W)."""
        _, height, width = self.channel.shape
        return height, width

    def at(self, size: tuple[int, int]) -> Semantics:
        """Return the maps at another (H, W): of each block of pixels the top-left one."""
        if size == self.size:
            return self
        old_height, old_width = self.size
        height, width = size
        device = self.channel.device
        all_rows = torch.arange(height, device=device)
        rows = all_rows[:, None] * old_height // height
        columns = torch.arange(width, device=device) * old_width // width
        edges = self.edges
        if edges is not None:
            edges = edges[:, rows, columns]
        channel = self.channel[:, rows, columns]
        instances = self.instances[:, rows, columns]
        return Semantics(channel, instances, edges, self.num_classes)

    @cached_property
    def dense(self) -> Tensor:
        """Return S: [B, S, H, W] float32 of 0 and 1; classes, don't care, boundaries."""
        count = len(self.channel)
        channels = self.num_classes + int(self.edges is not None)
        shape = (count, channels, *self.size)
        dense = torch.zeros(shape, device=self.channel.device)
        dense.scatter_(1, self.channel[:, None], 1)
        if self.edges is not None:
            dense[:, -1] = self.edges
        return dense

    @cached_property
    def patterns(self) -> Patterns:
        """Return the distinct windows, shared by all norms of a resolution."""
        outside = 2 * self.num_classes
        code = 2 * self.channel
        if self.edges is not None:
            code = code + self.edges
        threes, three_of_pixel = _windows(code, outside)
        fives, five_of_pixel = _windows(three_of_pixel, len(threes))
        return Patterns(
            classes=threes // 2,
            edges=threes % 2 == 1,
            taps=fives,
            pixels=five_of_pixel,
        )

    def neighbourhood(self, settings: NeighbourhoodSettings) -> Neighbourhood:
        """Return the neighbours of one identity, for panoptic-aware operators; made once.

        An identity is a pair of class and instance.
        """
        if settings not in self._neighbourhoods:
            extra = None
            if self.edges is not None:
                extra = self.edges[:, None].float()
            self._neighbourhoods[settings] = Neighbourhood(
                self.instances * self.num_classes + self.channel,
                self.channel,
                extra,
                border=settings.border,
                order=settings.order,
                scaling=settings.scaling,
            )
        return self._neighbourhoods[settings]


def semantics(maps: Maps, dont_care: bool, edges: bool) -> Semantics:
    """Return SPADE's view of maps, with or without don't care and boundaries.

    Without a channel for don't care no pixel may be it: ValueError then, or when a label is out of
    range.
    """
    num_classes = maps.classes + int(dont_care)
    if maps.labels.numel():
        highest = int(maps.labels.max())
        if highest >= num_classes:
            fault = "no class"
            if not dont_care:
                fault = "don't care, for which dont_care: false leaves no channel"
            raise ValueError(
                f"labels: {highest} is {fault}; set dont_care: true, or map it to a class"
            )
    boundary = None
    if edges:
        boundary = boundaries(maps.instances)
    return Semantics(maps.labels, maps.instances, boundary, num_classes)


def boundaries(instances: Tensor) -> Tensor:
    """Return the pixels [B, H, W] that differ from one of their four neighbours.

    The image's own border is no boundary.
    """
    boundary = torch.zeros_like(instances, dtype=torch.bool)
    for axis in (1, 2):
        last = instances.shape[axis] - 1
        before = instances.narrow(axis, 0, last)
        after = instances.narrow(axis, 1, last)
        differ = before != after
        boundary.narrow(axis, 0, last).logical_or_(differ)
        boundary.narrow(axis, 1, last).logical_or_(differ)
    return boundary


def _windows(values: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """Return the distinct 3 x 3 windows [U, 9] of values, and each pixel's.

    Values are 0 .. outside - 1. Numbered along one axis and then along the other, so that a
    window's number stays far below 2^63.
    """
    base = outside + 1
    padded = F.pad(values, (1, 1, 1, 1), value=outside)
    triples = _triples(padded, 2, base)
    rows, row_of_pixel = torch.unique(triples, return_inverse=True)
    row_triples = _triples(row_of_pixel, 1, len(rows))
    windows, window_of_pixel = torch.unique(row_triples, return_inverse=True)
    three_rows = rows[_split(windows, len(rows))]  # [U, 3]
    return _split(three_rows, base).flatten(1), window_of_pixel


def _triples(values: Tensor, axis: int, base: int) -> Tensor:
    """Return the number of each run of three values 0 .. base - 1 along an axis."""
    assert base < 2**21, "so many different windows do not fit one number"
    count = values.shape[axis] - 2
    first = values.narrow(axis, 0, count)
    second = values.narrow(axis, 1, count)
    third = values.narrow(axis, 2, count)
    return (first * base + second) * base + third


def _split(numbers: Tensor, base: int) -> Tensor:
    """Return the three values of each number: [...] -> [..., 3]."""
    first = numbers // (base * base)
    second = numbers // base % base
    third = numbers % base
    return torch.stack([first, second, third], -1)

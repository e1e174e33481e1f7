"""What a panoptic map says to convolutions and upsampling, as lists of pixels, found once per batch and scale.

A window of a convolution is *mixed* when it holds another identity than its centre's. Everything here follows from the
integer map alone (Panoptic-based Image Synthesis, Dundar et al., CVPR 2020; equations 1-3, Algorithm 1), so all layers of a
scale share it.

Legend: B images, H W pixels, N = B H W pixels of a batch in row-major order, by which all lists count; K taps of a kernel,
row-major; M mixed windows, E windows that only reach over the image's border, Q holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Border = Literal["hole", "same"]
Order = Literal["xy", "yx"]
Scaling = Literal["mean", "root"]
_NEIGHBOURS: dict[
    str, tuple[tuple[int, int], ...]
] = {  # (down, right) after the pixel itself, Algorithm 1's passes 2-4
    "xy": ((0, 1), (1, 0), (1, 1)),  # the paper's i runs over the width
    "yx": ((1, 0), (0, 1), (1, 1)),
}


def matching_taps(identity: Tensor, kernel: int) -> Tensor:
    """Equation 1: whether each tap of each window is in the image and has the centre's identity.

    identity [B, H, W] integer -> [K, B, H, W] bool.
    """
    b, h, w = identity.shape
    taps, reach = kernel * kernel, kernel // 2
    same = torch.zeros(taps, b, h, w, dtype=torch.bool, device=identity.device)
    same[taps // 2] = True
    for tap in range(taps // 2 + 1, taps):
        down, right = tap // kernel - reach, tap % kernel - reach
        left, stop = max(0, -right), w - max(0, right)
        if down >= h or left >= stop:
            continue
        equal = (
            identity[:, : h - down, left:stop] == identity[:, down:, left + right : stop + right]
        )
        same[tap, :, : h - down, left:stop] = equal
        same[taps - 1 - tap, :, down:, left + right : stop + right] = (
            equal  # who matches me, I match
        )
    return same


class Windows:
    """The windows of one kernel size on one map; lists that only one form of the convolution needs come when asked for."""

    def __init__(
        self, identity: Tensor, kernel: int, border: Border, scaling: Scaling = "mean"
    ) -> None:
        """identity [B, H, W] integer."""
        b, h, w = identity.shape
        self.kernel, self.shape, self.size = kernel, (b, h, w), b * h * w
        reach = kernel // 2
        self.steps = [
            (t // kernel - reach) * w + t % kernel - reach for t in range(kernel * kernel)
        ]  # in list positions
        self.same = matching_taps(identity, kernel).flatten(1)  # [K, N]
        matching = self.same.sum(0, dtype=torch.int32)  # [N], at least 1
        inside = _in_reach(h, reach, identity.device)[:, None] * _in_reach(
            w, reach, identity.device
        )  # [H, W]
        inside = inside.expand(b, h, w).flatten()
        self.mixed = (matching < inside).nonzero()[:, 0]  # [M]
        outside = kernel * kernel - inside
        counted = matching if border == "hole" else matching + outside
        over = (
            (matching == inside) & (outside > 0)
            if border == "hole"
            else torch.zeros_like(inside, dtype=torch.bool)
        )
        self.edge = over.nonzero()[:, 0]  # [E]
        ratio = kernel * kernel / counted.double()
        self._ratio = (
            ratio if scaling == "mean" else ratio.sqrt()
        )  # [N], equation 2's sum(1) / sum(M), or its root

    def ratio(self, pixels: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The scale of equation 2 at some pixels, or all: a column [n, 1]."""
        chosen = self._ratio if pixels is None else self._ratio[pixels]
        return chosen.to(dtype)[:, None]

    @cached_property
    def scale(self) -> Tensor:
        """The scale of equation 2 at all pixels, [N] float32."""
        return self._ratio.float()

    @cached_property
    def pure_scale(self) -> Tensor:
        """The same, but 0 where a window is mixed."""
        return self.scale.index_fill(0, self.mixed, 0)

    @cached_property
    def bits(self) -> Tensor:
        """Which taps match, as the bits of a number per window: [N] int32, tap 0 the lowest; at most 31 taps."""
        weights = 1 << torch.arange(len(self.steps), device=self.same.device, dtype=torch.int32)
        return (self.same * weights[:, None]).sum(0, dtype=torch.int32)

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Per tap the mixed windows where it matches: their places in `mixed` [n], and the pixels read [n]."""
        same = self.same[:, self.mixed]  # [K, M]
        places = _by_row(same)
        return [
            (place, self.mixed[place] + step)
            for place, step in zip(places, self.steps, strict=True)
        ]

    @cached_property
    def unmatched(self) -> list[Tensor]:
        """Per tap the pixels whose window does not match there, or ends there at the image's border: [n] each."""
        return _by_row(~self.same)

    @cached_property
    def work(self) -> float:
        """Products that computing the mixed windows apart takes, as a share of the whole convolution's."""
        return int(self.same[:, self.mixed].sum()) / max(1, len(self.steps) * self.size)


@dataclass(frozen=True)
class Upsampling:
    """Algorithm 1 as changes to nearest upsampling: which new pixels copy another neighbour, and which copy none."""

    moved: Tensor  # [n] new pixels, by their place in the finer map
    source: Tensor  # [n] what they copy, by its place in the coarser map
    holes: Tensor  # [Q] new pixels without a match
    parents: Tensor  # [p] pixels of the coarser map that not all four new pixels under them copy
    children: Tensor  # [p, 4] those four
    kept: Tensor  # [p, 4] bool, which of them copy it all the same

    @staticmethod
    def between(coarse: Tensor, fine: Tensor, order: Order = "xy") -> Upsampling:
        """Identities [B, H, W] of the features and [B, 2 H, 2 W] of the result; `order` is that of Algorithm 1's passes."""
        b, h, w = coarse.shape
        if fine.shape != (b, 2 * h, 2 * w):
            raise ValueError(
                f"upsampling from {list(coarse.shape)} gives {[b, 2 * h, 2 * w]}, not {list(fine.shape)}"
            )
        nearest = coarse[:, :, None, :, None].expand(b, h, 2, w, 2).reshape(b, 2 * h, 2 * w)
        equal = fine == nearest
        image, row, column = (~equal).nonzero(as_tuple=True)  # [m] each, passes 2-4 are for these
        wanted = fine[image, row, column]
        source = torch.full_like(wanted, -1, dtype=torch.int64)
        for down, right in _NEIGHBOURS[order]:
            y, x = row // 2 + down, column // 2 + right
            found = (source < 0) & (y < h) & (x < w)
            found &= coarse[image, y.clamp_max(h - 1), x.clamp_max(w - 1)] == wanted
            source = torch.where(found, (image * h + y) * w + x, source)
        place = (image * 2 * h + row) * 2 * w + column
        matched = source >= 0
        block = equal.view(b, h, 2, w, 2).transpose(2, 3).reshape(-1, 4)  # [B * H * W, 4]
        parents = (~block.all(1)).nonzero()[:, 0]
        corner = parents // w * 4 * w + parents % w * 2  # their upper left new pixel
        children = corner[:, None] + torch.tensor([0, 1, 2 * w, 2 * w + 1], device=corner.device)
        return Upsampling(
            place[matched], source[matched], place[~matched], parents, children, block[parents]
        )


@dataclass(frozen=True)
class HoleTable:
    """Equation 3 at holes as weighted sums of the kernel's columns, since a class map is one-hot."""

    channels: Tensor  # [c] the input channels that occur
    column: Tensor  # [Q, n] which of them is read, by its place in `channels`
    tap: Tensor  # [n] through which tap
    weight: Tensor  # [Q, n] float64, the ratio of equation 2 included; 0 where a tap does not match


class ScaleGuide:
    """One batch of panoptic maps at one resolution."""

    def __init__(
        self,
        identity: Tensor,
        classes: Tensor | None = None,
        extra: Tensor | None = None,
        *,
        coarse: Tensor | None = None,
        border: Border = "hole",
        order: Order = "xy",
        scaling: Scaling = "mean",
    ) -> None:
        """Maps at this resolution: identity [B, H, W] integer, classes [B, H, W] int64, extra [B, e, H, W] float.

        `classes` are one-hot channels of the semantic map, `extra` its channels after them. `coarse` [B, H/2, W/2] is what
        upsampling starts from; left out, it is every second pixel of `identity`. `scaling` of a window's sum: `mean` is
        equation 2, `root` its square root, which keeps the variance of features that vary independently.
        """
        if identity.ndim != 3 or identity.is_floating_point() or identity.dtype == torch.bool:
            raise ValueError(
                f"identities are integers [B, H, W], not {identity.dtype} {list(identity.shape)}"
            )
        if classes is not None and (classes.shape != identity.shape or classes.is_floating_point()):
            raise ValueError(
                f"classes are integers {list(identity.shape)} as identities are, not {classes.dtype} {list(classes.shape)}"
            )
        if extra is not None and (extra.ndim != 4 or extra[:, 0].shape != identity.shape):
            raise ValueError(
                f"other channels {list(extra.shape)} do not fit identities {list(identity.shape)}"
            )
        if border not in ("hole", "same") or order not in _NEIGHBOURS:
            raise ValueError(
                f"border is hole or same, order xy or yx, not {border!r} and {order!r}"
            )
        if scaling not in ("mean", "root"):
            raise ValueError(f"scaling is mean or root, not {scaling!r}")
        self.identity, self.classes, self.extra = identity, classes, extra
        self.border, self.order, self.scaling, self._coarse = border, order, scaling, coarse
        self._windows: dict[int, Windows] = {}
        self._tables: dict[tuple[int, int], HoleTable] = {}

    def windows(self, kernel: int) -> Windows:
        """Return the windows of a kernel of this size; made once."""
        if kernel % 2 == 0:
            raise ValueError(f"a panoptic-aware convolution has an odd kernel, not {kernel}")
        if kernel not in self._windows:
            self._windows[kernel] = Windows(self.identity, kernel, self.border, self.scaling)
        return self._windows[kernel]

    @cached_property
    def upsampling(self) -> Upsampling:
        """How features of half this resolution come to it."""
        coarse = self.identity[:, ::2, ::2] if self._coarse is None else self._coarse
        return Upsampling.between(coarse, self.identity, self.order)

    def hole_table(self, kernel: int, num_channels: int) -> HoleTable:
        """Return which of a kernel's `num_channels` input columns count at which hole; made once."""
        if (kernel, num_channels) not in self._tables:
            self._tables[kernel, num_channels] = self._hole_table(kernel, num_channels)
        return self._tables[kernel, num_channels]

    def _hole_table(self, kernel: int, num_channels: int) -> HoleTable:
        windows, holes = self.windows(kernel), self.upsampling.holes
        same = windows.same[:, holes].t()  # [Q, K]
        scale = same * windows.ratio(holes, torch.float64)  # [Q, K]
        steps = torch.tensor(windows.steps, device=holes.device)
        read = torch.where(
            same, holes[:, None] + steps, holes[:, None]
        )  # [Q, K], a hole itself where a tap does not match
        num_extra = 0 if self.extra is None else self.extra.shape[1]
        first = num_channels - num_extra  # of the extra channels
        if self.classes is None and self.extra is None:
            raise ValueError(
                "filling holes needs the classes of the map, or other channels of a semantic map"
            )
        columns, weights = [], []  # [Q, K] each: which of the channels that occur, and how much
        used = holes.new_empty(0)
        if self.classes is not None:
            used, column = torch.unique(self.classes.flatten()[read], return_inverse=True)
            if len(used) and not 0 <= int(used[0]) <= int(used[-1]) < first:
                raise ValueError(
                    f"classes must lie in 0 .. {first - 1}, not in {int(used[0])} .. {int(used[-1])}"
                )
            columns, weights = [column], [scale]
        if self.extra is not None:
            values = (
                self.extra.permute(0, 2, 3, 1).reshape(-1, num_extra)[read].double()
            )  # [Q, K, e]
            columns += [torch.full_like(read, len(used) + e) for e in range(num_extra)]
            weights += [scale * value for value in values.unbind(-1)]
        channels = torch.cat([used, torch.arange(first, num_channels, device=holes.device)])
        taps = torch.arange(len(steps), device=holes.device).repeat(len(columns))
        return HoleTable(channels, torch.cat(columns, 1), taps, torch.cat(weights, 1))


class Guide:
    """A batch of panoptic maps at full resolution; `at` gives a layer's scale, by the top-left pixel of each block."""

    def __init__(
        self,
        identity: Tensor,
        classes: Tensor | None = None,
        extra: Tensor | None = None,
        *,
        border: Border = "hole",
        order: Order = "xy",
        scaling: Scaling = "mean",
    ) -> None:
        """Full-resolution maps, as in ScaleGuide."""
        self.full = ScaleGuide(
            identity, classes, extra, border=border, order=order, scaling=scaling
        )
        self._scales = {identity.shape[1]: self.full}

    def at(self, height: int) -> ScaleGuide:
        """Return the guide of features [B, C, height, width]; ValueError when blocks would not be square and whole."""
        if height not in self._scales:
            full = self.full
            step, left = divmod(full.identity.shape[1], height)
            if left or full.identity.shape[2] % step:
                raise ValueError(
                    f"a map of {list(full.identity.shape[1:])} has no whole blocks at height {height}"
                )
            identity = full.identity[..., ::step, ::step].contiguous()
            maps = [
                None if m is None else m[..., ::step, ::step].contiguous()
                for m in (full.classes, full.extra)
            ]
            border, order, scaling = full.border, full.order, full.scaling
            self._scales[height] = ScaleGuide(
                identity, *maps, border=border, order=order, scaling=scaling
            )
        return self._scales[height]


def _in_reach(length: int, reach: int, device: torch.device) -> Tensor:
    """How many positions of a line lie within `reach` of each: [length] int32."""
    place = torch.arange(length, device=device, dtype=torch.int32)
    return (place + reach).clamp_max(length - 1) - (place - reach).clamp_min(0) + 1


def _by_row(chosen: Tensor) -> list[Tensor]:
    """The places of the true values of each row: [K, n] bool -> K times [n]."""
    return list(torch.split(chosen.nonzero()[:, 1], chosen.sum(1).tolist()))

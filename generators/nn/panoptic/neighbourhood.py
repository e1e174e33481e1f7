"""Neighbours of one identity in panoptic maps, as lists of pixels.

A window of a convolution is *mixed* when it holds another identity than its centre's. Everything
here follows from the integer map alone (Panoptic-based Image Synthesis, Dundar et al., CVPR 2020;
equations 1-3, Algorithm 1), so all layers of a scale share it.

Legend: B images, H W pixels, N = B H W pixels of a batch in row-major order, by which all lists
count; K taps of a kernel, row-major; M mixed windows, E windows that only reach over the image's
border, Q holes, e channels of a map besides its classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Border = Literal["hole", "same"]
Order = Literal["xy", "yx"]
Scaling = Literal["mean", "root"]
# (down, right) of the pixels tried after the pixel itself, Algorithm 1's passes 2-4
_NEIGHBOURS: dict[str, tuple[tuple[int, int], ...]] = {
    "xy": ((0, 1), (1, 0), (1, 1)),  # the paper's i runs over the width
    "yx": ((1, 0), (0, 1), (1, 1)),
}


def matching_taps(identity: Tensor, kernel: int) -> Tensor:
    """Return the taps of each window in the image that have the centre's identity.

    Equation 1: identity [B, H, W] integer -> [K, B, H, W] bool.
    """
    batch, height, width = identity.shape
    taps = kernel * kernel
    centre = taps // 2
    reach = kernel // 2
    same = torch.zeros(taps, batch, height, width, dtype=torch.bool, device=identity.device)
    same[centre] = True
    for tap in range(centre + 1, taps):
        down = tap // kernel - reach
        right = tap % kernel - reach
        left = max(0, -right)
        stop = width - max(0, right)
        if down >= height or left >= stop:
            continue
        rows = slice(0, height - down)
        columns = slice(left, stop)
        rows_below = slice(down, height)
        columns_beside = slice(left + right, stop + right)
        beside = identity[:, rows_below, columns_beside]
        equal = identity[:, rows, columns] == beside
        same[tap, :, rows, columns] = equal
        # the relation is symmetric: the opposite tap of the other pixel matches too
        same[taps - 1 - tap, :, rows_below, columns_beside] = equal
    return same


class Windows:
    """The windows of one kernel size on one map, identity [B, H, W] integer.

    Lists that only one form of the convolution needs are made when they are asked for.
    """

    def __init__(
        self,
        identity: Tensor,
        kernel: int,
        border: Border,
        scaling: Scaling = "mean",
    ) -> None:
        batch, height, width = identity.shape
        reach = kernel // 2
        self.kernel = kernel
        self.shape = (batch, height, width)
        self.size = batch * height * width
        self.steps = []  # per tap, from the centre to it in list positions
        for tap in range(kernel * kernel):
            down = tap // kernel - reach
            right = tap % kernel - reach
            self.steps.append(down * width + right)
        self.same = matching_taps(identity, kernel).flatten(1)  # [K, N]

        matching = self.same.sum(0, dtype=torch.int32)  # [N], at least 1
        rows = _count_in_reach(height, reach, identity.device)
        columns = _count_in_reach(width, reach, identity.device)
        inside = rows[:, None] * columns  # [H, W] taps in the image
        inside = inside.expand(batch, height, width).flatten()
        outside = kernel * kernel - inside
        self.mixed = (matching < inside).nonzero()[:, 0]  # [M]
        if border == "hole":
            counted = matching
            edge = (matching == inside) & (outside > 0)
        else:
            counted = matching + outside
            edge = torch.zeros_like(inside, dtype=torch.bool)
        self.edge = edge.nonzero()[:, 0]  # [E]
        ratio = kernel * kernel / counted.double()  # [N], equation 2's sum(1) / sum(M)
        if scaling == "root":
            ratio = ratio.sqrt()
        self._ratio = ratio

    def ratio(self, pixels: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the scale of equation 2 at some pixels, or all: a column [n, 1]."""
        ratio = self._ratio
        if pixels is not None:
            ratio = ratio[pixels]
        return ratio.to(dtype)[:, None]

    @cached_property
    def scale(self) -> Tensor:
        """Return the scale of equation 2 at all pixels, [N] float32."""
        return self._ratio.float()

    @cached_property
    def pure_scale(self) -> Tensor:
        """Return the same scale, but 0 where a window is mixed."""
        return self.scale.index_fill(0, self.mixed, 0)

    @cached_property
    def bits(self) -> Tensor:
        """Return the taps that match as bits of a number per window, tap 0 the lowest.

        [N] int32; at most 31 taps.
        """
        count = len(self.steps)
        device = self.same.device
        weights = 1 << torch.arange(count, device=device, dtype=torch.int32)
        weighed = self.same * weights[:, None]
        return weighed.sum(0, dtype=torch.int32)

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return per tap the mixed windows where it matches, and the pixels read.

        Both are [n].
        """
        pairs = []
        indices = _true_indices(self.same[:, self.mixed])
        for index, step in zip(indices, self.steps, strict=True):
            pairs.append((index, self.mixed[index] + step))
        return pairs

    @cached_property
    def unmatched(self) -> Sequence[Tensor]:
        """Return per tap the pixels [n] whose window does not match there."""
        return _true_indices(~self.same)

    @cached_property
    def work(self) -> float:
        """Return the products of the mixed windows as a share of the whole convolution's."""
        products = int(self.same[:, self.mixed].sum())
        return products / max(1, len(self.steps) * self.size)


@dataclass(frozen=True)
class Upsampling:
    """Algorithm 1 as changes to nearest upsampling."""

    moved: Tensor  # [n] new pixels, by their index in the finer map
    source: Tensor  # [n] the pixels they copy, by their index in the coarser map
    holes: Tensor  # [Q] new pixels without a match
    parents: Tensor  # [p] pixels of the coarser map that not all four new pixels under them copy
    children: Tensor  # [p, 4] those four
    copied: Tensor  # [p, 4] bool, which of them copy it all the same

    @staticmethod
    def between(coarse: Tensor, fine: Tensor, order: Order = "xy") -> Upsampling:
        """Return the changes from the features' identities to the result's.

        They are [B, H, W] and [B, 2 H, 2 W]; `order` is that of Algorithm 1's passes.
        """
        batch, height, width = coarse.shape
        doubled = (batch, 2 * height, 2 * width)
        if fine.shape != doubled:
            raise ValueError(
                f"upsampling from {list(coarse.shape)} gives {list(doubled)}, not "
                f"{list(fine.shape)}"
            )
        blocks = coarse[:, :, None, :, None].expand(batch, height, 2, width, 2)
        equal = fine == blocks.reshape(doubled)
        # pass 1 is nearest upsampling; passes 2-4 are for the pixels [m] that it gets wrong
        image, row, column = (~equal).nonzero(as_tuple=True)
        identity = fine[image, row, column]
        source = torch.full_like(identity, -1, dtype=torch.int64)
        for down, right in _NEIGHBOURS[order]:
            y = row // 2 + down
            x = column // 2 + right
            exists = (y < height) & (x < width)
            inner_row = y.clamp_max(height - 1)
            inner_column = x.clamp_max(width - 1)
            neighbour = coarse[image, inner_row, inner_column]
            match = (source < 0) & exists & (neighbour == identity)
            number = (image * height + y) * width + x
            source = torch.where(match, number, source)
        index = (image * 2 * height + row) * 2 * width + column
        matched = source >= 0

        by_parent = equal.view(batch, height, 2, width, 2)
        by_parent = by_parent.transpose(2, 3).reshape(-1, 4)
        differs = ~by_parent.all(1)
        parents = differs.nonzero()[:, 0]
        first_child = parents // width * 4 * width + parents % width * 2  # the upper left one
        offsets = torch.tensor([0, 1, 2 * width, 2 * width + 1], device=parents.device)
        return Upsampling(
            moved=index[matched],
            source=source[matched],
            holes=index[~matched],
            parents=parents,
            children=first_child[:, None] + offsets,
            copied=by_parent[parents],
        )


@dataclass(frozen=True)
class HoleTable:
    """Equation 3 at holes as weighted sums of the kernel's columns."""

    channels: Tensor  # [c] the input channels that occur
    column: Tensor  # [Q, n] the one that is read, by its index in `channels`
    tap: Tensor  # [n] the tap that reads it
    weight: Tensor  # [Q, n] float64, equation 2's ratio included; 0 where a tap does not match


@dataclass(frozen=True)
class NeighbourhoodSettings:
    """Settings of panoptic-aware operators; see the arguments of Neighbourhood."""

    border: Border = "hole"
    order: Order = "xy"
    scaling: Scaling = "mean"


class Neighbourhood:
    """A batch of panoptic maps at one resolution: the neighbours of each pixel.

    identity [B, H, W] integer, classes [B, H, W] int64, extra [B, e, H, W] float. `classes` are
    one-hot channels of the semantic map, `extra` its channels after them. `coarse` [B, H/2, W/2]
    are the identities that upsampling starts from; left out, every second pixel of `identity`.
    `scaling` of a window's sum: `mean` is equation 2, `root` its square root, which keeps the
    variance of features that vary independently.
    """

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
        shape = list(identity.shape)
        if identity.ndim != 3 or identity.is_floating_point() or identity.dtype == torch.bool:
            raise ValueError(f"identities are integers [B, H, W], not {identity.dtype} {shape}")
        if classes is not None and (classes.shape != identity.shape or classes.is_floating_point()):
            raise ValueError(
                f"classes are integers {shape} as identities are, "
                f"not {classes.dtype} {list(classes.shape)}"
            )
        if extra is not None and (extra.ndim != 4 or extra[:, 0].shape != identity.shape):
            raise ValueError(f"other channels {list(extra.shape)} do not fit identities {shape}")
        if border not in ("hole", "same") or order not in _NEIGHBOURS:
            raise ValueError(
                f"border is hole or same, order xy or yx, not {border!r} and {order!r}"
            )
        if scaling not in ("mean", "root"):
            raise ValueError(f"scaling is mean or root, not {scaling!r}")
        if coarse is None:
            coarse = identity[:, ::2, ::2]
        self.identity = identity
        self.classes = classes
        self.extra = extra
        self.border = border
        self.order = order
        self.scaling = scaling
        self._coarse = coarse
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
        """Return the sources of the pixels in features of half the resolution."""
        return Upsampling.between(self._coarse, self.identity, self.order)

    def hole_table(self, kernel: int, num_channels: int) -> HoleTable:
        """Return the kernel's columns that count at holes; made once."""
        key = (kernel, num_channels)
        if key not in self._tables:
            self._tables[key] = self._hole_table(kernel, num_channels)
        return self._tables[key]

    def _hole_table(self, kernel: int, num_channels: int) -> HoleTable:
        if self.classes is None and self.extra is None:
            raise ValueError(
                "filling holes needs the classes of the map, or other channels of a semantic map"
            )
        windows = self.windows(kernel)
        holes = self.upsampling.holes
        same = windows.same[:, holes].t()  # [Q, K]
        scale = same * windows.ratio(holes, torch.float64)  # [Q, K]
        steps = torch.tensor(windows.steps, device=holes.device)
        centre = holes[:, None]
        pixels = torch.where(same, centre + steps, centre)  # [Q, K] read; the hole without a match
        num_extra = 0
        if self.extra is not None:
            num_extra = self.extra.shape[1]
        num_classes = num_channels - num_extra

        columns = []  # [Q, K] each: the channel that is read, among those that occur
        weights = []  # [Q, K] each
        occurring = holes.new_empty(0)
        if self.classes is not None:
            there = self.classes.flatten()[pixels]
            occurring, column = torch.unique(there, return_inverse=True)
            _check_classes(occurring, num_classes)
            columns.append(column)
            weights.append(scale)
        if self.extra is not None:
            by_pixel = self.extra.permute(0, 2, 3, 1)
            values = by_pixel.reshape(-1, num_extra)
            read = values[pixels].double()  # [Q, K, e]
            for channel in range(num_extra):
                columns.append(torch.full_like(pixels, len(occurring) + channel))
                weights.append(scale * read[..., channel])
        extra_channels = torch.arange(num_classes, num_channels, device=holes.device)
        taps = torch.arange(len(steps), device=holes.device)
        return HoleTable(
            channels=torch.cat([occurring, extra_channels]),
            column=torch.cat(columns, 1),
            tap=taps.repeat(len(columns)),
            weight=torch.cat(weights, 1),
        )


class NeighbourhoodPyramid:
    """A batch of panoptic maps and their neighbourhoods at any scale.

    Takes maps and settings of a Neighbourhood.
    """

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
        self.full = Neighbourhood(
            identity, classes, extra, border=border, order=order, scaling=scaling
        )
        self._scales = {identity.shape[1]: self.full}

    def at(self, height: int) -> Neighbourhood:
        """Return the neighbourhood of features [B, C, height, width].

        Of each block of pixels it has the top-left one; raises ValueError when blocks would not be
        square and whole.
        """
        if height in self._scales:
            return self._scales[height]
        full = self.full
        rows, columns = full.identity.shape[1:]
        step, remainder = divmod(rows, height)
        if remainder or columns % step:
            raise ValueError(f"a map of {[rows, columns]} has no whole blocks at height {height}")
        classes = None
        if full.classes is not None:
            classes = _every(full.classes, step)
        extra = None
        if full.extra is not None:
            extra = _every(full.extra, step)
        self._scales[height] = Neighbourhood(
            _every(full.identity, step),
            classes,
            extra,
            border=full.border,
            order=full.order,
            scaling=full.scaling,
        )
        return self._scales[height]


def _every(x: Tensor, step: int) -> Tensor:
    """Return the top-left pixel of each block of step x step pixels of [..., H, W]."""
    return x[..., ::step, ::step].contiguous()


def _check_classes(occurring: Tensor, num_classes: int) -> None:
    """Raise ValueError unless sorted classes are those of the semantic map."""
    if not len(occurring):
        return
    lowest = int(occurring[0])
    highest = int(occurring[-1])
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"classes must lie in 0 .. {num_classes - 1}, not in {lowest} .. {highest}"
        )


def _count_in_reach(length: int, reach: int, device: torch.device) -> Tensor:
    """Return the number of positions of a line within `reach` of each: [length] int32."""
    position = torch.arange(length, device=device, dtype=torch.int32)
    last = (position + reach).clamp_max(length - 1)
    first = (position - reach).clamp_min(0)
    return last - first + 1


def _true_indices(chosen: Tensor) -> Sequence[Tensor]:
    """Return the indices of the true values of each row: [K, n] bool -> K times [n]."""
    columns = chosen.nonzero()[:, 1]
    return torch.split(columns, chosen.sum(1).tolist())

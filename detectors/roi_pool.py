"""RoIAlign as a weighted table look-up, many times faster on CPUs.

torchvision's CPU backward scatters one value at a time on one thread and takes a third of a
training step. Here all maps become one table (a row per cell, channels side by side), and each
output bin is the weighted sum of the rows of its bilinear neighbours, which `embedding_bag` does
with vector instructions, forward and backward.

Legend: B images, R boxes of all images, L levels, P output cells per side, S samples per cell and
axis, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper


class LookupRoIAlign(nn.Module):
    """Pool boxes from the level of a pyramid that suits their size (FPN eq. 1).

    `strides` are those of the levels, finest first. A box of `canonical` pixels (root of the area)
    and up to twice that is pooled from the second level, a smaller one from the first, and so on.
    """

    def __init__(
        self,
        strides: Sequence[int],
        output_size: int,
        samples: int,
        canonical: float,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = (output_size, output_size)
        self.samples = samples
        self.canonical = canonical

    def levels(self, boxes: Tensor) -> Tensor:
        """Return the level index [R] of xyxy boxes [R, 4]."""
        widths = boxes[:, 2] - boxes[:, 0]
        heights = boxes[:, 3] - boxes[:, 1]
        size = (widths * heights).clamp(min=1e-6).sqrt()
        level = torch.floor(1 + torch.log2(size / self.canonical) + 1e-6)
        return level.clamp(0, len(self.strides) - 1).long()

    def forward(
        self,
        maps: Mapping[str, Tensor],
        boxes: Sequence[Tensor],
        _sizes: object = None,
    ) -> Tensor:
        """Pool boxes (one [n, 4] xyxy tensor per image, pixels) from maps [B, C, H, W].

        Returns [R, C, P, P]. torchvision passes the image sizes as the third argument, which is not
        used: the strides are known here.
        """
        levels = list(maps.values())
        rois = torch.cat(list(boxes))  # [R, 4]
        device = rois.device
        lengths = [len(of_image) for of_image in boxes]
        counts = torch.tensor(lengths, device=device)
        numbers = torch.arange(len(boxes), device=device)
        image_index = torch.repeat_interleave(numbers, counts)
        table, first_rows = _row_table(levels)

        level_index = self.levels(rois)  # [R]
        level_heights = torch.tensor([level.shape[2] for level in levels], device=device)
        level_widths = torch.tensor([level.shape[3] for level in levels], device=device)
        level_strides = torch.tensor(self.strides, dtype=rois.dtype, device=device)
        heights = level_heights[level_index]
        widths = level_widths[level_index]
        strides = level_strides[level_index]
        in_cells = rois / strides[:, None]
        left, top, right, bottom = in_cells.unbind(1)
        rows, row_weights = self._neighbours(top, bottom, heights)
        columns, column_weights = self._neighbours(left, right, widths)

        origin = first_rows[level_index] + image_index * heights * widths  # [R]
        row_starts = rows * widths[:, None, None]
        # [R, P, P, 2S, 2S]: every neighbour in a row with every one in a column
        first_cell = origin[:, None, None, None, None]
        index = first_cell + row_starts[:, :, None, :, None]
        index = index + columns[:, None, :, None, :]
        weight_down = row_weights[:, :, None, :, None]
        weight_across = column_weights[:, None, :, None, :]
        weight = weight_down * weight_across
        per_cell = 4 * self.samples**2
        pooled = F.embedding_bag(
            index.reshape(-1, per_cell),
            table,
            per_sample_weights=weight.reshape(-1, per_cell),
            mode="sum",
        )
        height, width = self.output_size
        pooled = pooled.reshape(len(rois), height, width, table.shape[1])
        return pooled.permute(0, 3, 1, 2)

    def _neighbours(self, start: Tensor, end: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return the neighbouring cells of the samples of intervals [R], and weights.

        Both [R, P, 2S]. Intervals are at least one cell wide and samples beyond the last cell's
        centre take its value, as in torchvision.
        """
        bins = self.output_size[0]
        samples = self.samples
        number = torch.arange(bins * samples, device=start.device, dtype=start.dtype)
        offset = (number + 0.5) / samples  # [P S] in bins
        bin_width = (end - start).clamp(min=1.0) / bins
        position = start[:, None] + offset * bin_width[:, None]  # [R, P S] in cells
        last_cell = (cells - 1)[:, None]
        last = last_cell.to(start.dtype)
        is_inside = (position >= -1.0) & (position <= last + 1.0)
        inside = is_inside.to(start.dtype)
        position = torch.minimum(position.clamp(min=0.0), last)
        floor = position.floor()
        high_weight = position - floor
        low_index = floor.long()
        high_index = torch.minimum(low_index + 1, last_cell)
        index = torch.stack([low_index, high_index], -1)
        weights = torch.stack([1 - high_weight, high_weight], -1)
        weights = weights * (inside / samples)[..., None]
        shape = (len(start), bins, 2 * samples)
        return index.reshape(shape), weights.reshape(shape)


def _row_table(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the cells of maps [B, C, H, W] as rows [rows, C], and first rows [L]."""
    tables = []
    first_rows = [0]
    for level in levels:
        rows = level.permute(0, 2, 3, 1).reshape(-1, level.shape[1])
        tables.append(rows)
        first_rows.append(first_rows[-1] + len(rows))
    return torch.cat(tables), torch.tensor(first_rows[:-1], device=levels[0].device)


def torchvision_pool(strides: Sequence[int], size: int) -> nn.Module:
    """Return torchvision's pooling with its scales set; padding misleads its guess.

    The maps are named "0", "1" ...; boxes of 224 pixels are pooled at stride 16 and the output has
    `size` cells a side.
    """
    names = [str(i) for i in range(len(strides))]
    pool: nn.Module = MultiScaleRoIAlign(names, size, 2)
    levels = [round(math.log2(stride)) for stride in strides]
    pool.scales = [1 / stride for stride in strides]  # type: ignore[assignment]
    pool.map_levels = initLevelMapper(levels[0], levels[-1])
    return pool

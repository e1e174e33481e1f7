"""RoIAlign as a weighted table look-up: the values of torchvision's operator, many times faster on CPUs.

torchvision's CPU backward scatters one value at a time on one thread and takes a third of a training step. Here all
maps become one table (a row per cell, channels side by side), and each output bin is the weighted sum of the rows of
its bilinear neighbours, which `embedding_bag` does with vector instructions, forward and backward.
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

    Legend: R boxes of all images, L levels, P output size, S samples per bin and axis, C channels.
    `strides` are those of the levels, finest first; a box of `canonical` pixels (root of the area) and up to twice that
    is pooled from the second level, a smaller one from the first, and so on.
    """

    def __init__(
        self, strides: Sequence[int], output_size: int, samples: int, canonical: float
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.output_size = (output_size, output_size)
        self.samples = samples
        self.canonical = canonical

    def levels(self, boxes: Tensor) -> Tensor:
        """Return the level index [R] of xyxy boxes [R, 4]."""
        size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=1e-6).sqrt()
        level = torch.floor(1 + torch.log2(size / self.canonical) + 1e-6)
        return level.clamp(0, len(self.strides) - 1).long()

    def forward(
        self, maps: Mapping[str, Tensor], boxes: Sequence[Tensor], _sizes: object = None
    ) -> Tensor:
        """Pool boxes (one [n, 4] xyxy tensor per image, pixels) from maps [B, C, H, W]; return [R, C, P, P].

        The unused third argument is where torchvision passes the image sizes; the strides are known here.
        """
        levels_in = list(maps.values())
        rois = torch.cat(list(boxes))  # [R, 4]
        image = torch.repeat_interleave(
            torch.arange(len(boxes), device=rois.device),
            torch.tensor([len(b) for b in boxes], device=rois.device),
        )
        table = torch.cat(
            [m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in levels_in]
        )  # [rows, C]
        heights = torch.tensor([m.shape[2] for m in levels_in], device=rois.device)
        widths = torch.tensor([m.shape[3] for m in levels_in], device=rois.device)
        rows_before = torch.tensor(
            [0, *(m.shape[0] * m.shape[2] * m.shape[3] for m in levels_in[:-1])], device=rois.device
        ).cumsum(0)
        level = self.levels(rois)
        h, w = heights[level], widths[level]
        scaled = (
            rois / torch.tensor(self.strides, dtype=rois.dtype, device=rois.device)[level][:, None]
        )
        y, wy = self._taps(scaled[:, 1], scaled[:, 3], h)  # [R, P, 2S]
        x, wx = self._taps(scaled[:, 0], scaled[:, 2], w)
        base = rows_before[level] + image * h * w  # [R]
        index = (
            base[:, None, None, None, None] + y[:, :, None, :, None] * w[:, None, None, None, None]
        )
        index = index + x[:, None, :, None, :]  # [R, P, P, 2S, 2S]
        weight = wy[:, :, None, :, None] * wx[:, None, :, None, :]
        count = 4 * self.samples**2
        pooled = F.embedding_bag(
            index.reshape(-1, count),
            table,
            per_sample_weights=weight.reshape(-1, count),
            mode="sum",
        )
        return pooled.reshape(len(rois), *self.output_size, table.shape[1]).permute(0, 3, 1, 2)

    def _taps(self, start: Tensor, end: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for intervals [R] in cells, the neighbours of each bin's samples and their weights, both [R, P, 2S].

        Boxes are at least one cell wide and samples beyond the last cell's centre take its value, as in torchvision.
        """
        P, S = self.output_size[0], self.samples
        offset = (
            torch.arange(P * S, device=start.device, dtype=start.dtype) + 0.5
        ) / S  # [P S] in bins
        step = (end - start).clamp(min=1.0) / P
        at = start[:, None] + offset * step[:, None]  # [R, P S]
        last = (cells - 1).to(start.dtype)[:, None]
        inside = ((at >= -1.0) & (at <= last + 1.0)).to(start.dtype)
        at = torch.minimum(at.clamp(min=0.0), last)
        low = at.floor()
        high_weight = at - low
        low_index = low.long()
        high_index = torch.minimum(low_index + 1, (cells - 1)[:, None])
        index = torch.stack([low_index, high_index], -1).reshape(len(start), P, 2 * S)
        weights = torch.stack([1 - high_weight, high_weight], -1) * (inside / S)[..., None]
        return index, weights.reshape(len(start), P, 2 * S)


def torchvision_pool(strides: Sequence[int], size: int) -> nn.Module:
    """Return torchvision's pooling with its scales stated; it would guess them, wrongly where padding is large.

    The maps are named "0", "1" ...; boxes of 224 pixels are pooled at stride 16 and the output has `size` cells a side.
    """
    pool: nn.Module = MultiScaleRoIAlign([str(i) for i in range(len(strides))], size, 2)
    levels = [round(math.log2(stride)) for stride in strides]
    pool.scales = [1 / stride for stride in strides]  # type: ignore[assignment]
    pool.map_levels = initLevelMapper(levels[0], levels[-1])
    return pool

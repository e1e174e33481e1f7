"""Objects of several images as rows, and the pixels of their boxes.

Legend: B images, K slots of an image, n rows, S side of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from synthaug.generators.base import Layouts


@dataclass(frozen=True)
class ObjectRows:
    """Objects of B images as rows; their order within an image matters."""

    labels: Tensor  # [n] int64, above 0
    boxes: Tensor  # [n, 4] xyxy in [0, 1]
    scores: Tensor  # [n]
    is_row: Tensor  # [B, K] bool: the slots that the rows are, in order

    @property
    def image_of(self) -> Tensor:
        """Image of each row [n]."""
        return self.is_row.nonzero()[:, 0]

    @property
    def counts(self) -> Tensor:
        """Number of objects of each image [B]."""
        return self.is_row.sum(1)

    @property
    def packed(self) -> Tensor:
        """Slots [B, T] bool of the rows when each image's come first."""
        counts = self.counts
        most = int(counts.max()) if len(counts) else 0
        positions = torch.arange(most, device=counts.device)
        return positions < counts[:, None]


def rows_of(layouts: Layouts) -> ObjectRows:
    """Return the objects of layouts in the order of their slots."""
    is_row = layouts.labels > 0
    return ObjectRows(layouts.labels[is_row], layouts.boxes[is_row], layouts.scores[is_row], is_row)


def shuffled(layouts: Layouts, rng: torch.Generator) -> Layouts:
    """Return layouts whose objects have another order, drawn from `rng`.

    Padding is last.
    """
    keys = torch.rand(layouts.labels.shape, generator=rng).to(layouts.labels.device)
    keys[layouts.labels == 0] = 2
    order = keys.argsort(1)
    labels = layouts.labels.gather(1, order)
    scores = layouts.scores.gather(1, order)
    boxes = layouts.boxes.gather(1, order[..., None].expand(-1, -1, 4))
    return Layouts(labels, boxes, scores)


def rasters(boxes: Tensor, side: int) -> Tensor:
    """Return 1 in the pixels of boxes [n, 4], 0 elsewhere: [n, S, S].

    Corners are rounded; a box has at least one pixel, in the image.
    """
    corners = (boxes * side).round()
    low = corners[:, :2].clamp(0, side - 1)
    high = torch.maximum(low + 1, corners[:, 2:])
    pixels = torch.arange(side, dtype=boxes.dtype, device=boxes.device)
    inside = (pixels >= low[..., None]) & (pixels < high[..., None])  # [n, 2, S]
    across = inside[:, 0]
    down = inside[:, 1]
    both = down[:, :, None] & across[:, None, :]
    return both.to(boxes.dtype)

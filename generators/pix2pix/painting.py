"""Layouts as pix2pix sees them: a channel per class, 1 inside its boxes.

Legend: B images, O object slots, C classes, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synthaug.generators.base import Layouts

Size = tuple[int, int]  # (H, W)


def whole_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Return boxes [B, O, 4] in [0, 1] as whole pixels, xyxy int64.

    At least one pixel wide and high, inside the image.
    """
    height, width = size
    limits = boxes.new_tensor([width, height])
    low = boxes[..., :2] * limits
    low = low.round().clamp_min(0)
    low = low.minimum(limits - 1)
    high = boxes[..., 2:] * limits
    high = high.round().maximum(low + 1)
    high = high.minimum(limits)
    return torch.cat([low, high], -1).long()


def filled_boxes(layouts: Layouts, size: Size) -> Tensor:
    """Return the pixels inside each object's box [B, O, H, W] bool; padding has none."""
    height, width = size
    corners = whole_boxes(layouts.boxes, size)
    x0, y0, x1, y1 = corners[..., None].unbind(-2)  # [B, O, 1] each
    rows = torch.arange(height, device=corners.device)
    columns = torch.arange(width, device=corners.device)
    in_rows = (rows >= y0) & (rows < y1)
    in_columns = (columns >= x0) & (columns < x1)
    in_box = in_rows[..., :, None] & in_columns[..., None, :]
    is_object = layouts.labels > 0
    return in_box & is_object[..., None, None]


def class_boxes(layouts: Layouts, num_classes: int, size: Size) -> Tensor:
    """Return layouts as channels [B, C, H, W] float32: 1 inside a box of the class.

    Boxes of several classes lie there side by side, boxes of one class are one area.
    """
    count, slots = layouts.labels.shape
    inside = filled_boxes(layouts, size)
    shape = (count, num_classes + 1, *size)
    channels = torch.zeros(shape, dtype=torch.bool, device=inside.device)
    images = torch.arange(count, device=inside.device)
    for slot in range(slots):
        labels = layouts.labels[:, slot]
        channels[images, labels] |= inside[:, slot]
    return channels[:, 1:].float()


def visible_boxes(layouts: Layouts, size: Size) -> Tensor:
    """Return the part of each box that no smaller box covers [B, O, H, W] float32.

    Of boxes of one size the later one covers the earlier one. The network makes no masks, and
    what it paints where boxes overlap it does not tell; the smaller object is the one that is
    not seen at all when it is behind.
    """
    inside = filled_boxes(layouts, size)
    area = inside.sum((2, 3))
    # a number per slot, higher in front: by falling area, then by slot
    order = area.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1) + 1  # [B, O]
    height = inside * rank[..., None, None]
    front = height.amax(1, keepdim=True)
    visible = inside & (height == front)
    return visible.float()


def confidence(layouts: Layouts, size: Size) -> Tensor:
    """Return the lowest score of the boxes over each pixel [B, H, W]; 1 where none is."""
    inside = filled_boxes(layouts, size)
    of_objects = layouts.scores[..., None, None]
    scores = torch.where(inside, of_objects, 1.0)
    return scores.amin(1)

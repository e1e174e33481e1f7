"""Crops of objects, and masks summed into a canvas.

Legend: B images, n rows (objects of all images), K slots of an image, C channels, S side of a
canvas, c side of a crop, D length of a vector.
"""

from __future__ import annotations

import torch
from torch import Tensor


def crop_boxes(images: Tensor, boxes: Tensor, image_of: Tensor, side: int) -> Tensor:
    """Cut boxes [n, 4] xyxy in [0, 1] out of images [B, C, H, W]: [n, C, c, c].

    Bilinear; the first and last pixel of a crop lie on the edges of its box, those of an image on
    its border, and outside is zero. The sampling is separable, so it is two small matrix products.
    image_of [n] is the image of each box.
    """
    left, top, right, bottom = boxes.unbind(1)
    columns = _sampling(left, right, side, images.shape[3])  # [n, c, W]
    rows = _sampling(top, bottom, side, images.shape[2])  # [n, c, H]
    of_boxes = images[image_of]  # [n, C, H, W]
    rows = rows[:, None].to(images.dtype)
    columns = columns[:, None].to(images.dtype)
    bands = rows @ of_boxes  # [n, C, c, W]
    return bands @ columns.transpose(-1, -2)


def _sampling(low: Tensor, high: Tensor, side: int, pixels: int) -> Tensor:
    """Return weights [n, side, pixels] of pixels in points from low to high [n]."""
    steps = torch.linspace(0, 1, side, dtype=low.dtype, device=low.device)
    extent = high - low
    points = low[:, None] + extent[:, None] * steps  # [n, side]
    source = points * (pixels - 1)
    numbers = torch.arange(pixels, dtype=low.dtype, device=low.device)
    distance = (source[..., None] - numbers).abs()
    weights = 1 - distance
    return weights.clamp_min(0)


def as_slots(rows: Tensor, is_row: Tensor) -> Tensor:
    """Lay rows [n, ...] into slots [B, K, ...] where `is_row` [B, K]; 0 elsewhere."""
    shape = (*is_row.shape, *rows.shape[1:])
    slots = rows.new_zeros(shape)
    slots[is_row] = rows
    return slots


def sum_masks(vectors: Tensor, masks: Tensor, is_row: Tensor) -> Tensor:
    """Sum vectors [n, D] times masks [n, S, S] over each image: [B, D, S, S].

    One matrix product per image; no tensor has an object, a channel and two pixel axes.
    """
    side = masks.shape[-1]
    of_slots = as_slots(vectors, is_row)  # [B, K, D]
    canvas = as_slots(masks.flatten(1), is_row)  # [B, K, S S]
    canvas = canvas.to(of_slots.dtype)
    sums = torch.bmm(of_slots.transpose(1, 2), canvas)
    return sums.view(len(sums), -1, side, side)

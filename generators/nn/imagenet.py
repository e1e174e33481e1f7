"""Pixels as networks see them that were trained on ImageNet's mean and spread."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1]
STD = (0.229, 0.224, 0.225)


def to_imagenet(images: Tensor) -> Tensor:
    """Normalize images [B, 3, H, W] in [-1, 1] by ImageNet's mean and spread."""
    mean, std = _per_channel(images)
    unit = (images + 1) / 2
    return (unit - mean) / std


def from_imagenet(images: Tensor) -> Tensor:
    """Return images [B, 3, H, W] normalized so in [-1, 1] again, not clamped."""
    mean, std = _per_channel(images)
    unit = images * std + mean
    return unit * 2 - 1


def imagenet_pixels(images: Tensor, stretch: bool) -> Tensor:
    """Return images [B, 3, H, W] that were normalized so as uint8.

    `stretch`: each to the whole range of grey levels.
    """
    unit = (from_imagenet(images.float()) + 1) / 2
    if stretch:
        low = unit.amin((1, 2, 3), keepdim=True)
        high = unit.amax((1, 2, 3), keepdim=True)
        unit = (unit - low) / (high - low).clamp_min(1e-6)
    return (unit * 255).round().clamp(0, 255).to(torch.uint8)


def _per_channel(images: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(MEAN, dtype=images.dtype, device=images.device)
    std = torch.tensor(STD, dtype=images.dtype, device=images.device)
    return mean[:, None, None], std[:, None, None]

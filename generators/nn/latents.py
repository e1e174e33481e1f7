"""Latent codes of images and objects."""

from __future__ import annotations

import torch
from torch import Tensor


def truncated_normal(width: int, truncation: float, rng: torch.Generator) -> Tensor:
    """Return a latent code [width] from the truncated normal distribution.

    Elements beyond `truncation` are drawn again; 0 = none are.
    """
    z = torch.randn(width, generator=rng)
    if not truncation:
        return z
    outside = z.abs() > truncation
    while outside.any():
        count = int(outside.sum())
        z[outside] = torch.randn(count, generator=rng)
        outside = z.abs() > truncation
    return z

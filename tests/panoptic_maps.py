"""Small panoptic maps, random numbers and gradients for tests of the panoptic operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blobs(
    batch: int, height: int, width: int, seed: int = 0, cell: int = 3, ids: int = 4
) -> Tensor:
    """Identities [B, H, W]: blocks of one identity with single pixels of others strewn in."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, ids, (batch, -(-height // cell), -(-width // cell)))
    maps = coarse.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    strewn = rng.random(maps.shape) < 0.05
    return torch.from_numpy(np.where(strewn, rng.integers(0, ids, maps.shape), maps))


def with_gradients(call: Any, *leaves: Tensor, seed: int = 9) -> list[Tensor]:
    """The result for copies of the leaves, and the gradients of its product with random numbers."""
    own = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    out = call(*own)
    out.backward(randn(*out.shape, seed=seed).to(out.dtype))
    return [
        out.detach(),
        *(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in own),
    ]

"""Adversarial losses that more than one system uses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def hinge_real(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of max(0, 1 - score) (LostGAN-V2 eq. 12), each term times its weight (eq. 15); scores [n], 0 when n = 0."""
    return _weighted_mean(F.relu(1 - scores), weights)


def hinge_fake(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of max(0, 1 + score) (eq. 12), each term times its weight (eq. 15)."""
    return _weighted_mean(F.relu(1 + scores), weights)


def _weighted_mean(terms: Tensor, weights: Tensor | None) -> Tensor:
    """Sum of weight * term over the count: an unsure object counts less, it does not make the others count more."""
    if terms.numel() == 0:
        return terms.sum()
    return (terms if weights is None else terms * weights).mean()

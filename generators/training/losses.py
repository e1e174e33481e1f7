"""A term of a loss with its kind of mean, and shared adversarial losses.

Those that more than one system uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Mean = Literal["images", "objects", "sum"]


@dataclass(frozen=True)
class Loss:
    """A term of a loss, weighted and with its graph.

    Terms are added up and the sum is minimised.

    By `mean_over` the loop weighs the terms of a batch that it learns from in parts.
    """

    value: Tensor  # scalar
    mean_over: Mean = (
        "images"  # of the batch: a mean over its images, over its objects, or a sum over its images
    )

    def __post_init__(self) -> None:
        if self.value.ndim:
            raise ValueError(f"value: has shape {list(self.value.shape)}; give a scalar")
        if self.mean_over not in get_args(Mean):
            raise ValueError(
                f"mean_over: '{self.mean_over}' is not one of {', '.join(get_args(Mean))}"
            )


def hinge_real(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of max(0, 1 - score) (LostGAN-V2 eq. 12).

    Each term is multiplied by its weight (eq. 15).

    scores and weights [n]; 0 when n = 0.
    """
    return _weighted_mean(F.relu(1 - scores), weights)


def hinge_fake(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of max(0, 1 + score) (eq. 12).

    Each term is multiplied by its weight (eq. 15).
    """
    return _weighted_mean(F.relu(1 + scores), weights)


def cross_entropy_real(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross-entropy of scores that should say "real".

    Each term is multiplied by its weight. scores and weights [n], scores before the sigmoid.
    """
    real = torch.ones_like(scores)
    terms = F.binary_cross_entropy_with_logits(scores, real, reduction="none")
    return _weighted_mean(terms, weights)


def cross_entropy_fake(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean binary cross-entropy of scores that should say "fake"."""
    fake = torch.zeros_like(scores)
    terms = F.binary_cross_entropy_with_logits(scores, fake, reduction="none")
    return _weighted_mean(terms, weights)


def class_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of logits [n, K], each times its weight."""
    terms = F.cross_entropy(logits, labels, reduction="none")
    return _weighted_mean(terms, weights)


def _weighted_mean(terms: Tensor, weights: Tensor | None) -> Tensor:
    """Return sum of weight * term over the count.

    An unsure object does not make the others count more.
    """
    if terms.numel() == 0:
        return terms.sum()
    if weights is not None:
        terms = terms * weights
    return terms.mean()

"""Losses of Grid2Im's discriminators of patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.generators.grid2im.discriminator import Features

MATCHING = 4.0  # weight of feature matching, shared by the layers and scales


def squared_error(features: Features, target: float) -> Tensor:
    """Return the mean squared error of scores, summed over scales (Mao et al. 2017)."""
    terms = []
    for maps in features:
        scores = maps[-1]
        terms.append((scores - target).square().mean())
    return torch.stack(terms).sum()


def feature_matching(fake: Features, real: Features) -> Tensor:
    """Return the mean absolute differences of all maps but the scores.

    Real ones get no gradient.
    """
    terms = []
    for fake_maps, real_maps in zip(fake, real, strict=True):
        weight = MATCHING / len(fake_maps) / len(fake)
        for ours, theirs in zip(fake_maps[:-1], real_maps[:-1], strict=True):
            terms.append(weight * F.l1_loss(ours, theirs.detach()))
    return torch.stack(terms).sum()

"""SPADE's losses over the outputs of a multi-scale discriminator.

Paper section 3.2 and appendix A; pix2pixHD's otherwise. Every mean is over all elements of a map;
every sum over scales is divided by their number. Per scale D returns its features and, last, its
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Scales = Sequence[Sequence[Tensor]]
ScoreLoss = Callable[[Tensor], Tensor]  # scores -> the loss of each


class GanMode(NamedTuple):
    """Losses of each score of D."""

    d_real: ScoreLoss  # of D on real images
    d_fake: ScoreLoss  # of D on fakes
    g_fake: ScoreLoss  # of G on fakes


def _cross_entropy(scores: Tensor, target: float) -> Tensor:
    targets = torch.full_like(scores, target)
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="none")


GAN_MODES: dict[str, GanMode] = {
    "hinge": GanMode(
        d_real=lambda s: F.relu(1 - s),
        d_fake=lambda s: F.relu(1 + s),
        g_fake=lambda s: -s,
    ),
    "ls": GanMode(
        d_real=lambda s: (s - 1).square(),
        d_fake=lambda s: s.square(),
        g_fake=lambda s: (s - 1).square(),
    ),
    "original": GanMode(
        d_real=lambda s: _cross_entropy(s, 1),
        d_fake=lambda s: _cross_entropy(s, 0),
        g_fake=lambda s: _cross_entropy(s, 1),
    ),
    "w": GanMode(
        d_real=lambda s: -s,
        d_fake=lambda s: s,
        g_fake=lambda s: -s,
    ),
}


def discriminator_loss(
    real: Scales,
    fake: Scales,
    mode: str,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of D on real images and on fakes; they are added, not averaged.

    `weights` [B, H, W]: each score counts by their mean over its share of the image, and the sum is
    divided by the number of scores all the same, so that an unsure pixel counts less without making
    others count more (LostGAN-V2 eq. 15, for pixels).
    """
    gan_mode = GAN_MODES[mode]
    on_real = _mean_over_scales(gan_mode.d_real, real, weights)
    on_fake = _mean_over_scales(gan_mode.d_fake, fake, weights)
    return on_real, on_fake


def generator_loss(fake: Scales, mode: str) -> Tensor:
    """Return the adversarial loss of G."""
    return _mean_over_scales(GAN_MODES[mode].g_fake, fake)


def feature_matching(fake: Scales, real: Scales) -> Tensor:
    """Return the mean absolute difference of each feature map, added over layers.

    No gradient flows to `real`.
    """
    differences = []
    for fake_scale, real_scale in zip(fake, real, strict=True):
        # the last of a scale are its scores
        for ours, theirs in zip(fake_scale[:-1], real_scale[:-1], strict=True):
            distance = F.l1_loss(ours.float(), theirs.detach().float())
            differences.append(distance)
    return torch.stack(differences).sum() / len(fake)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the KL divergence of N(mu, exp(logvar)) from N(0, I), [B, Z] each.

    It is summed over the batch too.
    """
    terms = 1 + logvar - mu.square() - logvar.exp()
    return -0.5 * terms.sum()


def _mean_over_scales(
    loss: ScoreLoss,
    scales: Scales,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over scales of the mean loss of their scores."""
    means = []
    for scale in scales:
        losses = loss(scale[-1].float())  # [B, 1, h, w]
        if weights is not None:
            height, width = losses.shape[2:]
            at_scale = F.adaptive_avg_pool2d(weights[:, None], (height, width))
            losses = losses * at_scale
        means.append(losses.mean())
    return torch.stack(means).mean()

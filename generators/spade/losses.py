"""SPADE's losses, over the outputs of a multi-scale discriminator (paper section 3.2 and appendix A; pix2pixHD's otherwise).

Every mean is over all elements of a map; every sum over scales is divided by their number. Per scale D returns its features
and, last, its scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Scales = Sequence[Sequence[Tensor]]


def _cross_entropy(scores: Tensor, real: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        scores, torch.full_like(scores, real), reduction="none"
    )


# of each score: the loss of D on real images, of D on fakes, and of G on fakes
GAN_MODES: dict[
    str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
] = {
    "hinge": (lambda s: F.relu(1 - s), lambda s: F.relu(1 + s), lambda s: -s),
    "ls": (lambda s: (s - 1).square(), lambda s: s.square(), lambda s: (s - 1).square()),
    "original": (
        lambda s: _cross_entropy(s, 1),
        lambda s: _cross_entropy(s, 0),
        lambda s: _cross_entropy(s, 1),
    ),
    "w": (lambda s: -s, lambda s: s, lambda s: -s),
}


def discriminator_loss(
    real: Scales, fake: Scales, mode: str, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of D on real images and on fakes; they are added, not averaged.

    `weights` [B, H, W]: each score counts by their mean over its share of the image, and the sum is divided by the number of
    scores all the same, so that an unsure pixel counts less without making others count more (LostGAN-V2 eq. 15, for pixels).
    """
    on_real, on_fake, _ = GAN_MODES[mode]
    return _over_scales(on_real, real, weights), _over_scales(on_fake, fake, weights)


def generator_loss(fake: Scales, mode: str) -> Tensor:
    """Adversarial loss of G."""
    return _over_scales(GAN_MODES[mode][2], fake)


def feature_matching(fake: Scales, real: Scales) -> Tensor:
    """Mean absolute difference of each feature map, added over layers; no gradient flows to `real`."""
    apart = [
        F.l1_loss(ours.float(), theirs.detach().float())
        for own, other in zip(fake, real, strict=True)
        for ours, theirs in zip(own[:-1], other[:-1], strict=True)
    ]
    return torch.stack(apart).sum() / len(fake)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, I), [B, Z] each; summed over the batch too."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()


def _over_scales(
    loss: Callable[[Tensor], Tensor], scales: Scales, weights: Tensor | None = None
) -> Tensor:
    means = []
    for scale in scales:
        each = loss(scale[-1].float())  # [B, 1, h, w]
        if weights is not None:
            each = each * F.adaptive_avg_pool2d(weights[:, None], (each.shape[2], each.shape[3]))
        means.append(each.mean())
    return torch.stack(means).mean()

"""SPADE's losses against their formulas in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from synthaug.generators.spade.losses import (
    discriminator_loss,
    feature_matching,
    generator_loss,
    kl_divergence,
)


def scales_of(seed: int, count: int = 2) -> list[list[torch.Tensor]]:
    """Two scales of two feature maps and scores, float64."""
    rng = torch.Generator().manual_seed(seed)
    scales = []
    for side in (8, 4):
        sizes = ((3, side), (5, side // 2), (1, side // 2))
        scales.append(
            [
                torch.randn(count, c, s, s, dtype=torch.float64, generator=rng, requires_grad=True)
                for c, s in sizes
            ]
        )
    return scales


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


FORMULAS = {  # mode: D on real, D on fakes, G on fakes
    "hinge": (lambda s: np.maximum(0, 1 - s), lambda s: np.maximum(0, 1 + s), lambda s: -s),
    "ls": (lambda s: (s - 1) ** 2, lambda s: s**2, lambda s: (s - 1) ** 2),
    "original": (lambda s: softplus(-s), softplus, lambda s: softplus(-s)),
    "w": (lambda s: -s, lambda s: s, lambda s: -s),
}


@pytest.mark.parametrize("mode", FORMULAS)
def test_adversarial_losses_are_the_mean_over_scales_of_their_formula(mode: str) -> None:
    real, fake = scales_of(0), scales_of(1)
    on_real, on_fake, of_g = FORMULAS[mode]

    def mean(formula, scales) -> float:
        return float(np.mean([formula(scale[-1].detach().numpy()).mean() for scale in scales]))

    d_real, d_fake = discriminator_loss(real, fake, mode)
    assert float(d_real.detach()) == pytest.approx(mean(on_real, real), rel=1e-5)
    assert float(d_fake.detach()) == pytest.approx(mean(on_fake, fake), rel=1e-5)
    g_fake = generator_loss(fake, mode)
    assert float(g_fake.detach()) == pytest.approx(mean(of_g, fake), rel=1e-5)


def test_weights_lower_a_pixels_share_without_raising_that_of_others() -> None:
    real, fake = scales_of(0), scales_of(1)
    ones = torch.ones(2, 16, 16)
    plain = discriminator_loss(real, fake, "w")
    assert torch.equal(plain[0], discriminator_loss(real, fake, "w", ones)[0])
    half = ones.clone()
    half[:, :8] = 0  # the upper half counts nothing
    weighed, _ = discriminator_loss(real, fake, "w", half)
    expected = []
    for scale in real:
        scores = -scale[-1].float()
        rows = scores.shape[2] // 2
        expected.append(scores[:, :, rows:].sum() / scores.numel())
    torch.testing.assert_close(weighed, torch.stack(expected).mean())


def test_feature_matching_leaves_scores_out_and_teaches_the_fakes_alone() -> None:
    fake, real = scales_of(1), scales_of(0)
    expected = 0.0
    for ours, theirs in zip(fake, real, strict=True):
        for one, other in list(zip(ours, theirs, strict=True))[:-1]:
            expected += float((one.detach() - other.detach()).abs().mean()) / 2
    loss = feature_matching(fake, real)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert all(tensor.grad is None for scale in real for tensor in scale)
    for scale in fake:
        assert scale[-1].grad is None
        assert all(tensor.grad is not None for tensor in scale[:-1])


def test_kl_divergence_is_the_integral_and_zero_for_the_standard_normal() -> None:
    """Against the integral of p log(p / q) on a fine grid, one dimension; summed over the batch."""
    assert float(kl_divergence(torch.zeros(3, 4), torch.zeros(3, 4))) == 0
    mu, logvar = 0.7, -0.4
    x = np.linspace(-12, 12, 200_001)
    deviation = math.exp(logvar / 2)
    log_p = -0.5 * ((x - mu) / deviation) ** 2 - math.log(deviation)
    log_q = -0.5 * x**2
    density = np.exp(log_p) / math.sqrt(2 * math.pi)
    expected = float((density * (log_p - log_q)).sum() * (x[1] - x[0]))
    full = kl_divergence(torch.full((2, 3), mu).double(), torch.full((2, 3), logvar).double())
    assert float(full) == pytest.approx(6 * expected, rel=1e-6)


def test_a_weight_belongs_to_its_image_and_its_place() -> None:
    """Weights are averaged over the share of the image that a score stands for, row by row, column
    by column.
    """
    real, fake = scales_of(0), scales_of(1)
    rng = torch.Generator().manual_seed(2)
    weights = torch.rand(2, 16, 8, dtype=torch.float64, generator=rng)
    on_real, on_fake = discriminator_loss(real, fake, "hinge", weights)
    for loss, scales, sign in ((on_real, real, -1), (on_fake, fake, 1)):
        means = []
        for scale in scales:
            scores = scale[-1].detach()[:, 0]
            side = scores.shape[1]
            shares = weights.view(2, side, 16 // side, side, 8 // side).mean((2, 4))
            terms = (1 + sign * scores).clamp_min(0) * shares
            means.append(terms.mean())
        assert float(loss.detach()) == pytest.approx(float(sum(means)) / 2, rel=1e-5)


def test_kl_divergence_grows_with_both_signs_of_the_mean_and_both_ways_of_the_variance() -> None:
    zero = torch.zeros(1, 1)
    for value in (-0.5, 0.5):
        shifted = torch.full((1, 1), value)
        assert float(kl_divergence(shifted, zero)) == pytest.approx(0.125)
        expected = 0.5 * (math.exp(value) - 1 - value)
        assert float(kl_divergence(zero, shifted)) == pytest.approx(expected, rel=1e-5)

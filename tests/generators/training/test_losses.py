"""Losses: a wrong kind of mean cannot be constructed, and hinge losses are the paper's."""

from __future__ import annotations

import pytest
import torch

from synthaug.generators.training.losses import Loss, hinge_fake, hinge_real


def test_a_loss_is_a_scalar_with_a_known_mean() -> None:
    assert Loss(torch.tensor(1.0)).mean_over == "images"
    with pytest.raises(ValueError, match="mean_over: 'object' is not one of images, objects, sum"):
        Loss(torch.tensor(1.0), mean_over="object")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"value: has shape \[2\]; give a scalar"):
        Loss(torch.zeros(2))


def test_hinge_losses_are_zero_beyond_the_margin() -> None:
    scores = torch.tensor([-2.0, 0.5, 3.0])
    assert hinge_real(scores).item() == pytest.approx((3.0 + 0.5 + 0) / 3)
    assert hinge_fake(scores).item() == pytest.approx((0 + 1.5 + 4.0) / 3)


def test_a_weight_lowers_its_own_term_alone() -> None:
    """Equation 15: the sum is divided by the number of objects, not by the sum of the weights."""
    scores, weights = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5])
    assert hinge_real(scores, weights).item() == pytest.approx(0.75)
    assert hinge_fake(scores, weights).item() == pytest.approx(0.75)


def test_without_objects_a_loss_is_zero_and_has_a_gradient() -> None:
    scores = torch.zeros(0, requires_grad=True)
    loss = hinge_real(scores) + hinge_fake(scores, torch.zeros(0))
    loss.backward()
    assert loss.item() == 0 and scores.grad is not None


def test_each_score_has_the_slope_of_the_hinge() -> None:
    """Real scores below 1 are pushed up, fakes above -1 down, by 1 / n each; beyond, not at all."""
    scores = torch.tensor([-2.0, 0.0, 0.5, 3.0], requires_grad=True)
    (of_real,) = torch.autograd.grad(hinge_real(scores), scores)
    (of_fake,) = torch.autograd.grad(hinge_fake(scores), scores)
    assert of_real.tolist() == [-0.25, -0.25, -0.25, 0.0]
    assert of_fake.tolist() == [0.0, 0.25, 0.25, 0.25]


def test_weights_belong_to_the_objects_in_their_order() -> None:
    scores = torch.tensor([0.0, -1.0, 0.5])
    weights = torch.tensor([1.0, 0.5, 0.2])
    of_real = (1.0 * 1.0 + 2.0 * 0.5 + 0.5 * 0.2) / 3
    of_fake = (1.0 * 1.0 + 0.0 * 0.5 + 1.5 * 0.2) / 3
    assert hinge_real(scores, weights).item() == pytest.approx(of_real)
    assert hinge_fake(scores, weights).item() == pytest.approx(of_fake)


def test_a_fake_is_the_mirror_of_a_real_one() -> None:
    scores = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hinge_real(scores), hinge_fake(-scores))

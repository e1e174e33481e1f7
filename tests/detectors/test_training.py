"""The schedules, the checks of the training recipe, and averaged weights only looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from synthaug.detectors.base import Sample
from synthaug.detectors.training import (
    Recipe,
    StepTraining,
    cosine_rate,
    make_optimizer,
    set_learning_rate,
    step_rate,
    update_average,
)

GOOD = Recipe(
    optimizer="sgd",
    lr=0.1,
    backbone_lr=1.0,
    schedule="step",
    milestones=(0.5, 0.75),
    decay=0.1,
    warmup=0.1,
    weight_decay=0.0,
    momentum=0.9,
    clip_grad=0.0,
    flip=True,
    scale_jitter=0.0,
    color_jitter=0.0,
    ema=0.9,
)


def test_the_rate_rises_then_falls_to_a_hundredth_and_depends_on_the_step_alone():
    rates = [cosine_rate(i, 100, 0.1) for i in range(100)]
    assert sorted(rates[:10]) == rates[:10]
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert (max(rates), pytest.approx(rates[-1])) == (1.0, 0.01)
    assert cosine_rate(0, 1, 0.0) == 1.0


def test_the_step_schedule_falls_at_its_milestones_and_nowhere_else():
    rates = [GOOD.lr_at(i, 200) for i in range(200)]
    assert rates[:20] == pytest.approx([0.1 * (k + 1) / 20 for k in range(20)])
    assert rates[20:] == pytest.approx([0.1] * 80 + [0.01] * 50 + [0.001] * 50)
    assert [step_rate(i, 90, 0.0, (2 / 3, 8 / 9), 0.1) for i in (59, 60, 79, 80)] == pytest.approx(
        [1, 0.1, 0.1, 0.01]
    )


def test_the_cosine_ignores_what_belongs_to_the_other_schedule():
    assert replace(GOOD, schedule="cosine", decay=0.5).lr_at(60, 100) == pytest.approx(
        0.1 * cosine_rate(60, 100, 0.1)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", "lion"),
        ("lr", 0.0),
        ("backbone_lr", 0.0),
        ("warmup", 1.0),
        ("clip_grad", -1.0),
        ("schedule", "linear"),
        ("milestones", (0.9, 0.5)),
        ("milestones", (0.0,)),
        ("decay", 0.0),
    ],
)
def test_a_bad_recipe_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        replace(GOOD, **{name: value})


def test_a_look_at_the_averaged_weights_changes_nothing():
    """Weights inside are the averaged ones, outside bit for bit those of the training."""

    def toy(looks: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        sample = Sample(
            np.zeros((2, 2, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        )
        training = StepTraining(
            model, lambda s: {"box": model(torch.randn(len(s), 3)).square().mean()}, GOOD, 9, 1
        )
        for index in range(9):
            training.step(index, [sample] * 5)
            if looks:
                with training.averaged():
                    for name, value in training.modules["ema"].state_dict().items():
                        assert torch.equal(value, model.state_dict()[name])
                assert not torch.equal(
                    model[0].weight, training.modules["ema"].get_parameter("0.weight")
                )
        return model.state_dict()

    plain, looked = toy(False), toy(True)
    assert all(torch.equal(value, looked[name]) for name, value in plain.items())


class Line(nn.Module):
    """A weight matrix and a bias, for gradients that can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 2), 2.0))
        self.bias = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(()))


def bare_samples(count: int) -> list[Sample]:
    image = np.zeros((2, 2, 3), np.uint8)
    return [Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))] * count


def training_of(model: Line, **changes: object) -> StepTraining:
    """Train with losses of gradient 3 for each weight and 4 for the bias."""
    settings = {"schedule": "cosine", "warmup": 0.0, "momentum": 0.0, "ema": 0.0, **changes}

    def losses(_: object) -> dict[str, torch.Tensor]:
        model.seen += 1
        return {"class": 3 * model.weight.sum(), "box": 4 * model.bias.sum()}

    return StepTraining(model, losses, replace(GOOD, **settings), 10, 1)


def test_a_step_moves_weights_by_the_rate_of_the_schedule_against_the_gradient() -> None:
    model = Line()
    training = training_of(model)
    losses = training.step(0, bare_samples(2))
    rate = training.recipe.lr_at(0, 10)
    assert model.weight[0].tolist() == pytest.approx([2 - 3 * rate] * 2)
    assert model.bias.item() == pytest.approx(1 - 4 * rate)
    assert {name: float(value) for name, value in losses.items()} == {
        "class": 12.0,
        "box": 4.0,
        "total": 16.0,
    }
    assert not any(value.requires_grad for value in losses.values())


def test_gradients_of_one_step_are_gone_at_the_next() -> None:
    model = Line()
    training = training_of(model)
    training.step(0, bare_samples(1))
    training.step(1, bare_samples(1))
    assert model.weight.grad is not None
    assert model.weight.grad[0].tolist() == [3.0, 3.0]


def test_gradients_are_scaled_down_to_the_largest_norm() -> None:
    """Of gradients (3, 3, 4) the norm is the root of 34."""
    model = Line()
    training = training_of(model, clip_grad=1.0)
    training.step(0, bare_samples(1))
    rate = training.recipe.lr_at(0, 10)
    assert model.bias.item() == pytest.approx(1 - rate * 4 / 34**0.5, rel=1e-5)
    unclipped = Line()
    training_of(unclipped, clip_grad=10.0).step(0, bare_samples(1))
    assert unclipped.bias.item() == pytest.approx(1 - 4 * rate)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weights_decay_and_biases_do_not(optimizer: str) -> None:
    recipe = replace(GOOD, optimizer=optimizer, weight_decay=0.3, momentum=0.7)
    model = Line()
    model.weight.requires_grad_(True)
    weights, others = make_optimizer(model, recipe).param_groups
    assert (weights["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert weights["params"][0] is model.weight
    assert others["params"][0] is model.bias
    if optimizer == "sgd":
        assert weights["momentum"] == others["momentum"] == 0.7


class Backboned(nn.Module):
    """A body, its pyramid and a head, named as both back-ends name them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        parts = {name: nn.Linear(2, 2), "fpn": nn.Linear(2, 2)}
        self.backbone = nn.ModuleDict(parts)
        self.head = nn.Linear(2, 2)


@pytest.mark.parametrize("name", ["body", "bottom_up"])
def test_the_body_alone_learns_at_its_own_rate(name: str) -> None:
    model = Backboned(name)
    optimizer = make_optimizer(model, replace(GOOD, backbone_lr=0.25))
    set_learning_rate(optimizer, 8.0)
    rates = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = (group["lr"], group["weight_decay"] > 0)
    body, pyramid = model.backbone[name], model.backbone["fpn"]
    assert rates[id(body.weight)] == (2.0, GOOD.weight_decay > 0)
    assert rates[id(body.bias)] == (2.0, False)
    for layer in (pyramid, model.head):
        assert rates[id(layer.weight)] == (8.0, GOOD.weight_decay > 0)
        assert rates[id(layer.bias)] == (8.0, False)
    assert len(rates) == 6


def test_frozen_parameters_are_not_the_optimizers() -> None:
    model = Line()
    model.weight.requires_grad_(False)
    weights, others = make_optimizer(model, GOOD).param_groups
    assert (len(weights["params"]), len(others["params"])) == (0, 1)


def test_an_average_keeps_its_share_and_copies_statistics() -> None:
    averaged, model = Line(), Line()
    with torch.no_grad():
        model.weight.fill_(6.0)
        model.seen.fill_(5.0)
    update_average(averaged, model, 0.75)
    assert averaged.weight[0].tolist() == [3.0, 3.0]
    assert averaged.seen == 5


def test_the_average_follows_the_weights_with_the_scheduled_decay() -> None:
    """Decay min(ema, (1 + k) / (10 + k)) at step k."""
    model = Line()
    training = training_of(model, ema=0.15)
    expected = 2.0
    for index, decay in enumerate((0.1, 0.15, 0.15)):
        training.step(index, bare_samples(1))
        expected = decay * expected + (1 - decay) * model.weight[0, 0].item()
    averaged = training.modules["ema"].get_parameter("weight")
    assert averaged[0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert not averaged.requires_grad
    training.finish()
    assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_without_an_average_the_last_weights_are_kept() -> None:
    model = Line()
    training = training_of(model)
    training.step(0, bare_samples(1))
    last = model.weight.tolist()
    with training.averaged():
        assert model.weight.tolist() == last
    training.finish()
    assert model.weight.tolist() == last
    assert training.modules.keys() == {"model"}


def test_images_are_augmented_by_seed_step_and_position() -> None:
    """Two equal images of a batch get other colors, other steps others again."""
    image = np.random.default_rng(0).integers(80, 170, (6, 6, 3)).astype(np.uint8)
    sample = Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    def views(seed: int, index: int) -> list[bytes]:
        recipe = replace(GOOD, color_jitter=0.4)
        training = StepTraining(Line(), lambda _: {}, recipe, 10, seed)
        return [view.image.tobytes() for view in training._augment(index, [sample, sample])]

    first, second = views(1, 0)
    assert first != second
    assert views(1, 0) == [first, second]
    assert first not in views(1, 1)
    assert first not in views(2, 0)


def test_the_global_generator_is_seeded_by_step_and_given_back() -> None:
    drawn = []
    model = Line()

    def losses(_: object) -> dict[str, torch.Tensor]:
        drawn.append(torch.rand(()).item())
        return {"class": model.weight.sum()}

    training = StepTraining(model, losses, GOOD, 10, 1)
    before = torch.get_rng_state()
    for index in (0, 0, 1):
        training.step(index, bare_samples(1))
    assert torch.equal(before, torch.get_rng_state())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_step_trains_in_training_mode() -> None:
    model = Line().eval()
    training_of(model).step(0, bare_samples(1))
    assert model.training

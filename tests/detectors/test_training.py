"""The schedules, the checks of the training recipe, and averaged weights that are only looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from synthaug.detectors.base import Sample
from synthaug.detectors.training import Recipe, StepTraining, cosine_rate, step_rate

GOOD = Recipe(
    optimizer="sgd",
    lr=0.1,
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

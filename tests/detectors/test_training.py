"""The schedule and the checks of the training recipe."""

from __future__ import annotations

import pytest

from detectors.training import Recipe, rate


def test_the_rate_rises_then_falls_to_a_hundredth_and_depends_on_the_step_alone():
    rates = [rate(i, 100, 0.1) for i in range(100)]
    assert sorted(rates[:10]) == rates[:10]
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert (max(rates), pytest.approx(rates[-1])) == (1.0, 0.01)
    assert rate(0, 1, 0.0) == 1.0


@pytest.mark.parametrize(("name", "value"), [("optimizer", "lion"), ("lr", 0.0), ("warmup", 1.0), ("clip_grad", -1.0)])
def test_a_bad_recipe_is_named(name, value):
    good = {"optimizer": "sgd", "lr": 0.1, "warmup": 0.1, "weight_decay": 0.0, "momentum": 0.9, "clip_grad": 0.0}
    augmentation = {"flip": True, "scale_jitter": 0.0, "colour_jitter": 0.0, "ema": 0.0}
    with pytest.raises(ValueError, match=name):
        Recipe(**{**good, **augmentation, name: value})

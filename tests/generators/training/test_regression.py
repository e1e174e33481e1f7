"""The training without a discriminator: parts, averages, rates and resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synthaug.generators.base import MapBatch, Maps
from synthaug.generators.training.losses import Loss
from synthaug.generators.training.regression import Config, RegressionTraining, regression_training


class Lines:
    """A network of one convolution that is to return its batch's images."""

    def __init__(self) -> None:
        self.networks: Mapping[str, nn.Module] = {"G": nn.Conv2d(3, 3, 1)}

    def losses(self, batch: MapBatch, rng: torch.Generator) -> dict[str, Loss]:
        noise = 0.01 * torch.rand(1, generator=rng)
        made = self.networks["G"](batch.images)
        return {"distance": Loss((made - batch.images - noise).square().mean())}


def batch_of(count: int = 4) -> MapBatch:
    images = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(count, 4, 4, dtype=torch.int64)
    return MapBatch(images, Maps(labels, labels, 2))


def fresh(steps: int = 10, **loop: Any) -> RegressionTraining[MapBatch]:
    return regression_training(Lines, Config(lr=0.05, **loop), steps, 3, "cpu")


def test_a_step_learns_and_the_seed_decides_it() -> None:
    own, again = fresh(), fresh()
    losses = [float(own.step(i, batch_of())["distance"]) for i in range(8)]
    assert losses[-1] < losses[0]
    torch.manual_seed(9)
    assert [float(again.step(i, batch_of())["distance"]) for i in range(8)] == losses


def test_a_training_goes_on_bit_for_bit() -> None:
    whole = fresh(ema=0.9)
    for index in range(4):
        whole.step(index, batch_of())
    first = fresh(ema=0.9)
    for index in range(2):
        first.step(index, batch_of())
    second = fresh(ema=0.9)
    for name, module in first.modules.items():
        second.modules[name].load_state_dict(module.state_dict())
    second.optimizers["G"].load_state_dict(first.optimizers["G"].state_dict())
    for index in range(2, 4):
        second.step(index, batch_of())
    for name, module in whole.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, second.modules[name].state_dict()[key])


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    gradients: list[Tensor] = []
    for parts in (1, 4):
        own = fresh(accumulate=parts)
        own.step(0, batch_of())
        weight = own.modules["G"].get_parameter("weight").grad
        assert weight is not None
        gradients.append(weight)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.05, atol=1e-3)


class Chances(Lines):
    """Tells of a sum, and of the numbers that latents and dropout draw."""

    drawn: list[tuple[float, float]]

    def losses(self, batch: MapBatch, rng: torch.Generator) -> dict[str, Loss]:
        self.drawn.append((float(torch.rand((), generator=rng)), float(torch.rand(()))))
        total = (self.networks["G"](batch.images) - batch.images).square().sum()
        return {"sum": Loss(total, mean_over="sum")}


def test_a_sum_is_not_weighed_by_the_parts_and_each_part_has_chances_of_its_own() -> None:
    Chances.drawn = []
    sums = []
    for index, parts in ((0, 1), (0, 2), (1, 2)):
        training = regression_training(Chances, Config(accumulate=parts), 10, 3, "cpu")
        sums.append(training.step(index, batch_of())["sum"])
    torch.testing.assert_close(sums, [sums[0]] * 3)
    whole, *rest = Chances.drawn
    assert whole == rest[0]  # a whole batch is its own first part
    assert [4, 4] == [len(set(stream)) for stream in zip(*rest, strict=True)]


def test_the_averaged_network_is_shipped_and_the_rate_falls() -> None:
    own = fresh(steps=4, ema=0.5, decay_from=0.5)
    assert own.generator() is own.modules["G_ema"]
    rates = []
    for index in range(4):
        own.step(index, batch_of())
        rates.append(own.optimizers["G"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.025])
    live = own.modules["G"].get_parameter("weight")
    averaged = own.modules["G_ema"].get_parameter("weight")
    assert not torch.equal(live, averaged)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"accumulate": 0}, "accumulate: 0 is out of range"),
        ({"beta1": 1.0}, r"beta1: 1\.0 is out of range"),
        ({"decay_from": 0.0}, "decay_from: 0.0 is not in"),
        ({"precision": "half"}, "precision: 'half' is not one of"),
        ({"lr": 0.0}, r"lr: 0\.0 is out of range"),
    ],
)
def test_settings_that_cannot_be_are_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**keys)

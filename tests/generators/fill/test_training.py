"""Training.

It learns, resumes to the bit, and ships the average that held-out windows liked best.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from synthaug.generators.base import PhotoBatch
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.training import Best, FlowTraining
from tests.generators.fill.fill_windows import (
    CLASSES,
    LOOP,
    SMALL,
    random_network,
    random_photo,
    random_windows,
)

STEPS = 20
PHOTOS = [random_photo(seed) for seed in range(4)]
HELD_OUT = [random_photo(seed) for seed in (10, 11)]


def training(seed: int = 0, **changes: float) -> FlowTraining:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = FillNetwork(SMALL, CLASSES)
    return FlowTraining(network, replace(LOOP, **changes), STEPS, seed)


def weights(run: FlowTraining) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])


def test_the_loss_falls() -> None:
    run, batch = training(shown=0.0), PhotoBatch(PHOTOS)
    losses = [float(run.step(index, batch)["flow"]) for index in range(STEPS)]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_a_training_is_a_function_of_seed_and_step() -> None:
    batch = PhotoBatch(PHOTOS)
    first, same, other = training(0), training(0, dropout=0.0), training(1)
    torch.rand(5)  # what others draw does not matter
    for run in (first, same, other):
        run.step(0, batch)
        torch.rand(3)
        run.step(1, batch)
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_dropout_derives_from_the_step_too() -> None:
    batch = PhotoBatch(PHOTOS)
    runs = []
    for _ in range(2):
        run = training()
        for block in run.network.modules():
            if isinstance(block, torch.nn.Dropout):
                block.p = 0.3
        torch.rand(7)
        for index in range(3):
            run.step(index, batch)
        runs.append(weights(run))
    assert torch.equal(*runs)


def test_the_rate_rises_then_falls() -> None:
    rates = [training().learning_rate(index) for index in range(STEPS)]
    peak = rates.index(max(rates))
    assert rates[0] < rates[1]
    assert peak == 1
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.1 * rates[peak]


def test_classes_are_dropped_by_their_share() -> None:
    """With all classes dropped the class embedding of real classes gets no gradient."""
    run, batch = training(class_dropout=0.999999), PhotoBatch(PHOTOS)
    for index in range(3):
        run.step(index, batch)
    start = training().network.classes.weight[:CLASSES]
    decay_only = torch.sign(run.network.classes.weight[:CLASSES]) == torch.sign(start)
    assert bool(decay_only.all())
    moved = (
        run.network.classes.weight[CLASSES + 1] - training().network.classes.weight[CLASSES + 1]
    ).abs()
    kept = (run.network.classes.weight[:CLASSES] - start).abs()
    assert moved.mean() > 5 * kept.mean()


def test_gradients_are_scaled_down_to_the_largest_norm() -> None:
    norms = []
    for most in (0.001, 1e6):
        run = training(clip_grad=most)
        run.step(0, PhotoBatch(PHOTOS))
        squares = [
            float(p.grad.square().sum()) for p in run.network.parameters() if p.grad is not None
        ]
        norms.append(math.sqrt(sum(squares)))
    assert norms[0] == pytest.approx(0.001, rel=1e-3)
    assert norms[1] > 0.002


def test_the_average_follows_the_network_slowly() -> None:
    run, batch = training(), PhotoBatch(PHOTOS)
    before = weights(run)
    run.step(0, batch)
    averaged = torch.cat([p.flatten() for p in run.averaged.parameters()])
    expected = before + (1 - min(LOOP.ema, 1 / 10)) * (weights(run) - before)
    torch.testing.assert_close(averaged, expected)


def test_held_out_windows_decide_which_average_ships() -> None:
    best = Best(random_network(0))
    assert not best.was_offered
    for seed, loss in [(1, 0.5), (2, 0.3), (3, 0.4)]:
        best.offer(random_network(seed), torch.tensor(loss))
    windows, time = random_windows(1), torch.tensor([0.5])
    shipped = best.network(windows.pixels, time, windows)
    assert torch.equal(shipped, random_network(2)(windows.pixels, time, windows))
    assert float(best.loss) == pytest.approx(0.3)


def test_a_loss_that_is_not_a_number_ships_nothing() -> None:
    best = Best(random_network(0))
    best.offer(random_network(1), torch.tensor(math.nan))
    assert not best.was_offered


def test_the_held_out_loss_is_the_same_every_time_and_moves_no_weight() -> None:
    run = training()
    before = weights(run)
    assert torch.equal(run.held_out_loss(HELD_OUT), run.held_out_loss(HELD_OUT))
    assert torch.equal(before, weights(run))


def test_without_held_out_windows_the_last_average_ships() -> None:
    run = training()
    run.step(0, PhotoBatch(PHOTOS))
    assert run.generator() is run.averaged
    run.step(1, PhotoBatch(PHOTOS, HELD_OUT))
    assert run.generator() is run.best.network


def test_everything_that_changes_is_in_the_modules_and_optimizers() -> None:
    """A training restored from them goes on to the same bits."""
    batch = PhotoBatch(PHOTOS, HELD_OUT)
    run, again = training(), training()
    for index in range(3):
        run.step(index, batch)
    for name, module in run.modules.items():
        again.modules[name].load_state_dict(module.state_dict())
    for name, optimizer in run.optimizers.items():
        again.optimizers[name].load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for both in (run, again):
        both.step(3, batch)
    assert torch.equal(weights(run), weights(again))
    assert torch.equal(run.best.loss, again.best.loss)


def test_the_rate_ends_at_a_twentieth_of_the_peak() -> None:
    run = training()
    assert run.learning_rate(run.steps) == pytest.approx(0.05 * run.loop.lr)

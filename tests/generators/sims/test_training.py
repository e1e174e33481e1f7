"""The training: losses of the three networks, the memory, rates, resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from synthaug.generators import sims
from synthaug.generators.base import MapBatch, Maps, Remembers
from synthaug.generators.sims.config import Config
from synthaug.generators.sims.training import Loop, SimsTraining
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import train

CONFIG = Config(resolution=64, aspect_ratio=1.0, width=1)
CLASSES = 3


def batch_of(number: int) -> MapBatch:
    """An image of noise about a level, with a square on a ground."""
    rng = np.random.default_rng(number)
    labels = np.zeros((1, 64, 64), np.int64)
    top, left = rng.integers(10, 30, 2)
    labels[0, top : top + 24, left : left + 24] = 1 + number % 2
    maps = Maps(torch.from_numpy(labels), torch.from_numpy(labels), CLASSES)
    images = torch.from_numpy(rng.uniform(-0.9, 0.9, (1, 3, 64, 64)).astype(np.float32))
    return MapBatch(images, maps, None, torch.tensor([number]))


def training(config: Config = CONFIG, **loop: Any) -> SimsTraining:
    made = sims.training(config, Loop(**loop), CLASSES, 4, seed=1)
    made.remember([batch_of(number) for number in range(6)])
    return made


def test_the_memory_holds_the_labelled_images_and_which_class_is_behind() -> None:
    made = training()
    assert isinstance(made, Remembers)
    assert len(made.bank.images) == 6 and len(made.bank) == 12
    assert made.bank.behind.tolist() == pytest.approx([7 / 8, 1 / 5, 1 / 5])
    assert len(training(replace(CONFIG, memory=2)).bank.images) == 2


def test_a_step_gives_three_losses_and_moves_all_networks() -> None:
    made = training(lr=1e-3, lr_transform=1e-3, lr_order=1e-3)
    before = {name: value.clone() for name, value in made.modules["G"].named_parameters()}
    losses = made.step(0, batch_of(7))
    assert set(losses) == {"synthesis", "transform", "order"}
    assert all(float(loss) > 0 for loss in losses.values())
    moved = {
        name.split(".")[0]
        for name, p in before.items()
        if not torch.equal(p, dict(made.modules["G"].named_parameters())[name])
    }
    assert moved == {"transform", "order", "synthesis"}


def test_unsure_labels_count_less() -> None:
    def losses_of(weights: Tensor | None, config: Config = CONFIG) -> dict[str, float]:
        made = training(config)
        batch = batch_of(7)
        batch = MapBatch(batch.images, batch.maps, weights, batch.sources)
        return {name: float(loss) for name, loss in made.step(0, batch).items()}

    half = torch.full((1, 64, 64), 0.5)
    sure = losses_of(None)
    unsure = losses_of(half)
    for name, loss in sure.items():
        assert unsure[name] == pytest.approx(loss / 2, rel=1e-4)
    trusted = losses_of(half, replace(CONFIG, weigh_scores=False))
    assert trusted == pytest.approx(sure)


def test_each_network_has_its_rate_and_rates_rise() -> None:
    made = training(lr=1e-3, lr_order=1e-4, lr_transform=1e-5, rise_from=0.01, rise_until=0.5)
    rates = []
    for step in range(3):
        made.step(step, batch_of(step))
        rates.append([group["lr"] for group in made.optimizers["G"].param_groups])
    assert rates[0] == pytest.approx([1e-7, 1e-6, 1e-5])
    assert rates[1] == pytest.approx([1e-6, 1e-5, 1e-4])
    assert rates[2] == pytest.approx([1e-5, 1e-4, 1e-3])
    with pytest.raises(ValueError, match="rise_from: 0 is out of range"):
        Loop(rise_from=0)


def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    def run(steps: int, folder: Folder) -> dict[str, Tensor]:
        made = training(ema=0.5)
        train(made, batch_of, steps, 1, folder)
        return dict(made.generator().state_dict())

    whole = run(4, Folder.at(str(tmp_path / "whole")))
    interrupted = Folder.at(str(tmp_path / "interrupted"))
    run(2, interrupted)
    resumed = run(4, interrupted)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name

"""The one training loop: exact resume, honest log, a loss that is not a number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from synthaug.generators import lostgan as lostgan_system
from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.generators.lostgan import network as lostgan
from synthaug.generators.training.adversarial import AdversarialTraining, Config
from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import LOG, LOG_ROWS, read_log, train

TINY = lostgan.Config(resolution=64, width=2, z_image=4, z_object=4, embedding=4, mask_hidden=4)


def gan(steps: int) -> AdversarialTraining:
    return lostgan_system.training(TINY, Config(ema=0.9, decay_from=0.5), 3, steps, seed=5)


def batch(step: int) -> TrainingBatch:
    rng = torch.Generator().manual_seed(step)
    low = torch.rand(2, 3, 2, generator=rng) * 0.5
    boxes = torch.cat([low, low + 0.3], -1)
    labels = torch.randint(1, 4, (2, 3), generator=rng)
    return TrainingBatch(
        torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1, Layouts(labels, boxes, torch.ones(2, 3))
    )


def weights(training: AdversarialTraining) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": v for n, m in training.modules.items() for k, v in m.state_dict().items()}


def test_a_resumed_gan_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    """Networks, optimiser moments, averaged weights, learning rate and latents all come back."""
    torch.set_num_threads(1)
    straight = gan(6)
    assert train(straight, batch, 6, 2, Folder.at(tmp_path / "a")) == 0
    interrupted = Folder.at(tmp_path / "b")

    def killed(step: int) -> TrainingBatch:
        if (
            step == 5
            # the loop reads one batch ahead: met while step 4 runs, after the save at step 4
        ):
            raise KeyboardInterrupt
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        train(gan(6), killed, 6, 2, interrupted)
    resumed = gan(6)
    assert train(resumed, batch, 6, 2, interrupted) == 4
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert [row["step"] for row in read_log(interrupted)] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "a" / "state.safetensors").read_bytes() == (
        tmp_path / "b" / "state.safetensors"
    ).read_bytes()


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    train(gan(2), batch, 2, 1, folder)

    def refuse(step: int) -> TrainingBatch:
        raise AssertionError("read a batch although nothing was left to do")

    assert train(gan(2), refuse, 2, 1, folder) == 2


class Diverging:
    """A training whose loss is no number from the third step on."""

    def __init__(self) -> None:
        self.modules = {"net": nn.Linear(1, 1)}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def step(self, index: int, _: None) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(float("nan") if index == 2 else 1.0)}


def test_a_loss_that_is_no_number_stops_with_a_sentence_and_keeps_the_checkpoint(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        RunError, match="loss 'loss' is not a number at step 3; lower the learning rate"
    ):
        train(Diverging(), lambda step: None, 9, 1, Folder.at(tmp_path))
    header = (tmp_path / "state.safetensors").read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert json.loads(header[8 : 8 + size])["__metadata__"]["step"] == "2"


class Even:
    """A training that changes nothing."""

    def __init__(self) -> None:
        self.modules = {"net": nn.Linear(1, 1)}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def step(self, index: int, _: None) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(float(index))}


def test_rows_of_steps_that_were_lost_are_written_once(tmp_path: Path) -> None:
    """The log may be ahead of the checkpoint when a training is killed."""
    folder = Folder.at(tmp_path)
    train(Even(), lambda step: None, 4, 2, folder)
    with (tmp_path / LOG).open("a") as log:
        log.write(json.dumps({"step": 5, "steps": 6, "loss": -1.0}) + "\n")
    assert 4 == train(Even(), lambda step: None, 6, 2, folder)
    rows = read_log(folder)
    assert [1, 2, 3, 4, 5, 6] == [row["step"] for row in rows]
    assert [0, 1, 2, 3, 4, 5] == [row["loss"] for row in rows]


def test_the_last_row_of_a_log_is_a_mean_over_the_steps_it_has(tmp_path: Path) -> None:
    """Rows are of two steps here, the last one of the one that is left."""
    folder = Folder.at(tmp_path)
    steps = 2 * LOG_ROWS + 1
    train(Even(), lambda step: None, steps, steps, folder)
    rows = read_log(folder)
    assert [0.5, 2.5] == [row["loss"] for row in rows[:2]]
    assert steps == rows[-1]["step"] and steps - 1 == rows[-1]["loss"]

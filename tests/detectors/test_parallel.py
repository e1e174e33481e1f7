"""Two processes learn from a batch what one learns from it, up to rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from synthaug.detectors.base import Sample
from synthaug.detectors.parallel import (
    average_gradients,
    average_losses,
    average_statistics,
    positions,
    rank_and_world,
)
from synthaug.detectors.torchvision_rcnn import Config, build

TINY = Config(
    width=8, fpn_channels=16, image_size=64, max_size=128, anchor_sizes=(16, 32), box_head=32,
    box_samples=16,
    rpn_samples=32, ema=0.9, optimizer="sgd", lr=0.02, color_jitter=0.2, precision="float32",
)  # fmt: skip


def batch(step: int) -> list[Sample]:
    """Five images, so that the parts of two processes differ in size; the first has no object."""
    rng = np.random.default_rng(step)
    image = rng.integers(0, 256, (5, 48, 48, 3)).astype(np.uint8)
    boxes = np.array([[4, 5, 20, 30], [10, 12, 40, 44]], np.float32)
    return [
        Sample(im, boxes[: min(k, 2)], np.arange(min(k, 2), dtype=np.int64))
        for k, im in enumerate(image)
    ]


def train(steps: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    torch.set_num_threads(1)
    rank, world = rank_and_world()
    detector = build(TINY, 2)
    training = detector.training(steps, 3)
    told = [
        {k: float(v) for k, v in training.step(i, batch(i)[rank::world]).items()}
        for i in range(steps)
    ]
    return {
        f"{m}/{k}": v
        for m, module in training.modules.items()
        for k, v in module.state_dict().items()
    }, told


def collectives(rank: int) -> None:
    """Rank 0 has 3 images and a gradient for `both` and `one`, rank 1 has 1 image and one for
    `both`; `none` has none.
    """
    both, one, none = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    both.grad = torch.tensor([1.0, 2.0]) if rank == 0 else torch.tensor([5.0, -2.0])
    one.grad = torch.tensor([4.0, 4.0]) if rank == 0 else None
    count = 3 if rank == 0 else 1
    average_gradients([both, one, none], count)
    assert none.grad is None
    torch.testing.assert_close(both.grad, torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(one.grad, torch.tensor([3.0, 3.0]))
    losses = {"box": torch.tensor(1.0 + rank), "own": torch.tensor(float(rank))}
    losses |= {"mask": torch.tensor(7.0)} if rank else {}
    told = {name: float(value) for name, value in average_losses(losses, count).items()}
    assert told == {"box": 1.25, "own": rank, **({"mask": 7.0} if rank else {})}
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(rank)
    average_statistics(norm)
    assert float(norm.running_mean) == 0.5
    assert positions(3) == [rank, rank + 2, rank + 4]


def member(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    collectives(rank)
    weights, told = train(3)
    torch.save({"weights": weights, "told": told}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.timeout(200)
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    mp.spawn(member, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone, told = train(3)
    for name, value in alone.items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert first["told"] == second["told"]
    for mine, theirs in zip(told, first["told"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)

"""The classifier of CAS: its settings, its training and its test.

Legend as in cas.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Ints
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.scores.classification.cifar_resnet import PAPER_DEPTH, network
from synthaug.pipeline.scores.classification.crops import CropSet

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """The classifier, its training and the crops it sees."""

    depth: int = 8  # 6n+2: basic blocks, three stages; 101: the paper's bottleneck network
    width: int = 16  # channels of the first stage; the paper's network has 64
    steps: int = 300  # optimiser steps
    batch: int = 64  # crops
    lr: float = 0.1  # peak; linear warm-up over the first 5 % of steps, then cosine to 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    size: int = 32  # crop side, pixels
    crops_per_class_max: int = 500  # training crops per class; 0 = all
    # of training crops: class_balanced (classes are equally likely) | uniform (crops are)
    sampling: Literal["class_balanced", "uniform"] = "class_balanced"
    samples_per_layout: int = 5  # synthetic images per validation layout
    flip: bool = True  # mirror crops
    shift: int = 2  # move crops by up to this many pixels
    classes: str = "things"  # things | all
    seed: int = 0
    # trainings of each classifier, with seeds of their own; more than one: mean and spread are told
    repeats: int = 1
    threads: int = 1  # torch threads; the caller sets them

    def __post_init__(self) -> None:
        if self.depth != PAPER_DEPTH and (self.depth < 8 or (self.depth - 2) % 6):
            raise ValueError(
                f"cas.depth is {self.depth}; give 8, 14, 20 ... (6n + 2), or {PAPER_DEPTH}"
            )
        if self.classes not in ("things", "all"):
            raise ValueError(f"cas.classes is '{self.classes}'; give things or all")
        if self.crops_per_class_max < 0:
            raise ValueError(
                f"cas.crops_per_class_max is {self.crops_per_class_max}; give 0 or more"
            )
        counts = ("width", "steps", "batch", "samples_per_layout")
        for name in (*counts, "repeats", "threads"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"cas.{name} is {value}; give 1 or more")
        if self.size < 8 or not 0 <= self.shift < self.size:
            raise ValueError(
                f"cas.size is {self.size} and cas.shift {self.shift}; give size >= 8 and 0 <= "
                "shift < size"
            )
        if not self.lr > 0:
            raise ValueError(f"cas.lr is {self.lr}; give a number above 0")

    def selected(self, categories: Sequence[Category]) -> list[int]:
        """Return the class indices the classifier knows.

        Its label k means class `selected[k]`.
        """
        if self.classes == "all":
            return list(range(len(categories)))
        return [c for c, category in enumerate(categories) if category.isthing]


def learning_rate(config: Config, index: int) -> float:
    """Return the rate of step `index`.

    A warm-up of 5 % of the steps, then a cosine to 0.
    """
    warmup_steps = max(1, config.steps // 20)
    warmup = min(1.0, (index + 1) / warmup_steps)
    cosine = 1 + math.cos(math.pi * index / config.steps)
    return config.lr * warmup * 0.5 * cosine


class ClassifierTraining:
    """The classifier's training, in the shape of a detector's.

    The caller owns the loop. Restored from `modules` and `optimizers` at step k it continues bit
    for bit: batches, augmentation and learning rate derive from (seed, step).
    """

    def __init__(
        self, config: Config, train: CropSet, num_classes: int, device: str = "cpu"
    ) -> None:
        import torch

        assert len(train.labels), "there is nothing to train on"
        self.config = config
        self._train = train
        self._crops_of_class: list[Ints] = []  # of the classes that have crops
        for c in range(num_classes):
            crops = np.flatnonzero(train.labels == c)
            if len(crops):
                self._crops_of_class.append(crops)
        self._device = torch.device(device)
        model = network(config.depth, config.width, num_classes, config.seed)
        self.model = model.to(self._device)
        self.modules: Mapping[str, nn.Module] = {"classifier": self.model}
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            config.lr,
            config.momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"classifier": optimizer}

    def batch(self, index: int) -> tuple[Bytes, Ints]:
        """Return augmented crops [B, S, S, 3] and labels [B] of step `index`.

        Drawn as `sampling` says.
        """
        rng = rng_for(self.config.seed, "cas", "batch", index)
        if self.config.sampling == "uniform":
            count = len(self._train.labels)
            indices = rng.integers(0, count, self.config.batch)
        else:
            indices = self._class_balanced(rng)
        images = augment(self._train.crops[indices], self.config, rng)
        return images, self._train.labels[indices]

    def _class_balanced(self, rng: np.random.Generator) -> Ints:
        """Return the indices [B] of crops of which each class is equally likely."""
        size = self.config.batch
        classes = rng.integers(0, len(self._crops_of_class), size)
        points = rng.random(size)
        drawn = []
        for k, point in zip(classes, points, strict=True):
            crops = self._crops_of_class[k]
            position = int(point * len(crops))
            drawn.append(crops[position])
        return np.array(drawn, np.int64)

    def step(self, index: int, batch: tuple[Bytes, Ints]) -> Mapping[str, Tensor]:
        """Do optimizer step `index` (0-based); return the loss."""
        import torch
        from torch.nn import functional as F

        optimizer = self.optimizers["classifier"]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.config, index)
        self.model.train()
        optimizer.zero_grad(set_to_none=True)
        crops, labels = batch
        logits = self.model(_normalized(crops, self._device))
        targets = torch.from_numpy(labels).to(self._device)
        loss = F.cross_entropy(logits, targets)
        torch.autograd.backward(loss)
        optimizer.step()
        return {"loss": loss.detach()}


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a classifier on test crops.

    Numbers in [0, 1], None where there is nothing to test.
    """

    top1: float | None  # over all crops: what the paper calls CAS
    balanced: float | None  # mean over the classes that have test crops
    per_class: tuple[float | None, ...]  # [C]
    confusion: Ints  # [C, C] true class by predicted class

    @property
    def floor(self) -> dict[str, float | None]:
        """Return the accuracy of guessing among C classes, and of one constant answer.

        The constant answer is the most frequent test class.
        """
        total = int(self.confusion.sum())
        majority = None
        if total:
            most_frequent = self.confusion.sum(axis=1).max()
            majority = float(most_frequent / total)
        return {"chance": 1 / len(self.confusion), "majority": majority}


def accuracy(model: nn.Module, crops: Bytes, labels: Ints, batch: int = 256) -> Accuracy:
    """Test a classifier of C classes on crops [N, S, S, 3] with labels [N].

    Leaves it in evaluation mode.
    """
    import torch

    model.eval()
    device = next(model.parameters()).device
    answers = [np.zeros(0, np.int64)]
    with torch.inference_mode():
        blank = np.zeros((1, *crops.shape[1:]), np.uint8)
        num_classes = model(_normalized(blank, device)).shape[1]
        for start in range(0, len(crops), batch):
            part = crops[start : start + batch]
            logits = model(_normalized(part, device))
            best = logits.argmax(dim=1)
            answers.append(best.cpu().numpy())
    confusion = np.zeros((num_classes, num_classes), np.int64)
    all_answers = np.concatenate(answers)
    np.add.at(confusion, (labels, all_answers), 1)
    tested = confusion.sum(axis=1)
    right = confusion.diagonal()
    per_class: list[float | None] = []
    for num_right, num_tested in zip(right, tested, strict=True):
        share = None
        if num_tested:
            share = float(num_right / num_tested)
        per_class.append(share)
    top1 = None
    if tested.sum():
        top1 = float(right.sum() / tested.sum())
    return Accuracy(top1, _known_mean(per_class), tuple(per_class), confusion)


def mean_accuracy(accuracies: Sequence[Accuracy]) -> Accuracy:
    """Return the mean accuracies of several trainings on the same test crops.

    Their confusion counts all answers.
    """
    per_class = []
    tables = [one.per_class for one in accuracies]
    for shares in zip(*tables, strict=True):
        per_class.append(_known_mean(shares))
    return Accuracy(
        _known_mean([one.top1 for one in accuracies]),
        _known_mean([one.balanced for one in accuracies]),
        tuple(per_class),
        np.sum([one.confusion for one in accuracies], axis=0),
    )


def _known_mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers that are known; None where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(np.mean(known))


def augment(crops: Bytes, config: Config, rng: np.random.Generator) -> Bytes:
    """Flip and shift each crop [B, S, S, 3] at random.

    What moves in from outside repeats the border.
    """
    num = len(crops)
    size = config.size
    reach = config.shift
    columns = np.tile(np.arange(size), (num, 1))  # [B, S]
    if config.flip:
        mirrored = rng.random((num, 1)) < 0.5
        columns = np.where(mirrored, columns[:, ::-1], columns)
    shift_rows, shift_columns = rng.integers(-reach, reach + 1, (2, num, 1))
    rows = np.clip(np.arange(size) + shift_rows, 0, size - 1)
    columns = np.clip(columns + shift_columns, 0, size - 1)
    image = np.arange(num)[:, None, None]
    out: Bytes = crops[image, rows[:, :, None], columns[:, None, :]]
    return out


def _normalized(crops: Bytes, device: torch.device) -> Tensor:
    """Return crops [B, S, S, 3] as float32 [B, 3, S, S] in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

"""One optimiser step after another for any detector whose network maps images and boxes to losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from synthaug.detectors.augment import augment
from synthaug.detectors.base import Sample
from synthaug.detectors.parallel import (
    average_gradients,
    average_losses,
    average_statistics,
    positions,
)

LOWEST_RATE = 0.01  # of the peak, at the last step


@dataclass(frozen=True)
class Recipe:
    """How to train: see the fields of the same names in a back-end's Config."""

    optimizer: str
    lr: float
    schedule: str
    milestones: tuple[float, ...]
    decay: float
    warmup: float
    weight_decay: float
    momentum: float
    clip_grad: float
    flip: bool
    scale_jitter: float
    colour_jitter: float
    ema: float

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer: '{self.optimizer}' is unknown; choose adamw or sgd")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr: {self.lr} is out of range; give more than 0")
        for name in ("weight_decay", "clip_grad", "scale_jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give 0 or more")
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"schedule: '{self.schedule}' is unknown; choose cosine or step")
        if not all(0 < share < 1 for share in self.milestones) or list(self.milestones) != sorted(
            self.milestones
        ):
            raise ValueError(
                f"milestones: {list(self.milestones)} must be rising shares of the steps between 0 and 1"
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay: {self.decay} is out of range; give more than 0 and at most 1")
        for name in ("warmup", "momentum", "ema", "colour_jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is out of range; give 0 or more and less than 1"
                )

    def lr_at(self, index: int, steps: int) -> float:
        """Return the learning rate of a step."""
        if self.schedule == "cosine":
            return self.lr * rate(index, steps, self.warmup)
        return self.lr * step_rate(index, steps, self.warmup, self.milestones, self.decay)


class StepTraining:
    """Optimiser steps on a model; see `DetectorTraining` for who owns what.

    `losses` maps augmented samples to named scalar losses of the model in training mode; it may draw from torch's
    global generator, which is seeded from (seed, step) meanwhile and given back untouched.

    Where several processes train together (detectors.parallel), `step` is given this process's part of the batch: an image
    is augmented by its place in the whole batch, gradients, losses and batch norm's running statistics are averaged. What
    remains of the partition: rounding; batch norm, which normalises each part by itself; images of several shapes, which are
    padded to the largest of their part; and losses that divide by a number which differs between images (fewer proposals
    than `box_samples`), as each part divides by its own.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Callable[[Sequence[Sample]], Mapping[str, Tensor]],
        recipe: Recipe,
        steps: int,
        seed: int,
    ) -> None:
        assert steps > 0
        assert seed >= 0
        self.recipe, self.steps, self.seed = recipe, steps, seed
        self._model, self._losses = model, losses
        self._optimizer = make_optimizer(model, recipe)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimizers: dict[str, Optimizer] = {"model": self._optimizer}
        if recipe.ema > 0:
            self.modules["ema"] = copy.deepcopy(model).requires_grad_(False)

    def step(self, index: int, batch: Sequence[Sample]) -> Mapping[str, Tensor]:
        """Do optimiser step `index` on images of any sizes, with or without boxes; return losses and their total."""
        r = self.recipe
        seeds = [[self.seed, index, place] for place in positions(len(batch))]
        samples = [
            augment(sample, np.random.default_rng(seed), r.flip, r.scale_jitter, r.colour_jitter)
            for sample, seed in zip(batch, seeds, strict=True)
        ]
        for group in self._optimizer.param_groups:
            group["lr"] = r.lr_at(index, self.steps)
        device = next(self._model.parameters()).device
        self._model.train()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.default_rng([self.seed, index]).integers(2**62)))
            losses = self._losses(samples)
        self._optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        average_gradients(self._model.parameters(), len(batch))
        average_statistics(self._model)
        if r.clip_grad > 0:
            nn.utils.clip_grad_norm_(self._model.parameters(), r.clip_grad)
        self._optimizer.step()
        if r.ema > 0:
            average(self.modules["ema"], self._model, min(r.ema, (1 + index) / (10 + index)))
        told = average_losses({name: loss.detach() for name, loss in losses.items()}, len(batch))
        return {**told, "total": torch.stack(list(told.values())).sum()}

    def finish(self) -> None:
        """After the last step: give the detector the averaged weights, where they are kept; harmless if repeated."""
        if "ema" in self.modules:
            self._model.load_state_dict(self.modules["ema"].state_dict())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Meanwhile the detector has the weights that `finish` would give it; the training is not disturbed."""
        if "ema" not in self.modules:
            yield
            return
        kept = copy.deepcopy(self._model.state_dict())
        self.finish()
        try:
            yield
        finally:
            self._model.load_state_dict(kept)


def rate(index: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor in (0, 1] at a step: a linear rise, then a cosine down to LOWEST_RATE."""
    rise = max(1, round(steps * warmup))
    if index < rise:
        return (index + 1) / rise
    done = min(1.0, (index - rise + 1) / max(1, steps - rise))
    return LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


def step_rate(
    index: int, steps: int, warmup: float, milestones: Sequence[float], decay: float
) -> float:
    """Return the factor in (0, 1]: a linear rise, then 1, multiplied by `decay` from each of the shares of the steps on.

    With milestones 2/3 and 8/9 and decay 0.1 this is the schedule of Detectron's 1x trainings (Lin et al. 2017).
    """
    rise = max(1, round(steps * warmup))
    passed = sum(index >= round(steps * share) for share in milestones)
    return float(min(1.0, (index + 1) / rise) * decay**passed)


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """averaged <- decay * averaged + (1 - decay) * model; statistics of normalisation layers are copied."""
    for mean, value in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, buffer in zip(averaged.buffers(), model.buffers(), strict=True):
        kept.copy_(buffer)


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Make the optimiser over what learns; biases and normalisation (one axis) do not decay."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return SGD(groups, recipe.lr, momentum=recipe.momentum)
    return AdamW(groups, recipe.lr)

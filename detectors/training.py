"""Optimizer steps of any detector whose network maps images and boxes to losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from synthaug.detectors.augmentations import augment
from synthaug.detectors.base import Sample, Tensors
from synthaug.detectors.parallel import (
    average_gradients,
    average_losses,
    average_statistics,
    positions,
)
from synthaug.ranges import above, at_least, from_0_to_below_1

SHARE = "share"  # of a group of parameters in the learning rate
# beginnings of the names of a backbone's parameters, without its pyramid, in any back-end
BODIES = ("backbone.body.", "backbone.bottom_up.")
FINAL_RATE = 0.01  # of the cosine schedule at the last step, share of the peak


@dataclass(frozen=True)
class Recipe:
    """Settings of the training loop: see the same names in a back-end's Config."""

    optimizer: str
    lr: float
    backbone_lr: float  # of the backbone without its pyramid, share of lr
    schedule: str
    milestones: tuple[float, ...]
    decay: float
    warmup: float
    weight_decay: float
    momentum: float
    clip_grad: float
    flip: bool
    scale_jitter: float
    color_jitter: float
    ema: float

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer: '{self.optimizer}' is unknown; choose adamw or sgd")
        above(0, self, "lr", "backbone_lr")
        at_least(0, self, "weight_decay", "clip_grad", "scale_jitter")
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"schedule: '{self.schedule}' is unknown; choose cosine or step")
        milestones = list(self.milestones)
        between = all(0 < share < 1 for share in milestones)
        if not between or milestones != sorted(milestones):
            raise ValueError(
                f"milestones: {milestones} must be rising shares of the steps between 0 and 1"
            )
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay: {self.decay} is out of range; give more than 0 and at most 1")
        from_0_to_below_1(self, "warmup", "momentum", "ema", "color_jitter")

    def lr_at(self, index: int, steps: int) -> float:
        """Return the learning rate of a step."""
        if self.schedule == "cosine":
            return self.lr * cosine_rate(index, steps, self.warmup)
        return self.lr * step_rate(index, steps, self.warmup, self.milestones, self.decay)


class StepTraining:
    """Optimizer steps on a model; see `DetectorTraining` for who owns what.

    `losses` maps augmented samples to named scalar losses of the model in training mode; it may
    draw from torch's global generator, which is seeded from (seed, step) meanwhile and given back
    untouched.

    Where several processes train together (detectors.parallel), `step` is given this process's part
    of the batch: an image is augmented by its position in the step's batch, and gradients, losses
    and batch norm's running statistics are averaged. The result still differs from one process's by
    rounding; by batch norm, which normalizes each part by itself; by images of several shapes,
    which are padded to the largest of their part; and by losses that divide by a number which
    differs between images (fewer proposals than `box_samples`), as each part divides by its own.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Callable[[Sequence[Sample]], Tensors],
        recipe: Recipe,
        steps: int,
        seed: int,
    ) -> None:
        assert steps > 0
        assert seed >= 0
        self.recipe = recipe
        self.steps = steps
        self.seed = seed
        self._model = model
        self._losses = losses
        self._optimizer = make_optimizer(model, recipe)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimizers: dict[str, Optimizer] = {"model": self._optimizer}
        if recipe.ema > 0:
            self.modules["ema"] = copy.deepcopy(model).requires_grad_(False)

    def step(self, index: int, batch: Sequence[Sample]) -> Tensors:
        """Do optimizer step `index` on images of any sizes; return losses and their total."""
        recipe = self.recipe
        samples = self._augment(index, batch)
        set_learning_rate(self._optimizer, recipe.lr_at(index, self.steps))

        # forward
        self._model.train()
        seed = int(np.random.default_rng([self.seed, index]).integers(2**62))
        with seeded(seed, self._model):
            losses = self._losses(samples)

        # backward
        self._optimizer.zero_grad()
        total = torch.stack(list(losses.values())).sum()
        torch.autograd.backward(total)
        average_gradients(self._model.parameters(), len(batch))
        average_statistics(self._model)
        if recipe.clip_grad > 0:
            nn.utils.clip_grad_norm_(self._model.parameters(), recipe.clip_grad)
        self._optimizer.step()
        if recipe.ema > 0:
            # the average follows faster at first, when the weights are still far from good
            decay = min(recipe.ema, (1 + index) / (10 + index))
            update_average(self.modules["ema"], self._model, decay)

        detached = {name: loss.detach() for name, loss in losses.items()}
        averaged = average_losses(detached, len(batch))
        averaged["total"] = torch.stack(list(averaged.values())).sum()
        return averaged

    def finish(self) -> None:
        """Give the detector the averaged weights, where such are kept; repeatable."""
        if "ema" in self.modules:
            self._model.load_state_dict(self.modules["ema"].state_dict())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the detector the weights of `finish` meanwhile; disturbs no training."""
        if "ema" not in self.modules:
            yield
            return
        weights = copy.deepcopy(self._model.state_dict())
        self.finish()
        try:
            yield
        finally:
            self._model.load_state_dict(weights)

    def _augment(self, index: int, batch: Sequence[Sample]) -> list[Sample]:
        """Augment each image by a generator of seed, step and position in the batch."""
        recipe = self.recipe
        samples = []
        for position, sample in zip(positions(len(batch)), batch, strict=True):
            rng = np.random.default_rng([self.seed, index, position])
            samples.append(
                augment(sample, rng, recipe.flip, recipe.scale_jitter, recipe.color_jitter)
            )
        return samples


def cosine_rate(index: int, steps: int, warmup: float) -> float:
    """Return the rate's factor in (0, 1]: a linear rise, then a cosine down."""
    rise = max(1, round(steps * warmup))
    if index < rise:
        return (index + 1) / rise
    progress = min(1.0, (index - rise + 1) / max(1, steps - rise))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return FINAL_RATE + (1 - FINAL_RATE) * cosine


def step_rate(
    index: int,
    steps: int,
    warmup: float,
    milestones: Sequence[float],
    decay: float,
) -> float:
    """Return the learning rate's factor in (0, 1]: a linear rise, then steps down.

    It is multiplied by `decay` from each of the milestones on, shares of the steps. With milestones
    2/3 and 8/9 and decay 0.1 this is the schedule of Detectron's 1x trainings (Lin et al. 2017).
    """
    rise = max(1, round(steps * warmup))
    warm = min(1.0, (index + 1) / rise)
    passed = sum(index >= round(steps * share) for share in milestones)
    return float(warm * decay**passed)


@torch.no_grad()
def update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Set averaged to decay * averaged + (1 - decay) * model.

    Buffers, the statistics of normalization layers, are copied.
    """
    for mean, value in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for target, buffer in zip(averaged.buffers(), model.buffers(), strict=True):
        target.copy_(buffer)


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimizer of the parameters that learn.

    Biases and normalization, parameters of one axis, do not decay.
    """
    body: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_slower = recipe.backbone_lr != 1 and name.startswith(BODIES)
            (body if is_slower else others).append(parameter)
    groups = _groups(others, recipe.weight_decay, 1.0)
    if body:
        groups += _groups(body, recipe.weight_decay, recipe.backbone_lr)
    if recipe.optimizer == "sgd":
        return SGD(groups, recipe.lr, momentum=recipe.momentum)
    return AdamW(groups, recipe.lr)


def _groups(
    parameters: list[nn.Parameter], weight_decay: float, share: float
) -> list[dict[str, Any]]:
    """Return the two groups of an optimizer that learn at a share of its rate."""
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": weights, "weight_decay": weight_decay, SHARE: share},
        {"params": others, "weight_decay": 0.0, SHARE: share},
    ]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters of an optimizer, each at its share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[SHARE]


@contextmanager
def seeded(seed: int, model: nn.Module) -> Iterator[None]:
    """Seed torch's global generators of CPU and model's device meanwhile."""
    device = next(model.parameters()).device
    devices = []
    if device.type == "cuda":
        devices.append(device)
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield

"""One optimiser step after another for any detector whose network maps images and boxes to losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from detectors.augment import augment
from detectors.base import Sample

LOWEST_RATE = 0.01  # of the peak, at the last step


@dataclass(frozen=True)
class Recipe:
    """How to train: see the fields of the same names in a back-end's Config."""

    optimizer: str
    lr: float
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
        for name in ("warmup", "momentum", "ema", "colour_jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give 0 or more and less than 1")


class StepTraining:
    """Optimiser steps on a model; see `DetectorTraining` for who owns what.

    `losses` maps augmented samples to named scalar losses of the model in training mode; it may draw from torch's
    global generator, which is seeded from (seed, step) meanwhile and given back untouched.
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
        rng = np.random.default_rng([self.seed, index])
        samples = [augment(sample, rng, r.flip, r.scale_jitter, r.colour_jitter) for sample in batch]
        for group in self._optimizer.param_groups:
            group["lr"] = r.lr * rate(index, self.steps, r.warmup)
        device = next(self._model.parameters()).device
        self._model.train()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**62)))
            losses = self._losses(samples)
        total = torch.stack(list(losses.values())).sum()
        self._optimizer.zero_grad()
        torch.autograd.backward(total)
        if r.clip_grad > 0:
            nn.utils.clip_grad_norm_(self._model.parameters(), r.clip_grad)
        self._optimizer.step()
        if r.ema > 0:
            average(self.modules["ema"], self._model, min(r.ema, (1 + index) / (10 + index)))
        return {**{name: loss.detach() for name, loss in losses.items()}, "total": total.detach()}

    def finish(self) -> None:
        """After the last step: give the detector the averaged weights, where they are kept; harmless if repeated."""
        if "ema" in self.modules:
            self._model.load_state_dict(self.modules["ema"].state_dict())


def rate(index: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor in (0, 1] at a step: a linear rise, then a cosine down to LOWEST_RATE."""
    rise = max(1, round(steps * warmup))
    if index < rise:
        return (index + 1) / rise
    done = min(1.0, (index - rise + 1) / max(1, steps - rise))
    return LOWEST_RATE + (1 - LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


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

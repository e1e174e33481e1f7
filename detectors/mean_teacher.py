"""Learning from unlabelled images: a teacher, the average of past students, labels them for the student.

Mean teacher (Tarvainen and Valpola 2017) for detection as in Unbiased Teacher (Liu et al., ICLR 2021): the teacher labels a
weak view of each unlabelled image; what it is sure of is the truth for the student, who sees a strong view of the image; the
teacher follows the student slowly. Both start as one trained detector (the burn-in). Works with any back-end: all it asks of
one is `model`, `predict` and `losses` of `detectors.base.Detector`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from synthaug.detectors.augment import augment
from synthaug.detectors.base import Detector, Prediction, Sample
from synthaug.detectors.training import Recipe, average, make_optimizer
from synthaug.detectors.views import Strong, strong, weak

ALWAYS = ("objectness", "class")  # losses that pseudo-labels teach: is there an object, and which
WITH_BOXES = (
    *ALWAYS,
    "proposal_box",
    "box",
)  # and where does it end; never masks, which pseudo-labels here do not have


@dataclass(frozen=True)
class Config:
    """How much the student believes the teacher, and how fast the teacher follows."""

    threshold: float = 0.7  # score from which on a detection of the teacher is a target (tau)
    weight: float = 2.0  # of the unsupervised losses, once it has risen (lambda_u)
    ramp: float = 0.2  # share of the steps over which that weight rises
    decay: float = 0.999  # of the teacher, per step
    pseudo_boxes: bool = (
        False  # learn box regression from pseudo-boxes too; Unbiased Teacher does not
    )
    strong: Strong = field(default_factory=Strong)

    def __post_init__(self) -> None:
        for name in ("threshold", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not between 0 and 1")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight: {self.weight} is out of range; give 0 or more")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: {self.decay} is out of range; give 0 or more and less than 1")


@dataclass(frozen=True)
class Mixed:
    """What one step learns from."""

    labelled: Sequence[Sample]
    unlabelled: Sequence[NDArray[np.uint8]]  # images [H, W, 3] RGB


class MeanTeacher:
    """Steps of student and teacher; see `DetectorTraining` for who owns what.

    `recipe` says how the student learns; its `ema` is not used, the teacher is the average. `thresholds` [C] are scores per
    class and replace `config.threshold`.
    """

    def __init__(
        self,
        detector: Detector,
        recipe: Recipe,
        config: Config,
        steps: int,
        seed: int,
        thresholds: NDArray[np.float32] | None = None,
    ) -> None:
        assert steps > 0
        assert seed >= 0
        same = np.full(detector.num_classes, config.threshold, np.float32)
        self.thresholds = same if thresholds is None else thresholds  # [C]
        assert self.thresholds.shape == (detector.num_classes,)
        self.recipe, self.config, self.steps, self.seed = recipe, config, steps, seed
        self._student, self._teacher = detector, copy.deepcopy(detector)
        self._teacher.model.requires_grad_(False)
        self._optimizer = make_optimizer(detector.model, recipe)
        self.modules: dict[str, nn.Module] = {
            "student": detector.model,
            "teacher": self._teacher.model,
        }
        self.optimizers: dict[str, Optimizer] = {"student": self._optimizer}

    def step(self, index: int, batch: Mixed) -> Mapping[str, Tensor]:
        """Do optimiser step `index`; return losses, their total, and per unlabelled image what the teacher gave.

        `unsupervised_<loss>` are the student's on pseudo-labels before weighting; `pseudo_boxes` is how many boxes the
        teacher was sure of, `pseudo_images` the share of images with one: both fall to 0, or the first rises without end,
        when student and teacher lead each other astray.
        """
        r, config = self.recipe, self.config
        rng = np.random.default_rng([self.seed, index])
        labelled = [
            augment(sample, rng, r.flip, r.scale_jitter, r.colour_jitter)
            for sample in batch.labelled
        ]
        found, told = self._pseudo_labelled(batch.unlabelled, rng)
        weight = config.weight * ramp(index, round(self.steps * config.ramp))
        for group in self._optimizer.param_groups:
            group["lr"] = r.lr_at(index, self.steps)
        self._optimizer.zero_grad()
        losses = self._backward(labelled, found, weight, int(rng.integers(2**62)))
        if r.clip_grad > 0:
            nn.utils.clip_grad_norm_(self._student.model.parameters(), r.clip_grad)
        self._optimizer.step()
        average(self._teacher.model, self._student.model, config.decay)
        return {**losses, **{name: torch.tensor(value) for name, value in told.items()}}

    def finish(self) -> None:
        """After the last step: give the detector the teacher's weights; harmless if repeated."""
        self._student.model.load_state_dict(self._teacher.model.state_dict())

    def _pseudo_labelled(
        self, images: Sequence[NDArray[np.uint8]], rng: np.random.Generator
    ) -> tuple[list[Sample], dict[str, float]]:
        """Strong views with the teacher's boxes, and how many there are.

        Images without one are left out: they would teach that there is nothing, which the teacher has not said.
        """
        views = [weak(image, rng, self.recipe.flip) for image in images]
        sure = [certain(found, self.thresholds) for found in self._teacher.predict(views)]
        samples = [
            strong(
                Sample(view, found.boxes, found.labels), rng, self.config.strong, self.recipe.flip
            )
            for view, found in zip(views, sure, strict=True)
            if len(found.labels)
        ]
        count = max(1, len(images))
        boxes = sum(len(found.labels) for found in sure)
        return samples, {"pseudo_boxes": boxes / count, "pseudo_images": len(samples) / count}

    def _backward(
        self, labelled: Sequence[Sample], found: Sequence[Sample], weight: float, seed: int
    ) -> dict[str, Tensor]:
        """Add the gradients of both halves, one after the other to save memory; return the detached losses."""
        device = next(self._student.model.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            supervised = self._student.losses(labelled)
            total = torch.stack(list(supervised.values())).sum()
            torch.autograd.backward(total)
            told = {name: loss.detach() for name, loss in supervised.items()}
            learnt = WITH_BOXES if self.config.pseudo_boxes else ALWAYS
            told |= {f"unsupervised_{name}": torch.zeros_like(total.detach()) for name in learnt}
            total = total.detach()
            if found and weight > 0:
                losses = self._student.losses(found)
                unsupervised = torch.stack([losses[name] for name in learnt]).sum()
                torch.autograd.backward(weight * unsupervised)
                told |= {f"unsupervised_{name}": losses[name].detach() for name in learnt}
                total = total + weight * unsupervised.detach()
        return {**told, "total": total}


def certain(found: Prediction, thresholds: NDArray[np.float32]) -> Prediction:
    """Return the detections whose score reaches the threshold [C] of their class and whose box is at least a pixel wide."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    keep = (found.scores >= thresholds[found.labels]) & (sides >= 1).all(axis=1)
    return Prediction(found.boxes[keep], found.labels[keep], found.scores[keep])


def ramp(index: int, rise: int) -> float:
    """Return the unsupervised weight's factor at a step: exp(-5 (1 - t)^2) up to step `rise`, then 1.

    Tarvainen and Valpola 2017, appendix B.1.
    """
    return 1.0 if index >= rise else math.exp(-5.0 * (1 - index / rise) ** 2)

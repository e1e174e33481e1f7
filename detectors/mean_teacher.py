"""Learning from unlabelled images, which an averaged teacher labels.

Mean teacher (Tarvainen and Valpola 2017) for detection as in Unbiased Teacher (Liu et al., ICLR
2021): the teacher labels a weak view of each unlabelled image; its confident detections are the
truth for the student, who sees a strong view of the image; the teacher's weights are a moving
average of the student's. Both start as one trained detector (the burn-in). Works with any back-end
through `model`, `predict` and `losses` of `detectors.base.Detector`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synthaug.detectors.augmentations import Strong, augment, strong, weak
from synthaug.detectors.base import Detector, Prediction, Sample
from synthaug.detectors.boxes import Floats32, Image
from synthaug.detectors.training import (
    Recipe,
    make_optimizer,
    seeded,
    set_learning_rate,
    update_average,
)
from synthaug.ranges import at_least, from_0_to_1, from_0_to_below_1


@dataclass(frozen=True)
class Config:
    """Trust of the student in the teacher, and the pace at which this one follows."""

    threshold: float = 0.7  # least score of a teacher's detection to be a target (tau)
    weight: float = 2.0  # of the unsupervised losses, once it has risen (lambda_u)
    ramp: float = 0.2  # share of the steps over which that weight rises
    decay: float = 0.999  # of the teacher's averaged weights, per step; shorter trainings need less
    # learn box regression from pseudo-boxes too; Unbiased Teacher does not
    pseudo_boxes: bool = False
    # what the student sees: the teacher's view, and then (0 = never)
    strong: Strong = field(default_factory=Strong)

    def __post_init__(self) -> None:
        from_0_to_1(self, "threshold", "ramp")
        at_least(0, self, "weight")
        from_0_to_below_1(self, "decay")


@dataclass(frozen=True)
class MixedBatch:
    """Labelled and unlabelled images of one step."""

    labelled: Sequence[Sample]
    unlabelled: Sequence[Image]  # images [H, W, 3] RGB


class MeanTeacher:
    """Steps of student and teacher; see `DetectorTraining` for who owns what.

    `recipe` has the student's training; its `ema` is not used, the teacher is the average.
    `thresholds` [C] are scores per class and replace `config.threshold`.
    """

    def __init__(
        self,
        detector: Detector,
        recipe: Recipe,
        config: Config,
        steps: int,
        seed: int,
        thresholds: Floats32 | None = None,
    ) -> None:
        assert steps > 0
        assert seed >= 0
        if thresholds is None:
            thresholds = np.full(detector.num_classes, config.threshold, np.float32)
        assert thresholds.shape == (detector.num_classes,)
        self.thresholds = thresholds  # [C]
        self.recipe = recipe
        self.config = config
        self.steps = steps
        self.seed = seed
        self._student = detector
        self._teacher = copy.deepcopy(detector)
        self._teacher.model.requires_grad_(False)
        self._optimizer = make_optimizer(detector.model, recipe)
        self.modules: dict[str, nn.Module] = {
            "student": detector.model,
            "teacher": self._teacher.model,
        }
        self.optimizers: dict[str, Optimizer] = {"student": self._optimizer}

    def step(self, index: int, batch: MixedBatch) -> Mapping[str, Tensor]:
        """Do optimizer step `index`; return losses, total and pseudo-label counts.

        `unsupervised_<loss>` are the student's on pseudo-labels before weighting. Per unlabelled
        image, `pseudo_boxes` is the number of the teacher's confident boxes and `pseudo_images` the
        share of images with one: both fall to 0, or the first rises without end, when student and
        teacher lead each other astray.
        """
        recipe = self.recipe
        config = self.config
        rng = np.random.default_rng([self.seed, index])
        labelled = []
        for sample in batch.labelled:
            labelled.append(
                augment(sample, rng, recipe.flip, recipe.scale_jitter, recipe.color_jitter)
            )
        pseudo_labelled, counts = self._pseudo_label(batch.unlabelled, rng)
        weight = config.weight * ramp(index, round(self.steps * config.ramp))

        set_learning_rate(self._optimizer, recipe.lr_at(index, self.steps))
        self._optimizer.zero_grad()
        seed = int(rng.integers(2**62))
        losses = self._backward(labelled, pseudo_labelled, weight, seed)
        if recipe.clip_grad > 0:
            nn.utils.clip_grad_norm_(self._student.model.parameters(), recipe.clip_grad)
        self._optimizer.step()
        update_average(self._teacher.model, self._student.model, config.decay)
        for name, count in counts.items():
            losses[name] = torch.tensor(count)
        return losses

    def finish(self) -> None:
        """Give the detector the teacher's weights, after the last step; repeatable."""
        self._student.model.load_state_dict(self._teacher.model.state_dict())

    def _pseudo_label(
        self,
        images: Sequence[Image],
        rng: np.random.Generator,
    ) -> tuple[list[Sample], dict[str, float]]:
        """Return strong views with the teacher's boxes, and counts of these per image.

        Images without a confident box are left out: they would teach that there is nothing, which
        the teacher has not said.
        """
        flip = self.recipe.flip
        views = [weak(image, rng, flip) for image in images]
        samples = []
        boxes = 0
        for view, detections in zip(views, self._teacher.predict(views), strict=True):
            confident = confident_detections(detections, self.thresholds)
            if len(confident.labels):
                boxes += len(confident.labels)
                box_loss = np.full(len(confident.labels), self.config.pseudo_boxes)
                pseudo_labelled = Sample(view, confident.boxes, confident.labels, box_loss=box_loss)
                samples.append(strong(pseudo_labelled, rng, self.config.strong, flip))
        count = max(1, len(images))
        counts = {"pseudo_boxes": boxes / count, "pseudo_images": len(samples) / count}
        return samples, counts

    def _backward(
        self,
        labelled: Sequence[Sample],
        pseudo_labelled: Sequence[Sample],
        weight: float,
        seed: int,
    ) -> dict[str, Tensor]:
        """Add the gradients of both halves; return the detached losses and their total.

        One half after the other, to save memory.
        """
        with seeded(seed, self._student.model):
            losses = self._student.losses(labelled)
            supervised = torch.stack(list(losses.values())).sum()
            torch.autograd.backward(supervised)
            detached = {name: loss.detach() for name, loss in losses.items()}
            total = supervised.detach()
            for name in losses:
                detached[f"unsupervised_{name}"] = torch.zeros_like(total)
            if pseudo_labelled and weight > 0:
                losses = self._student.losses(pseudo_labelled)
                unsupervised = torch.stack(list(losses.values())).sum()
                torch.autograd.backward(weight * unsupervised)
                for name, loss in losses.items():
                    detached[f"unsupervised_{name}"] = loss.detach()
                total = total + weight * unsupervised.detach()
        detached["total"] = total
        return detached


def confident_detections(
    detections: Prediction,
    thresholds: Floats32,
) -> Prediction:
    """Return the detections at or above the threshold [C] of their class.

    Boxes less than a pixel wide or high are left out.
    """
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    confident = detections.scores >= thresholds[detections.labels]
    kept = confident & (sides >= 1).all(axis=1)
    boxes = detections.boxes[kept]
    labels = detections.labels[kept]
    return Prediction(boxes, labels, detections.scores[kept])


def ramp(index: int, rise: int) -> float:
    """Return the factor exp(-5 (1 - t)^2) of a weight up to step `rise`, then 1.

    Tarvainen and Valpola 2017, appendix B.1.
    """
    if index >= rise:
        return 1.0
    progress = index / rise
    return math.exp(-5.0 * (1 - progress) ** 2)

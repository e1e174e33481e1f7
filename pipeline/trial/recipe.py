"""The recipe by which arms of a trial learn from added images: how many, until when, and what of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.detector import crowds
from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.scene import Objects, Scene

if TYPE_CHECKING:
    from synthaug.detectors.base import Sample

# least IoU of a synthetic object's box with the judge's for `agreed`: it is tight then
AGREED_IOU = 0.8

Boxes = Literal["all", "agreed", "none"]
Background = Literal["learn", "ignore"]


@dataclass(frozen=True)
class Recipe:
    """What is learned of added images; of real ones it is everything."""

    share: float = 0.5  # of each batch that added images fill
    real_last: float = 0.0  # last part of the steps, in which real images take their places
    added_boxes: Boxes = "all"  # box losses of synthetic objects
    pseudo_boxes: Boxes = "none"  # and of pseudo-labels
    added_background: Background = "learn"  # of synthetic images

    @staticmethod
    def of(trial: Trial, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a job's trial with the changes of an arm."""
        keys = {key.name: getattr(trial, key.name) for key in fields(Recipe)}
        return Recipe(**{**keys, **changes})

    def real_from(self, steps: int) -> int:
        """Return the step, of so many, from which on there are real images only."""
        return steps - round(self.real_last * steps)


def sample_of(scene: Scene, image: NDArray[np.uint8], recipe: Recipe) -> Sample:
    """Return an image with what is to be learned of its objects; crowds are regions to ignore."""
    from synthaug.detectors.base import Sample

    objects = scene.objects.select(~scene.objects.iscrowd)
    is_synthetic = scene.provenance is not None
    return Sample(
        image,
        objects.boxes,
        objects.category.astype(np.int64),
        ignore=crowds(scene.objects),
        box_loss=box_loss(objects, recipe.added_boxes, recipe.pseudo_boxes),
        ignore_background=is_synthetic and recipe.added_background == "ignore",
    )


def box_loss(objects: Objects, added: Boxes, pseudo: Boxes) -> NDArray[np.bool_] | None:
    """Return the objects [N] whose boxes are learned, by the rule for their source; None: all of them.

    The boxes that a person drew always are. The judge agrees with a box when the detection that its verdict rests on has
    an IoU of AGREED_IOU with it; with one that it did not judge it does not agree.
    """
    agreed = objects.verdict_iou >= AGREED_IOU  # NaN, not judged: False
    learned = np.ones(len(objects), bool)
    for source, rule in (("synthetic", added), ("pseudo", pseudo)):
        own = np.array([name == source for name in objects.source], bool)
        if rule == "none":
            learned &= ~own
        elif rule == "agreed":
            learned &= ~own | agreed
    if learned.all():
        return None
    return learned

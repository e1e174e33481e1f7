"""The recipe by which arms of a trial learn from added images.

It says how many, until when, and what of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthaug.pipeline.batches.detector import crowds
from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.box_losses import BoxRule, learned_boxes
from synthaug.pipeline.core.scene import Scene

if TYPE_CHECKING:
    from synthaug.detectors.base import Sample

Background = Literal["learn", "ignore"]


@dataclass(frozen=True)
class Recipe:
    """What is learned of added images; of real ones it is everything."""

    share: float = 0.5  # of each batch that added images fill
    real_last: float = 0.0  # last part of the steps, in which real images take their places
    added_boxes: BoxRule = "all"  # box losses of synthetic objects
    pseudo_boxes: BoxRule = "none"  # and of pseudo-labels
    added_background: Background = "learn"  # of synthetic images

    @staticmethod
    def of(trial: Trial, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a job's trial with the changes of an arm."""
        keys = {key.name: getattr(trial, key.name) for key in fields(Recipe)}
        return Recipe(**{**keys, **changes})

    def real_from(self, steps: int) -> int:
        """Return the step, of so many, from which on there are real images only."""
        return steps - round(self.real_last * steps)


def sample_of(scene: Scene, image: Bytes, recipe: Recipe) -> Sample:
    """Return an image with what is to be learned of its objects.

    Crowds are regions to ignore.
    """
    from synthaug.detectors.base import Sample

    objects = scene.objects.without_crowds()
    box_loss = learned_boxes(objects, recipe.added_boxes, recipe.pseudo_boxes)
    is_synthetic = scene.provenance is not None
    some_loss = None
    if not box_loss.all():
        some_loss = box_loss
    return Sample(
        image,
        objects.boxes,
        objects.category.astype(np.int64),
        ignore=crowds(scene.objects),
        box_loss=some_loss,
        ignore_background=is_synthetic and recipe.added_background == "ignore",
    )

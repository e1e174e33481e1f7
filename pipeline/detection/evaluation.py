"""How good a detector is while it learns: measured every so many steps, the best weights kept.

The best weights are a part of the training's state, so they and the rows of EVALUATION are those of an uninterrupted training
however often it was killed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.batches.images_and_layouts import Pixels
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.training import EVALUATION, read_log
from synthaug.pipeline.scores.detection.evaluator import (
    DetectionEvaluator,
    DetectionResult,
    DetectionRow,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from synthaug.detectors.base import Detector, DetectorTraining

Row = Mapping[str, Any]  # step, AP50, AP (None without truth), images
BATCH = 16  # images per detector call; a prediction does not depend on the others of its call


class Validation:
    """Images to measure a detector on, their pixels kept in memory where they fit."""

    def __init__(self, table: Dataset, limit: int = 0) -> None:
        size = min(limit, len(table)) if limit else len(table)
        self._index = [k * len(table) // size for k in range(size)]  # evenly spaced
        self._pixels = Pixels([table], None)
        self._categories = table.categories
        self.classes = [
            c for c, category in enumerate(table.categories) if category.isthing
        ] or None

    def has_truth(self) -> bool:
        """Whether there is an object to find."""
        found = (self._pixels[i][0].objects for i in self._index)
        wanted = range(len(self._categories)) if self.classes is None else self.classes
        return any(np.isin(objects.category[~objects.iscrowd], wanted).any() for objects in found)

    def measure(self, detector: Detector) -> dict[str, Any]:
        """AP50 and AP of `result`, 6 digits."""
        values = self.result(detector).values
        numbers = {
            key: None if values[key] is None else round(float(values[key] or 0.0), 6)
            for key in ("AP50", "AP")
        }
        return {**numbers, "images": len(self._index)}

    def result(self, detector: Detector) -> DetectionResult:
        """Everything COCO counts, over things (over all classes where there are none)."""
        evaluator = DetectionEvaluator(self._categories, self.classes)
        for start in range(0, len(self._index), BATCH):
            index = self._index[start : start + BATCH]
            entries = [self._pixels[i] for i in index]
            for i, (scene, _), p in zip(
                index, entries, detector.predict([e[1] for e in entries]), strict=True
            ):
                truth, size = scene.objects, (scene.height, scene.width)
                labels = truth.category.astype(np.int64)
                evaluator.add(
                    DetectionRow(
                        i, *size, truth.boxes, labels, truth.iscrowd, p.boxes, p.labels, p.scores
                    )
                )
        return evaluator.result()


def best_of(rows: Sequence[Row]) -> Row:
    """The row with the highest AP50, of equals the one with the highest AP, of these the first."""
    return max(
        rows, key=lambda row: [-1.0 if row[key] is None else row[key] for key in ("AP50", "AP")]
    )


class Evaluated:
    """A training that is measured after every `every` steps (0: never) and after the last; itself a training.

    With `every` above 0 the best weights so far are in its modules. Without `validation` (a process that is not the first
    of its group) nothing is measured, but the modules are the same, so that all can be restored from one state.
    """

    def __init__(
        self,
        training: DetectorTraining,
        detector: Detector,
        validation: Validation | None,
        every: int,
        steps: int,
        folder: Folder,
        new_best: Callable[[Row], None],
    ) -> None:
        self._training, self._detector, self._validation = training, detector, validation
        self._every, self._steps, self._folder, self._new_best = every, steps, folder, new_best
        self.modules: dict[str, nn.Module] = dict(training.modules)
        if every:
            self.modules["best"] = copy.deepcopy(detector.model).requires_grad_(False)

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The training's own."""
        return self._training.optimizers

    def step(self, index: int, batch: Any) -> Mapping[str, Tensor]:
        """Do the training's step; measure after it where that is due."""
        losses = self._training.step(index, batch)
        done = index + 1
        if self._validation and (done == self._steps or (self._every and done % self._every == 0)):
            self._evaluate(self._validation, done)
        return losses

    def rows(self) -> list[dict[str, Any]]:
        """What was measured, oldest first."""
        return read_log(self._folder, EVALUATION)

    def take_best(self) -> None:
        """Give the detector the best weights."""
        self._detector.model.load_state_dict(self.modules["best"].state_dict())

    def _evaluate(self, validation: Validation, step: int) -> None:
        # a resumed training may find rows of steps that it has yet to do again
        rows: list[Row] = [row for row in self.rows() if row["step"] < step]
        with self._training.averaged():
            rows.append({"step": step, **validation.measure(self._detector)})
            if self._every and best_of(rows) is rows[-1]:
                self.modules["best"].load_state_dict(self._detector.model.state_dict())
                self._new_best(rows[-1])
        self._folder.write_bytes(
            EVALUATION, "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        )

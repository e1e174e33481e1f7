"""Evaluation of a detector: on a table, and at intervals of its training.

The best weights are a part of the training's state, so they and the rows of EVALUATION are those of
an uninterrupted training however often it was killed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.inference import Predictor, detect_rows
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
        size = len(table)
        if limit:
            size = min(limit, size)
        count = len(table)
        self._indices = [k * count // size for k in range(size)]  # evenly spaced
        self._pixels = Pixels([table], None)
        self._categories = table.categories
        self._classes = evaluated_classes(table.categories)

    def has_truth(self) -> bool:
        """Return whether there is an object to detect."""
        for index in self._indices:
            scene, _ = self._pixels[index]
            labels = scene.objects.category[~scene.objects.iscrowd]
            if np.isin(labels, self._classes).any():
                return True
        return False

    def measure(self, detector: Detector) -> Json:
        """Return AP50 and AP of `result`, rounded to 6 digits, and the number of images."""
        numbers: Json = {}
        for key, value in average_precision(self.result(detector)).items():
            numbers[key] = None if value is None else round(value, 6)
        numbers["images"] = len(self._indices)
        return numbers

    def result(self, detector: Detector) -> DetectionResult:
        """Return COCO's numbers over the evaluated classes."""
        evaluator = DetectionEvaluator(self._categories, self._classes)
        for row in self.rows(detector):
            evaluator.add(row)
        return evaluator.result()

    def rows(self, detector: Predictor) -> Iterator[DetectionRow]:
        """Yield the detections on each image beside its objects."""
        for start in range(0, len(self._indices), BATCH):
            indices = self._indices[start : start + BATCH]
            entries = [self._pixels[i] for i in indices]
            predictions = detector.predict([pixels for _, pixels in entries])
            results = zip(indices, entries, predictions, strict=True)
            for index, (scene, _), prediction in results:
                yield DetectionRow.of(index, scene, prediction)


def evaluate(detector: Predictor, table: Dataset, batch: int) -> DetectionResult:
    """Return COCO's numbers of a detector on a table, over the evaluated classes.

    No pixels are kept.
    """
    evaluator = DetectionEvaluator(table.categories, evaluated_classes(table.categories))
    for row in detect_rows(detector, table, range(len(table)), batch):
        evaluator.add(row)
    return evaluator.result()


def evaluated_classes(categories: Sequence[Category]) -> list[int]:
    """Return the classes that count: things, or all classes where there is no thing."""
    things = [c for c, category in enumerate(categories) if category.isthing]
    return things or list(range(len(categories)))


def average_precision(result: DetectionResult) -> dict[str, float | None]:
    """Return AP50 and AP; None where there is no object to detect."""
    values = result.values
    return {"AP50": values["AP50"], "AP": values["AP"]}


def best_of(rows: Sequence[Row]) -> Row:
    """Return the row with the highest AP50.

    Of equals the one with the highest AP, of these the first.
    """

    def rank(row: Row) -> list[float]:
        known = []
        for key in ("AP50", "AP"):
            value = row[key]
            if value is None:
                value = -1.0
            known.append(value)
        return known

    return max(rows, key=rank)


class Evaluated:
    """A training that is measured every `every` steps (0: never) and after the last.

    It is itself a training. With `every` above 0 the best weights so far are in its modules.
    Without `validation` (a process that is not the first of its group) nothing is measured, but the
    modules are the same, so that all can be restored from one state.
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
        self._training = training
        self._detector = detector
        self._validation = validation
        self._every = every
        self._steps = steps
        self._folder = folder
        self._new_best = new_best
        self.modules: dict[str, nn.Module] = dict(training.modules)
        if every:
            best = copy.deepcopy(detector.model)
            self.modules["best"] = best.requires_grad_(False)

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The optimizers of the training itself."""
        return self._training.optimizers

    def step(self, index: int, batch: Any) -> Mapping[str, Tensor]:
        """Do the training's step; measure after it where that is due."""
        losses = self._training.step(index, batch)
        done = index + 1
        is_due = done == self._steps
        if self._every and done % self._every == 0:
            is_due = True
        if self._validation and is_due:
            self._evaluate(self._validation, done)
        return losses

    def rows(self) -> list[Json]:
        """Return the rows of EVALUATION, oldest first."""
        return read_log(self._folder, EVALUATION)

    def take_best(self) -> None:
        """Give the detector the best weights."""
        best = self.modules["best"].state_dict()
        self._detector.model.load_state_dict(best)

    def _evaluate(self, validation: Validation, step: int) -> None:
        # a resumed training may find rows of steps that it has yet to do again
        rows: list[Row] = [row for row in self.rows() if row["step"] < step]
        with self._training.averaged():
            row = {"step": step, **validation.measure(self._detector)}
            rows.append(row)
            if self._every and best_of(rows) is row:
                weights = self._detector.model.state_dict()
                self.modules["best"].load_state_dict(weights)
                self._new_best(row)
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        self._folder.write_bytes(EVALUATION, lines.encode())

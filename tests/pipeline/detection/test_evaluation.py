"""Evaluation of a detector on a table and during its training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synthaug.detectors.base import Prediction
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Category, Dataset, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.evaluation import (
    Evaluated,
    Validation,
    average_precision,
    best_of,
    evaluate,
    evaluated_classes,
)
from synthaug.pipeline.formats.toy.dataset import CATEGORIES, Config, ToyDataset

THINGS = [c for c, category in enumerate(CATEGORIES) if category.isthing]


class Oracle:
    """Answers with the truth of the image it is shown, whatever the batch.

    Moved by `shift` pixels.
    """

    def __init__(self, table: Dataset, shift: float = 0.0) -> None:
        self._objects = {decode(scene).tobytes(): scene.objects for scene in table}
        self._shift = shift

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        return [self._answer(self._objects[image.tobytes()]) for image in images]

    def _answer(self, objects: Any) -> Prediction:
        labels = objects.category.astype(np.int64)
        return Prediction(objects.boxes + self._shift, labels, np.ones(len(labels), np.float32))


def table(count: int = 6) -> SceneList:
    return SceneList(CATEGORIES, list(ToyDataset(Config("val", count))))


@pytest.mark.parametrize("batch", [1, 4, 50])
def test_the_truth_scores_one_and_boxes_elsewhere_nothing(batch: int) -> None:
    scenes = table()
    result = evaluate(Oracle(scenes), scenes, batch)
    assert average_precision(result) == {
        "AP50": pytest.approx(1.0),
        "AP": pytest.approx(1.0),
    }
    assert set(result.per_class) == set(THINGS), "stuff counts nowhere"
    assert result.num_images == 6
    elsewhere = average_precision(evaluate(Oracle(scenes, 500.0), scenes, batch))
    assert elsewhere == {"AP50": 0.0, "AP": 0.0}


def test_a_set_without_things_is_evaluated_on_all_classes() -> None:
    stuff = (Category(1, "sky", isthing=False), Category(2, "sea", isthing=False))
    assert evaluated_classes(stuff) == [0, 1]
    assert evaluated_classes((*stuff, Category(3, "cow"))) == [2]


def test_validation_measures_what_evaluate_measures() -> None:
    scenes = table()
    oracle: Any = Oracle(scenes, 3.0)
    rounded = {
        key: round(float(value or 0), 6)
        for key, value in average_precision(evaluate(oracle, scenes, 4)).items()
    }
    assert Validation(scenes).measure(oracle) == {**rounded, "images": 6}
    assert 0 < rounded["AP"] < rounded["AP50"]


def test_crowds_and_stuff_are_no_objects_to_detect() -> None:
    scenes = table(2)
    assert Validation(scenes).has_truth()
    crowds = []
    for scene in scenes:
        crowd = np.ones(len(scene.objects), bool)
        crowds.append(scene.with_objects(replace(scene.objects, iscrowd=crowd)))
    assert not Validation(SceneList(CATEGORIES, crowds)).has_truth()
    stuff = [s.with_objects(s.objects.select(~np.isin(s.objects.category, THINGS))) for s in scenes]
    assert any(len(scene.objects) for scene in stuff)
    assert not Validation(SceneList(CATEGORIES, stuff)).has_truth()
    nothing: Any = Oracle(SceneList(CATEGORIES, stuff))
    measured = Validation(SceneList(CATEGORIES, stuff)).measure(nothing)
    assert measured == {"AP50": None, "AP": None, "images": 2}


class Training:
    """A training whose only weight is the number of its steps.

    `averaged` shows it with the sign changed.
    """

    def __init__(self, detector: Detector) -> None:
        self.modules: dict[str, Any] = {"model": detector.model}
        self.optimizers: dict[str, Any] = {}
        self._weight = detector.model.weight

    def step(self, index: int, _batch: Any) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            self._weight.fill_(index + 1)
        return {"loss": torch.tensor(0.0)}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        with torch.no_grad():
            self._weight.neg_()
            yield
            self._weight.neg_()


class Detector:
    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1, bias=False)


class Scores:
    """Measures a detector by a table of its weight."""

    def __init__(self, ap50: dict[int, float]) -> None:
        self._ap50 = ap50
        self.weights: list[int] = []

    def measure(self, detector: Detector) -> dict[str, Any]:
        weight = int(detector.model.weight.item())
        self.weights.append(weight)
        return {"AP50": self._ap50[-weight], "AP": 0.0, "images": 1}


def evaluated(folder: Path, every: int, scores: Any, best: list[Any]) -> tuple[Any, Detector]:
    detector = Detector()
    training = Training(detector)
    given: Any = (training, detector, scores, every, 6, Folder.at(folder), best.append)
    return Evaluated(*given), detector


def test_it_is_measured_when_due_with_averaged_weights_and_the_best_are_kept(
    tmp_path: Path,
) -> None:
    scores, best = Scores({2: 0.1, 4: 0.5, 6: 0.3}), []
    training, detector = evaluated(tmp_path, 2, scores, best)
    for index in range(6):
        training.step(index, None)
    assert scores.weights == [-2, -4, -6]
    assert [row["step"] for row in training.rows()] == [2, 4, 6]
    assert [row["step"] for row in best] == [2, 4]
    training.take_best()
    assert detector.model.weight.item() == -4


def test_without_an_interval_only_the_last_step_is_measured(tmp_path: Path) -> None:
    scores, best = Scores({6: 0.3}), []
    training, _ = evaluated(tmp_path, 0, scores, best)
    for index in range(6):
        training.step(index, None)
    assert [row["step"] for row in training.rows()] == [6]
    assert not best
    assert "best" not in training.modules


def test_rows_of_steps_that_are_done_again_are_replaced(tmp_path: Path) -> None:
    training, _ = evaluated(tmp_path, 2, Scores({2: 0.9, 4: 0.9, 6: 0.9}), [])
    for index in range(6):
        training.step(index, None)
    again, _ = evaluated(tmp_path, 2, Scores({4: 0.2}), [])
    again.step(3, None)
    assert [(row["step"], row["AP50"]) for row in again.rows()] == [(2, 0.9), (4, 0.2)]


def test_a_process_without_validation_measures_nothing_and_has_the_same_modules(
    tmp_path: Path,
) -> None:
    training, _ = evaluated(tmp_path, 2, None, [])
    for index in range(6):
        training.step(index, None)
    assert training.rows() == []
    assert set(training.modules) == {"model", "best"}


def test_a_row_without_truth_is_below_every_other() -> None:
    rows = [{"AP50": None, "AP": None}, {"AP50": 0.0, "AP": None}, {"AP50": 0.0, "AP": 0.0}]
    assert best_of(rows) is rows[2]

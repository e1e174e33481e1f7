"""Step calibrate: from stored detections to thresholds, in the order of the class names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.store import write_rows
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps import calibrate
from tests import paths

BASE = paths.JOBS / "base.yaml"
NAMES = ("cat", "dog", "cow")


def row(index: int, found: dict[int, list[float]]) -> DetectionRow:
    """One object of each class; detections of a class by score, the best one on its object."""
    spots = np.array([[20 * c, 0, 20 * c + 10, 10] for c in range(3)], np.float32)
    boxes, labels, scores = [], [], []
    for c, of_class in found.items():
        for number, score in enumerate(of_class):
            boxes.append(spots[c] + 100 * number)
            labels.append(c)
            scores.append(score)
    return DetectionRow(
        index,
        200,
        400,
        spots,
        np.arange(3),
        np.zeros(3, bool),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
    )


def fitted(folder: Path, rows: list[DetectionRow]) -> dict[str, Any]:
    job = load_job(BASE, ["data.labelled=toy:train", "pseudo_label.min_truths=5"], str(folder))
    write_rows(Folder.at(folder).sub(calibrate.DETECTIONS), "part-00000", rows)
    return calibrate.fit(calibrate.Spec(job, str(folder), NAMES))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Cats are sure and right, dogs are doubtful, nobody finds a cow."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(30):
        cat, dog = rng.uniform(0.8, 0.99), rng.uniform(0.3, 0.6)
        rows.append(row(index, {0: [cat], 1: [dog, rng.uniform(0.2, 0.5)]}))
    return fitted(tmp_path_factory.mktemp("calibrate"), rows)


def test_classes_are_named_in_their_order(result: dict[str, Any]) -> None:
    assert list(result["classes"]) == list(NAMES)
    counts = [(entry["truths"], entry["found"]) for entry in result["classes"].values()]
    assert counts == [(30, 30), (30, 60), (30, 0)]
    assert result["classes"]["cow"]["thresholds"]["f1"]["basis"] == "pooled"
    assert result["classes"]["cat"]["thresholds"]["f1"]["basis"] == "class"
    json.dumps(result, allow_nan=False)


def test_held_out_numbers_count_the_objects_of_every_class(result: dict[str, Any]) -> None:
    held_out = result["held_out"]
    assert set(held_out["rules"]) == set(calibration.RULES)
    for numbers in held_out["rules"].values():
        assert numbers["all"]["truth"] == 90
        assert numbers["classes"]["cow"]["recall"] == 0
        of_classes = [one["f1"] for one in numbers["classes"].values() if one["f1"] is not None]
        assert numbers["macro_f1"] == pytest.approx(np.mean(of_classes), abs=1e-4)
    assert sum(count for *_, count in held_out["raw"]["bins"]) == 90


def test_raw_scores_are_compared_with_calibrated_ones(result: dict[str, Any]) -> None:
    """As scored: cats are right and said to be by 0.8 to 0.99, half of the dogs by less."""
    raw, calibrated = (result["held_out"][name] for name in ("raw", "calibrated"))
    lowest = min(mean for mean, *_ in raw["bins"])
    assert 0.2 <= lowest < 0.5
    assert raw["bins"] != calibrated["bins"]
    assert calibrated["ece"] < raw["ece"]


def test_what_is_read_is_what_was_fitted_in_the_order_asked_for(result: dict[str, Any]) -> None:
    curves, thresholds = calibrate.read(result, ["dog", "cat"], "f1")
    assert thresholds[0].score == result["classes"]["dog"]["thresholds"]["f1"]["score"]
    assert curves.classes[1].slope == result["classes"]["cat"]["curve"]["slope"]
    sure = curves.probability(np.array([1]), np.array([0.9]))
    unsure = curves.probability(np.array([0]), np.array([0.4]))
    assert sure > unsure


def test_one_image_holds_nothing_out_and_says_so(tmp_path: Path) -> None:
    result = fitted(tmp_path, [row(0, {0: [0.9]})])
    assert result["held_out"] is None
    assert "nothing is held out" in calibrate._summary_line(result, "f1")


def test_without_unlabelled_images_nothing_is_done(tmp_path: Path) -> None:
    job = load_job(BASE, ["data.labelled=toy:train"], str(tmp_path))
    job = replace(job, data=replace(job.data, unlabelled=""))
    lines: list[str] = []
    inputs = {"ingest": Output(Folder.at(tmp_path), {})}
    context = Context(
        job, Folder.at(tmp_path), inputs, SerialExecutor(), lines.append, lambda *_: None
    )
    assert calibrate.run(context) == {"classes": {}}
    assert lines == ["  no unlabelled images"]
    assert calibrate.settings(job)["unlabelled"] is False

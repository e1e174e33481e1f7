"""An arm's AP is COCO's within the detector's limits, and fixed AP is of everything it returned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.detectors.torchvision_rcnn import Config as RcnnConfig
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.trial.evaluation import evaluate, within_limits, without_limits

CATEGORIES = (Category(1, "car"), Category(2, "sky", isthing=False), Category(3, "bus"))


def image(index: int, scores: list[float], hits: list[bool]) -> DetectionRow:
    """An image with two cars; detection k is at the first free one where it hits, else nowhere."""
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    free = iter(boxes)
    nowhere = np.array([50, 50, 60, 60], np.float32)
    found = [next(free) if hit else nowhere for hit in hits]
    return DetectionRow(
        index,
        64,
        64,
        boxes,
        np.zeros(2, np.int64),
        np.zeros(2, bool),
        np.array(found, np.float32).reshape(-1, 4),
        np.zeros(len(found), np.int64),
        np.array(scores, np.float32),
    )


def test_what_the_detector_would_have_returned() -> None:
    """Its floor and its limit, applied afterwards, in the order it returned them."""
    scores = np.array([0.3, 0.9, 0.05, 0.04, 0.8], np.float32)
    boxes, none = np.zeros((5, 4), np.float32), np.zeros((0, 4), np.float32)
    empty = np.zeros(0, np.int64)
    row = DetectionRow(0, 9, 9, none, empty, empty.astype(bool), boxes, np.arange(5), scores)
    config = RcnnConfig(score_floor=0.05, detections_per_image=2)
    assert within_limits(row, config).pred_labels.tolist() == [1, 4]
    assert within_limits(row, replace(config, detections_per_image=9)).pred_labels.tolist() == [
        0,
        1,
        4,
    ]
    assert without_limits(config).detections_per_image == 1000


def test_values_are_of_things_alone_and_unknown_where_there_is_nothing_to_find() -> None:
    result = evaluate([image(0, [0.9, 0.8], [True, True])], CATEGORIES, RcnnConfig())
    assert set(result["per_class"]) == {"0", "2"}
    assert result["per_class"]["0"] == pytest.approx(
        {"AP": 1.0, "AP50": 1.0, "AP75": 1.0, "AP_fixed": 1.0}
    )
    assert set(result["per_class"]["2"].values()) == {None}
    assert result["values"]["AP"] == pytest.approx(1.0)


def test_detections_outside_the_limits_count_for_fixed_ap_alone() -> None:
    rows = [image(0, [0.9, 0.01], [True, True])]
    result = evaluate(rows, CATEGORIES, RcnnConfig(score_floor=0.05))
    assert result["values"]["AP_fixed"] == pytest.approx(1.0)
    assert result["values"]["AP"] == pytest.approx(0.51, abs=0.01), "one of two cars, in 101 points"


def test_an_arm_that_was_measured_on_no_image_has_no_values() -> None:
    result = evaluate([], CATEGORIES, RcnnConfig())
    assert set(result["values"].values()) == {None}

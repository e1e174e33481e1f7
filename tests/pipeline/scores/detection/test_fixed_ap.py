"""Fixed AP: a budget over the whole set, none per image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow, match_row
from synthaug.pipeline.scores.detection.fixed_ap import FixedEvaluator

CLASSES = tuple(Category(i + 1, f"c{i}") for i in range(3))


def row(index: int, truth: int, found: int, rng: np.random.Generator) -> DetectionRow:
    """True boxes of random classes.

    Detections near some of them, the rest anywhere, scores without ties.
    """
    corner = rng.uniform(0, 60, (truth, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 30, (truth, 2))], 1).astype(np.float32)
    labels = rng.integers(0, 3, truth)
    near = rng.integers(0, truth, found)
    pred = boxes[near] + rng.normal(0, 2.0, (found, 4)).astype(np.float32)
    pred[:, 2:] = np.maximum(pred[:, 2:], pred[:, :2] + 1)
    kind = np.where(rng.random(found) < 0.8, labels[near], rng.integers(0, 3, found))
    crowd = np.zeros(truth, bool)
    return DetectionRow(
        index,
        100,
        100,
        boxes,
        labels,
        crowd,
        pred.astype(np.float32),
        kind,
        rng.random(found).astype(np.float32),
    )


def by_hand(rows: list[DetectionRow], c: int, budget: int) -> float:
    """101-point AP of the best `budget` detections of a class, mean over ten IoUs, float64."""
    scores = np.concatenate([r.pred_scores[r.pred_labels == c] for r in rows])
    order = np.argsort(-scores, kind="stable")[:budget]
    truth = sum(int((r.labels == c).sum()) for r in rows)
    values = []
    for iou in np.linspace(0.5, 0.95, 10):
        state = np.concatenate([match_row(r, [c], iou)[r.pred_labels == c] for r in rows])[order]
        values.append(average_precision(state, truth))
    return float(np.mean(values))


def average_precision(state: NDArray[np.int8], truth: int) -> float:
    hits = np.cumsum(state == 1)
    precision = hits / np.arange(1, len(state) + 1)
    best = [precision[hits >= t * truth - 1e-9].max(initial=0.0) for t in np.linspace(0, 1, 101)]
    return float(np.mean(best))


@pytest.mark.parametrize("budget", [10_000, 150, 20])
def test_it_is_the_ap_of_the_best_detections_of_the_set(budget: int) -> None:
    """Matching is greedy by score, so cutting the tail is the same before and after it."""
    rng = np.random.default_rng(1)
    rows = [row(i, 6, 150 if i == 2 else 30, rng) for i in range(8)]
    evaluator = FixedEvaluator(CLASSES, budget=budget)
    for one in rows:
        evaluator.add(one)
    result = evaluator.result()
    for c in range(3):
        assert result.per_class[c]["AP"] == pytest.approx(by_hand(rows, c, budget), abs=2e-3)
    assert (
        max(sum((r.pred_labels == c).sum() for r in evaluator.rows()) for c in range(3)) <= budget
    )


def test_an_image_with_many_objects_is_not_cut_at_a_hundred() -> None:
    boxes = np.array([[4 * k, 0, 4 * k + 3, 3] for k in range(140)], np.float32)
    labels, scores = np.zeros(140, np.int64), np.linspace(1, 0.5, 140).astype(np.float32)
    one = DetectionRow(0, 4, 600, boxes, labels, np.zeros(140, bool), boxes, labels, scores)
    usual, fixed = DetectionEvaluator(CLASSES[:1]), FixedEvaluator(CLASSES[:1])
    for evaluator in (usual, fixed):
        evaluator.add(one)
    assert fixed.result().values["AP"] == 1.0
    assert 0.70 < (usual.result().values["AP"] or 0) < 0.73  # 100 of 140


def test_nothing_found_and_nothing_to_find() -> None:
    empty = FixedEvaluator(CLASSES)
    assert empty.result().values["AP"] is None
    none = np.zeros((0, 4), np.float32)
    flags = np.zeros(0, np.int64)
    one = DetectionRow(
        0, 9, 9, none, flags, flags.astype(bool), none, flags, flags.astype(np.float32)
    )
    empty.add(one)
    assert empty.result().values["AP"] is None

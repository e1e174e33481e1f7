"""The AP of one run of a trial: COCO's, and fixed AP.

COCO's is within the detector's own limits; fixed AP knows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow
from synthaug.pipeline.scores.detection.fixed_ap import FixedEvaluator
from synthaug.pipeline.trial.runs import FIXED

KEYS = ("AP", "AP50", "AP75")
WIDE_LIMITS = {"score_floor": 0.001, "detections_per_image": 1000}  # for fixed AP


def without_limits(config: Any) -> Any:
    """Return a detector's Config with wide limits on what it returns.

    They change nothing that is learnt.
    """
    known = {field.name for field in fields(config)}
    limits = {name: value for name, value in WIDE_LIMITS.items() if name in known}
    return replace(config, **limits)


def within_limits(row: DetectionRow, config: Any) -> DetectionRow:
    """Return the detections that are within the detector's own limits, in order."""
    limits = asdict(config)
    floor = limits.get("score_floor", 0.0)
    most = limits.get("detections_per_image", len(row.pred_scores))
    above = np.flatnonzero(row.pred_scores > floor)
    best_first = np.argsort(-row.pred_scores[above], kind="stable")
    kept = np.sort(above[best_first[:most]])
    return replace(
        row,
        pred_boxes=row.pred_boxes[kept],
        pred_labels=row.pred_labels[kept],
        pred_scores=row.pred_scores[kept],
    )


def evaluate(rows: Sequence[DetectionRow], categories: Sequence[Category], config: Any) -> Json:
    """Return AP, AP50, AP75 and fixed AP of the thing classes.

    `values` are over all, `per_class` by index.
    """
    things = [index for index, category in enumerate(categories) if category.isthing]
    evaluator = DetectionEvaluator(categories, things)
    fixed_evaluator = FixedEvaluator(categories, things)
    for row in rows:
        evaluator.add(within_limits(row, config))
        fixed_evaluator.add(row)
    result = evaluator.result()
    fixed = fixed_evaluator.result()
    values = {key: result.values[key] for key in KEYS}
    values[FIXED] = fixed.values["AP"]
    per_class = {}
    for index in things:
        own = {key: result.per_class[index][key] for key in KEYS}
        own[FIXED] = fixed.per_class[index]["AP"]
        per_class[str(index)] = own
    return {"values": values, "per_class": per_class}

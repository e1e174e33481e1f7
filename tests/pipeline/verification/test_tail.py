"""Judges of rarely found classes are chosen by what they show on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.verification.prototypes import BACKGROUND, PART
from synthaug.pipeline.verification.tail import TailTables, choose_judges, fit_prototypes
from synthaug.pipeline.verification.tail_judges import CROPS, LOWER
from synthaug.pipeline.verification.thresholds import ClassThresholds, Requirements
from tests.imperfect_detector import TOY, TOY_THINGS, detect

LABEL = 3  # a thing of the toy
TABLES = TailTables(TOY, TOY, TOY)
JUDGED = ClassThresholds(0.5, 0.5, None, judged=True, basis="class", truths=50, reached=1.0)
UNJUDGED = replace(JUDGED, judged=False)
LEAST_AREA = np.zeros(len(TOY_THINGS))


def fitted(*unjudged: int) -> list[ClassThresholds]:
    return [UNJUDGED if k in unjudged else JUDGED for k in range(len(TOY_THINGS))]


def rows_of(score: float) -> list[DetectionRow]:
    """Return the toy's detections; those of LABEL have one score."""
    rows = []
    for index in range(len(TOY)):
        row = detect(index)
        own = row.pred_labels == LABEL
        rows.append(
            replace(row, pred_scores=np.where(own, score, row.pred_scores).astype(np.float32))
        )
    return rows


class Labels:
    """Knows the class of a box by the labels of its image, which it knows by its pixels."""

    def __init__(self, table: Dataset) -> None:
        self._scenes = {decode(scene).tobytes(): scene for scene in table}

    def box_features(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return one number per class: 1 where such an object has just this box."""
        found = []
        for image, own in zip(images, boxes, strict=True):
            objects = self._scenes[image.tobytes()].objects
            features = np.zeros((len(own), len(TOY_THINGS)), np.float32)
            for place, box in enumerate(own):
                same = np.abs(objects.boxes - box).max(1) < 0.5
                features[place, objects.category[same]] = 1
            found.append(features)
        return found


def refuse() -> NoReturn:
    raise AssertionError("no detector is needed")


def test_where_every_class_is_judged_no_detector_is_loaded() -> None:
    chosen = choose_judges(
        rows_of(0.9), fitted(), LEAST_AREA, TABLES, refuse, Requirements(), seed=0
    )
    assert ({}, None) == chosen


def test_stuff_and_classes_without_a_true_object_are_left_out() -> None:
    stuff = int(np.flatnonzero(~TOY_THINGS)[0])
    thresholds = fitted(stuff)
    thresholds[LABEL] = replace(UNJUDGED, truths=0)
    chosen = choose_judges(
        rows_of(0.9), thresholds, LEAST_AREA, TABLES, refuse, Requirements(), seed=0
    )
    assert ({}, None) == chosen


def test_a_class_that_is_found_at_a_low_score_is_judged_there() -> None:
    blind = _Blind()
    chosen, learnt = choose_judges(
        rows_of(0.02), fitted(LABEL), LEAST_AREA, TABLES, lambda: blind, Requirements(), seed=0
    )
    assert [LABEL] == list(chosen)
    assert LOWER == chosen[LABEL].judge
    assert {LOWER, CROPS} == set(chosen[LABEL].tried)
    assert learnt is None, "no crop judges, so no prototypes are kept"


class _Blind:
    """Sees the same in every box."""

    def box_features(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        return [np.ones((len(own), 2), np.float32) for own in boxes]


def test_a_class_that_is_never_found_is_judged_by_crops() -> None:
    unseen = [row.with_predictions(row.pred_labels != LABEL) for row in rows_of(0.9)]
    chosen, learnt = choose_judges(
        unseen, fitted(LABEL), LEAST_AREA, TABLES, lambda: Labels(TOY), Requirements(), seed=0
    )
    judge = chosen[LABEL]
    assert CROPS == judge.judge
    assert 0 == judge.tried[LOWER].accepted_true
    assert judge.tried[CROPS].recall > 0.95
    assert 0 == judge.tried[CROPS].accepted_false
    assert learnt is not None and learnt.knows(LABEL)


def test_prototypes_are_of_all_things_and_of_parts_of_the_judged_ones() -> None:
    learnt = fit_prototypes(Labels(TOY), TABLES, [LABEL], TOY_THINGS, seed=0)
    kinds = set(learnt.kinds.tolist())
    assert PART - LABEL in kinds and BACKGROUND in kinds
    assert set(np.flatnonzero(TOY_THINGS).tolist()) <= kinds
    assert len(kinds) == TOY_THINGS.sum() + 2

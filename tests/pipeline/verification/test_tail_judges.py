"""Planted cases for the judges of rare classes.

Who is right is taken, and nobody where nobody is.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.scores.detection.evaluator import overlaps
from synthaug.pipeline.verification.tail_judges import (
    CROPS,
    LOWER,
    MOST_IMAGES,
    Evidence,
    choose,
    claimed_boxes,
)
from synthaug.pipeline.verification.verdicts import Thresholds
from tests.imperfect_detector import TOY, TOY_THINGS, detect

LABEL = 3  # a thing of the toy
RECALL, MIN_RECALL = 0.95, 0.8


def alone(label):
    """Return thresholds by which one class alone is judged."""
    num_classes = len(TOY_THINGS)
    return Thresholds(
        score=np.full(num_classes, 0.5),
        iou=np.full(num_classes, 0.5),
        confident=np.full(num_classes, np.inf),
        least_area=np.zeros(num_classes),
        judged=np.arange(num_classes) == label,
        things=TOY_THINGS,
    )


@pytest.fixture(scope="module")
def rows():
    return [detect(index) for index in range(len(TOY))]


@pytest.fixture(scope="module")
def claims(rows):
    return claimed_boxes(rows, LABEL, alone(LABEL), seed=0)


def weak(rows, found, score=0.02):
    """Return the rows as of a detector that finds a share of the objects, with a low score."""
    rng = np.random.default_rng(0)
    weak_rows = []
    for row in rows:
        own = row.pred_labels == LABEL
        keep = ~own | (rng.random(len(own)) < found)
        scores = np.where(own, score, row.pred_scores).astype(np.float32)
        weak_rows.append(replace(row, pred_scores=scores).with_predictions(keep))
    return weak_rows


def margins_of(claims, wrong, seed=0):
    """Return margins that tell true from false boxes but for a share that is wrong."""
    rng = np.random.default_rng(seed)
    is_true = np.array([claim.is_true for claim in claims])
    flipped = rng.random(len(claims)) < wrong
    return np.where(is_true ^ flipped, 1.0, -1.0) + rng.normal(0, 0.1, len(claims))


def judge_of(rows, claims, margins=None):
    return choose(rows, claims, margins, LABEL, RECALL, MIN_RECALL, seed=0)


# ---- What is claimed ----


def test_every_true_object_is_claimed_once_and_false_ones_hold_none(rows, claims):
    true = [claim for claim in claims if claim.is_true]
    assert len(true) == sum(int((row.labels == LABEL).sum()) for row in rows)
    false = [claim for claim in claims if not claim.is_true]
    assert 2 * MOST_IMAGES <= len(false) <= 3 * len(rows)
    shifted = 0
    for claim in false:
        row = rows[claim.row]
        own = row.boxes[row.labels == LABEL]
        iou = overlaps(claim.box[None], own, np.zeros(len(own), bool)).max(initial=0)
        assert iou <= 0.41
        shifted += iou > 0.1
    assert 0 < shifted < len(false) / 2, "some lie half beside an object"


def test_a_class_without_objects_has_nothing_to_claim(rows):
    bare = [row.with_objects(row.labels != LABEL) for row in rows]
    assert claimed_boxes(bare, LABEL, alone(LABEL), seed=0) == []


def test_the_same_seed_claims_the_same(rows, claims):
    again = claimed_boxes(rows, LABEL, alone(LABEL), seed=0)
    assert all((a.box == b.box).all() for a, b in zip(claims, again, strict=True))


# ---- Who is taken ----


def test_a_detector_that_is_right_at_a_low_score_judges_there(rows, claims):
    judge = judge_of(weak(rows, found=1.0), claims)
    assert judge.judge == LOWER
    assert judge.score == pytest.approx(0.02)
    evidence = judge.tried[LOWER]
    assert evidence.recall > 0.85
    assert evidence.false_rate < 0.05


def test_a_detector_that_misses_half_does_not(rows, claims):
    judge = judge_of(weak(rows, found=0.5), claims)
    assert judge.judge == ""
    assert 0.3 < judge.tried[LOWER].recall < 0.6


def test_a_detector_that_sees_the_class_everywhere_does_not(rows, claims):
    """It has a detection on every claimed box: true ones pass, and false ones too."""
    everywhere = list(rows)
    for claim in claims:
        row = everywhere[claim.row]
        everywhere[claim.row] = replace(
            row,
            pred_boxes=np.concatenate([row.pred_boxes, claim.box[None]]),
            pred_labels=np.append(row.pred_labels, LABEL),
            pred_scores=np.append(row.pred_scores, np.float32(0.9)),
        )
    judge = judge_of(everywhere, claims)
    assert judge.judge == ""
    assert judge.tried[LOWER].false_rate > 0.9


def test_crops_judge_where_they_are_right_and_the_detector_is_not(rows, claims):
    judge = judge_of(weak(rows, found=0.2), claims, margins_of(claims, wrong=0.02))
    assert judge.judge == CROPS
    assert -1 < judge.margin < 1
    assert judge.tried[CROPS].gain > 0.9


def test_crops_that_do_not_look_judge_nothing(rows, claims):
    noise = np.random.default_rng(1).normal(0, 1, len(claims))
    judge = judge_of(weak(rows, found=0.2), claims, noise)
    assert judge.judge == ""
    assert abs(judge.tried[CROPS].gain) < 0.35


def test_of_two_that_are_right_the_better_one_judges(rows, claims):
    judge = judge_of(weak(rows, found=1.0), claims, margins_of(claims, wrong=0.0))
    assert judge.judge == CROPS
    judge = judge_of(weak(rows, found=1.0), claims, margins_of(claims, wrong=0.3))
    assert judge.judge == LOWER


def test_thresholds_are_tried_on_other_images_than_they_were_learnt_on(rows, claims):
    """Margins that separate by chance within a fold would pass if they were judged by their own
    threshold.
    """
    few = [claim for claim in claims if claim.is_true][:4]
    few += [claim for claim in claims if not claim.is_true][:4]
    margins = np.random.default_rng(5).normal(0, 1, len(few))
    assert judge_of(weak(rows, found=0.0), few, margins).judge == ""


def test_the_bar_of_a_fold_is_learnt_from_the_other_folds(rows, claims):
    """One object is found at a lower score than all others: no other object allows for it."""
    few = [claim for claim in claims if claim.is_true][:20]
    scores = {claim.row: 0.5 for claim in few}
    lonely = few[0]
    scores[lonely.row] = 0.02
    few = [claim for claim in few if claim.row != lonely.row] + [lonely]
    found = list(rows)
    for claim in few:
        row = rows[claim.row]
        found[claim.row] = replace(
            row,
            pred_boxes=np.concatenate([row.boxes[row.labels == LABEL]]),
            pred_labels=np.full(int((row.labels == LABEL).sum()), LABEL),
            pred_scores=np.full(int((row.labels == LABEL).sum()), scores[claim.row], np.float32),
        )
    judge = choose(found, few, None, LABEL, 1.0, MIN_RECALL, seed=0)
    assert judge.score == pytest.approx(0.02), "learnt from all, for images to come"
    assert judge.tried[LOWER].accepted_true == len(few) - 1


def test_the_margin_of_a_fold_is_learnt_from_the_other_folds(rows, claims):
    """One object looks less like its class than all others: no other one allows for it."""
    true = [claim for claim in claims if claim.is_true][:20]
    alone_there = [claim for claim in true if [c.row for c in true].count(claim.row) == 1]
    lonely = true.index(alone_there[0])
    few = true + [claim for claim in claims if not claim.is_true][:20]
    margins = np.array([2.0] * 20 + [-1.0] * 20)
    margins[lonely] = 0.2
    judge = judge_of(weak(rows, found=0.0), few, margins)
    assert judge.margin == pytest.approx(-0.4), "learnt from all, for images to come"
    assert judge.tried[CROPS].accepted_true == 19


def test_score_and_iou_are_each_reached_by_so_many_that_both_are_by_recall(rows, claims):
    """Of 21 objects with rising scores 2 fail by each, where 0.21 may fail by either."""
    few = []
    for claim in claims:
        if claim.is_true and claim.row not in [earlier.row for earlier in few]:
            few.append(claim)
    few = few[:21]
    found = list(rows)
    for number, claim in enumerate(few):
        found[claim.row] = replace(
            rows[claim.row],
            pred_boxes=claim.box[None],
            pred_labels=np.array([LABEL]),
            pred_scores=np.array([0.2 + 0.02 * number], np.float32),
        )
    judge = choose(found, few, None, LABEL, 0.79, MIN_RECALL, seed=0)
    assert judge.score == pytest.approx(0.24)


def test_a_margin_lies_half_way_between_the_last_true_and_the_first_false_one(rows, claims):
    true = [claim for claim in claims if claim.is_true][:30]
    false = [claim for claim in claims if not claim.is_true][:30]
    margins = np.array([2.0] * len(true) + [-1.0] * len(false))
    judge = judge_of(weak(rows, found=0.0), true + false, margins)
    assert judge.margin == pytest.approx(0.5)


def test_crops_that_are_always_wrong_confirm_nothing_and_are_still_plain_data(rows, claims):
    judge = judge_of(weak(rows, found=0.2), claims, -margins_of(claims, wrong=0.0))
    assert judge.judge == ""
    assert json.loads(json.dumps(judge.to_json(), allow_nan=False))["margin"] > 1e6


@pytest.mark.parametrize(
    ("true", "false", "holds"),
    [
        ((40, 40), (100, 3), True),
        ((3, 3), (100, 3), True),
        ((2, 2), (100, 3), False),  # two objects show nothing
        ((40, 31), (100, 3), False),  # too many true ones are refused
        ((40, 40), (100, 11), False),  # too many false ones pass
        ((40, 40), (10, 1), False),  # ten false boxes show little
    ],
)
def test_the_bounds_are_the_stated_ones(true, false, holds):
    assert Evidence(*true, *false).holds(MIN_RECALL) == holds

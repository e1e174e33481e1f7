"""Thresholds per class are the highest that let the required share pass.

Both error rates are held out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.verification import thresholds as verification_thresholds
from synthaug.pipeline.verification.injected_errors import KINDS
from synthaug.pipeline.verification.thresholds import (
    ClassThresholds,
    ObjectDetections,
    Requirements,
    fit,
    held_out_errors,
    least_areas,
    object_detections,
    stack,
)
from synthaug.pipeline.verification.verdicts import EXTRA, KEPT, LEAST_IOU, LEAST_SCORE, verdicts
from tests.imperfect_detector import TOY, TOY_THINGS, detect, image

CAR, BUS, SKY = range(3)
THINGS = np.array([True, True, False])
PLACE = [10, 10, 30, 30]
ANY = Requirements(recall=0.9, min_recall=0.5, min_truths=10)


@pytest.fixture(scope="module")
def rows():
    return [detect(index) for index in range(len(TOY))]


def scored(label, scores):
    """Return an image per score, with one object of a class and its detection."""
    return [image([(label, PLACE)], [(label, PLACE, score)]) for score in scores]


# ---- detections of true objects ----


def test_detections_belong_to_the_objects_of_their_own_image():
    rows = [
        image([(CAR, PLACE), (SKY, PLACE)], [(CAR, PLACE, 0.5), (BUS, PLACE, 0.9)]),
        image([], [(CAR, PLACE, 0.6)]),
        image([(BUS, PLACE), (CAR, PLACE)], [(CAR, PLACE, 0.7), (CAR, [10, 10, 30, 20], 0.8)]),
    ]
    detections = object_detections(rows, THINGS)
    assert detections.label.tolist() == [CAR, BUS, CAR]
    assert detections.owner.tolist() == [0, 2, 2]
    np.testing.assert_allclose(detections.score, [0.5, 0.7, 0.8], rtol=1e-6)
    np.testing.assert_allclose(detections.iou, [1, 1, 0.5])
    cars = detections.of(detections.label == CAR)
    assert cars.owner.tolist() == [0, 1, 1]
    assert cars.passing(0.6, 0.9) == 0.5
    assert cars.passing(0.75, 0.9) == 0, "no single detection reaches both"
    assert cars.passing(0.75, 0.4) == 0.5


def test_crowds_are_no_true_objects():
    rows = [image([(CAR, PLACE)], [(CAR, PLACE, 0.5)], crowd=(0,))]
    detections = object_detections(rows, THINGS)
    assert not len(detections.label)
    assert detections.passing(0.1, 0.1) == 0


def test_the_best_detection_is_the_one_that_is_sure_and_well_placed():
    detections = ObjectDetections(
        np.array([CAR, CAR]),
        np.array([0, 0, 0]),
        np.array([0.9, 0.6, 0.2]),
        np.array([0.2, 0.9, 1]),
    )
    assert detections.best().tolist() == [[0.6, 0.9], [0, 0]]


# ---- fit ----


def test_thresholds_are_the_highest_that_let_the_required_share_pass(rows):
    detections = object_detections(rows, TOY_THINGS)
    for label, own in enumerate(fit(rows, TOY_THINGS, ANY)):
        of_class = detections.of(detections.label == label)
        if own.basis == "class":
            assert 0.9 <= of_class.passing(own.score, own.iou) <= 0.9 + 0.11
            assert own.truths == len(of_class.label) >= ANY.min_truths
        assert own.judged == (TOY_THINGS[label] and len(of_class.label) > 0)


def test_scores_of_perfectly_placed_detections_give_their_quantile():
    """With one detection per object at IoU 1 the threshold is the lower quantile of the scores."""
    scores = np.linspace(0.2, 0.99, 42).astype(np.float32)
    own = fit(scored(CAR, scores), THINGS, ANY)[CAR]
    expected = float(np.quantile(scores.astype(np.float64), 0.1, method="lower"))
    assert own.score == pytest.approx(expected)
    assert own.iou == 1


def test_each_class_gets_the_thresholds_of_its_own_objects():
    sure = np.linspace(0.8, 0.9, 20)
    unsure = np.linspace(0.3, 0.4, 20)
    car, bus, sky = fit(scored(CAR, sure) + scored(BUS, unsure), THINGS, ANY)
    assert 0.79 < car.score < 0.9
    assert 0.29 < bus.score < 0.4
    assert not sky.judged
    thresholds = stack([car, bus, sky], THINGS, np.zeros(3))
    middling = [
        verdicts(image([(label, PLACE)], [(label, PLACE, 0.6)]), thresholds).verdict[0]
        for label in (CAR, BUS, SKY)
    ]
    assert middling == ["doubtful", KEPT, None]


def test_a_class_with_few_objects_takes_the_thresholds_of_all_classes_together():
    rows = scored(CAR, np.linspace(0.8, 0.9, 20)) + scored(BUS, [0.3] * 9)
    car, bus, _ = fit(rows, THINGS, ANY)
    assert (car.basis, bus.basis) == ("class", "pooled")
    assert (car.truths, bus.truths) == (20, 9)
    assert bus.score == pytest.approx(0.3), "a tenth of all objects would fail any higher one"
    assert bus.judged


def test_a_class_the_detector_does_not_know_is_not_judged(rows):
    deaf = [replace(r, pred_scores=np.where(r.pred_labels == 0, 0.01, r.pred_scores)) for r in rows]
    fitted = fit(deaf, TOY_THINGS, Requirements())
    assert not fitted[0].judged
    assert fitted[0].reached == 0
    assert fitted[1].judged


def test_without_any_validation_image_nothing_is_judged():
    fitted = fit([], THINGS, Requirements())
    assert [own.judged for own in fitted] == [False] * 3
    assert {(own.score, own.iou, own.confident) for own in fitted} == {
        (LEAST_SCORE, LEAST_IOU, None)
    }
    thresholds = stack(fitted, THINGS, least_areas({}, 3, 0.5))
    result = verdicts(image([(CAR, PLACE)], [(BUS, PLACE, 1.0)]), thresholds)
    assert result.verdict == (None,)
    assert not len(result.extra)


def test_extra_detections_need_a_score_at_which_enough_are_right_and_the_threshold():
    def own(score, confident):
        return ClassThresholds(score, 0.5, confident, True, "class", 20, 1.0)

    thresholds = stack([own(0.6, 0.8), own(0.6, 0.4), own(0.6, None)], THINGS, np.zeros(3))
    assert thresholds.confident.tolist() == [0.8, 0.6, np.inf]
    assert thresholds.score.tolist() == [0.6] * 3


def test_thresholds_come_back_from_the_manifest():
    own = ClassThresholds(0.6, 0.5, None, True, "class", 20, 1.0)
    assert ClassThresholds(**own.to_json()) == own


# ---- areas ----


def test_too_small_is_a_part_of_the_smallest_labelled_boxes():
    areas = {CAR: np.linspace(0.1, 0.2, 101).tolist(), BUS: [0.5]}
    least = least_areas(areas, 3, 0.5)
    assert least.tolist() == pytest.approx([0.5 * 0.101, 0.25, 0.5 * 0.101002], rel=1e-2)


def test_without_labelled_boxes_nothing_is_too_small():
    assert least_areas({}, 2, 0.5).tolist() == [0, 0]


# ---- error rates ----


def test_error_rates_are_those_of_images_the_thresholds_were_not_fitted_on(rows):
    least = np.full(len(TOY_THINGS), 0.005)
    errors = held_out_errors(rows, TOY_THINGS, least, Requirements(recall=0.9), seed=0)
    true = list(errors["true"].values())
    rejected = 1 - sum(n[KEPT] for n in true) / sum(sum(n.values()) for n in true)
    assert 0.05 < rejected < 0.2
    assert set(errors["planted"]) == set(KINDS)
    for kind, n in errors["planted"].items():
        assert n["planted"] > 50, kind
        assert n["accepted"] <= (0.15 if kind == EXTRA else 0.05) * n["planted"], kind
        assert n["named"] >= 0.7 * n["planted"], kind
    assert errors == held_out_errors(rows, TOY_THINGS, least, Requirements(recall=0.9), seed=0)


def test_rows_with_the_areas_of_masks_are_judged_alike(rows):
    """What is injected has no mask, and an error may add a label or take one away."""
    some = rows[:20]
    masked = [replace(row, area=np.ones(len(row.labels), np.float32)) for row in some]
    errors = [
        held_out_errors(images, TOY_THINGS, np.full(len(TOY_THINGS), 0.005), ANY, seed=1)
        for images in (some, masked)
    ]
    assert errors[0] == errors[1]


def test_no_fold_sees_its_own_images(rows, monkeypatch):
    """Every image is judged by thresholds of all images but its fold, and once as it is."""
    some = rows[:23]
    own_fit, own_verdicts = verification_thresholds.fit, verification_thresholds.verdicts
    fitted_on: list[set[int]] = []
    judged: list[int] = []

    def fit_and_note(others, *arguments):
        fitted_on.append({row.index for row in others})
        return own_fit(others, *arguments)

    def judge_and_note(row, thresholds):
        if row is some[row.index]:  # and not one with an injected error
            judged.append(row.index)
        assert row.index not in fitted_on[-1]
        return own_verdicts(row, thresholds)

    monkeypatch.setattr(verification_thresholds, "fit", fit_and_note)
    monkeypatch.setattr(verification_thresholds, "verdicts", judge_and_note)
    errors = held_out_errors(some, TOY_THINGS, np.full(len(TOY_THINGS), 0.005), ANY, seed=4)
    assert errors["folds"] == len(fitted_on) == 5
    assert sorted(judged) == list(range(23))
    assert {len(others) for others in fitted_on} == {18, 19}


def test_one_image_is_too_few_to_hold_any_out(rows):
    errors = held_out_errors(rows[:1], TOY_THINGS, np.zeros(len(TOY_THINGS)), ANY, seed=0)
    assert errors == {"folds": 0, "true": {}, "planted": {}, "extra": 0, "images": 1}


def test_a_perfect_detector_errs_nowhere():
    rows = []
    for index in range(30):
        row = detect(index, misses=0, noise=0)
        rows.append(replace(row, pred_scores=np.ones_like(row.pred_scores)))
    errors = held_out_errors(rows, TOY_THINGS, np.zeros(len(TOY_THINGS)), ANY, seed=0)
    assert errors["extra"] == 0
    duplicates_in_truth = 0.02  # things cover each other in toy scenes
    for counted in errors["true"].values():
        assert counted[KEPT] >= (1 - duplicates_in_truth) * sum(counted.values())
    for kind, counted in errors["planted"].items():
        if kind != EXTRA:
            assert counted["accepted"] == 0, kind


def test_two_of_two_do_not_show_that_the_detector_finds_a_class():
    """The lower bound of the share found decides: 0.34 for two of two, 0.51 for four of four."""
    _, few, _ = fit(scored(BUS, [0.9] * 2), THINGS, ANY)
    assert few.reached == 1
    assert not few.judged
    assert fit(scored(BUS, [0.9] * 4), THINGS, ANY)[BUS].judged

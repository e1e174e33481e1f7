"""Verdicts on constructed images, with detections of which each is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.pipeline.scores.detection.evaluator import overlaps
from synthaug.pipeline.verification.verdicts import (
    DOUBTFUL,
    DUPLICATE,
    DUPLICATE_IOU,
    KEPT,
    MISPLACED,
    MISSING,
    SWAPPED,
    TOO_SMALL,
    Thresholds,
    on_synthetic,
    verdicts,
)
from tests.imperfect_detector import image

CLASSES = 3
THINGS = np.array([True, True, False])
THRESHOLDS = Thresholds(
    score=np.array([0.4, 0.4, 0.4]),
    iou=np.array([0.5, 0.5, 0.5]),
    confident=np.array([0.8, np.inf, 0.8]),
    least_area=np.array([0.001, 0.001, 0.001]),
    judged=np.array([True, True, False]),
    things=THINGS,
)
CAR, BUS, SKY = range(CLASSES)
PLACE = [10, 10, 30, 30]


@pytest.mark.parametrize(
    ("objects", "found", "expected", "extra"),
    [
        ([(CAR, PLACE)], [(CAR, PLACE, 0.9)], [KEPT], 0),
        ([(CAR, PLACE)], [], [MISSING], 0),
        ([(CAR, PLACE)], [(CAR, PLACE, 0.3)], [DOUBTFUL], 0),
        ([(CAR, PLACE)], [(CAR, PLACE, 0.04)], [MISSING], 0),
        ([(CAR, PLACE)], [(CAR, [24, 10, 44, 30], 0.3)], [MISSING], 0),
        ([(CAR, PLACE), (CAR, [20, 10, 40, 30])], [(CAR, PLACE, 0.9)], [KEPT, DOUBTFUL], 0),
        ([(CAR, PLACE), (CAR, [24, 10, 44, 30])], [(CAR, PLACE, 0.9)], [KEPT, MISSING], 0),
        ([(CAR, PLACE)], [(BUS, PLACE, 0.9)], [SWAPPED], 0),
        ([(CAR, PLACE)], [(CAR, PLACE, 0.3), (BUS, PLACE, 0.9)], [SWAPPED], 0),
        ([(CAR, PLACE)], [(CAR, [22, 10, 42, 30], 0.9)], [MISPLACED], 0),
        ([(CAR, PLACE)], [(CAR, [29, 29, 49, 49], 0.9)], [MISSING], 1),
        ([(CAR, PLACE), (CAR, [11, 10, 31, 30])], [(CAR, PLACE, 0.9)], [KEPT, DUPLICATE], 0),
        (
            [(CAR, PLACE), (CAR, [10, 20, 30, 40])],
            [(CAR, [10, 10, 30, 40], 0.9)],
            [KEPT, DUPLICATE],
            0,
        ),
        (
            [(CAR, PLACE), (CAR, [11, 10, 31, 30])],
            [(CAR, PLACE, 0.9), (CAR, [12, 8, 32, 26], 0.5)],
            [KEPT, DUPLICATE],
            0,
        ),
        ([], [(SKY, [0, 0, 100, 50], 0.95)], [], 0),
        ([(CAR, PLACE), (BUS, PLACE)], [(CAR, PLACE, 0.9), (BUS, PLACE, 0.9)], [KEPT, KEPT], 0),
        ([(CAR, [10, 10, 12, 12])], [(CAR, [10, 10, 30, 30], 0.9)], [TOO_SMALL], 1),
        ([(CAR, [10, 10, 12, 12])], [(CAR, [10, 10, 12, 12], 0.9)], [KEPT], 0),
        ([(SKY, [0, 0, 100, 50]), (CAR, PLACE)], [(CAR, PLACE, 0.9)], [None, KEPT], 0),
        ([(SKY, PLACE)], [(CAR, PLACE, 0.9)], [None], 1),
        (
            [],
            [(CAR, PLACE, 0.9), (CAR, [50, 50, 70, 70], 0.7), (BUS, [50, 50, 70, 70], 0.99)],
            [],
            1,
        ),
    ],
)
def test_constructed_images(objects, found, expected, extra):
    result = verdicts(image(objects, found), THRESHOLDS)
    assert list(result.verdict) == expected
    assert len(result.extra) == extra


def test_a_crowd_is_not_judged_and_explains_what_lies_in_it():
    result = verdicts(
        image([(CAR, [0, 0, 60, 60])], [(CAR, PLACE, 0.9), (BUS, PLACE, 0.9)], crowd=(0,)),
        THRESHOLDS,
    )
    assert result.verdict == (None,)
    assert not len(result.extra)
    assert np.isnan(result.score).all()


def test_the_score_is_that_of_the_detection_the_verdict_rests_on():
    found = [(CAR, PLACE, 0.9), (BUS, [40, 40, 60, 60], 0.6), (CAR, [70, 70, 90, 90], 0.25)]
    objects = [
        (CAR, PLACE),
        (CAR, [40, 40, 60, 60]),
        (CAR, [70, 70, 90, 90]),
        (CAR, [0, 60, 20, 80]),
    ]
    result = verdicts(image(objects, found), THRESHOLDS)
    assert result.verdict == (KEPT, SWAPPED, DOUBTFUL, MISSING)
    assert result.score.tolist() == pytest.approx([0.9, 0.6, 0.25, 0.0])


def test_the_region_of_a_misplaced_object_holds_label_and_find():
    result = verdicts(image([(CAR, PLACE)], [(CAR, [22, 12, 42, 32], 0.9)]), THRESHOLDS)
    assert result.region.tolist() == [[10, 10, 42, 32]]


def test_the_region_of_a_doubtful_object_is_its_own_box():
    """What it rests on may be a neighbour, which is no reason to ignore that one too."""
    result = verdicts(
        image([(CAR, PLACE), (CAR, [20, 10, 40, 30])], [(CAR, PLACE, 0.9)]), THRESHOLDS
    )
    assert result.region.tolist() == [PLACE, [20, 10, 40, 30]]


boxes = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(5, 40)] * 2).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


def _iou(a, b):
    return overlaps(np.array([a], np.float32), np.array([b], np.float32), np.zeros(1, bool))[0, 0]


things = st.lists(st.tuples(st.sampled_from([CAR, BUS]), boxes), max_size=6)


@settings(deadline=None)
@given(things, st.randoms(use_true_random=False))
def test_a_perfect_detector_keeps_every_object_in_any_order(objects, random):
    found = [(label, box, 0.9) for label, box in objects]
    random.shuffle(found)
    result = verdicts(image(objects, found), THRESHOLDS)
    assert set(result.verdict) <= {KEPT, DUPLICATE}
    for place, verdict in enumerate(
        result.verdict
    ):  # what is labelled twice is the only thing wrong
        twins = [
            box
            for label, box in objects
            if label == objects[place][0] and _iou(box, objects[place][1]) >= DUPLICATE_IOU
        ]
        assert verdict == KEPT or len(twins) > 1


@settings(deadline=None)
@given(things, things)
def test_no_detection_speaks_for_two_objects(objects, found):
    result = verdicts(image(objects, [(label, box, 0.9) for label, box in found]), THRESHOLDS)
    for label in (CAR, BUS):
        kept = sum(
            v == KEPT and o[0] == label for v, o in zip(result.verdict, objects, strict=True)
        )
        assert kept <= sum(f[0] == label for f in found)


def test_an_image_without_labels_and_without_detections_has_no_verdicts():
    result = verdicts(image([], []), THRESHOLDS)
    assert result.verdict == ()
    assert result.score.shape == (0,)
    assert result.region.shape == (0, 4)
    assert not len(result.extra)


def test_each_class_has_its_own_thresholds():
    """A detection is measured by its own class when it names another one, by the label's class
    else.
    """
    own = Thresholds(
        score=np.array([0.9, 0.2, 0.4]),
        iou=np.array([0.9, 0.3, 0.5]),
        confident=THRESHOLDS.confident,
        least_area=THRESHOLDS.least_area,
        judged=np.array([True, True, False]),
        things=THINGS,
    )
    half = [10, 10, 30, 20]  # IoU 0.5 with PLACE
    cases = [
        (CAR, (CAR, PLACE, 0.5), DOUBTFUL),  # too unsure for a car
        (BUS, (BUS, PLACE, 0.5), KEPT),
        (CAR, (CAR, half, 0.95), MISPLACED),  # too badly placed for a car
        (BUS, (BUS, half, 0.95), KEPT),
        (CAR, (BUS, half, 0.5), SWAPPED),  # good enough for the bus that it says it is
        (BUS, (CAR, half, 0.5), MISSING),  # not good enough for a car
    ]
    for label, detection, expected in cases:
        result = verdicts(image([(label, PLACE)], [detection]), own)
        assert result.verdict == (expected,), (label, detection)


def test_extra_detections_come_best_first_and_only_confident_ones():
    found = [
        (CAR, [0, 0, 10, 10], 0.85),
        (CAR, [20, 0, 30, 10], 0.95),
        (CAR, [40, 0, 50, 10], 0.79),
    ]
    assert verdicts(image([], found), THRESHOLDS).extra.tolist() == [1, 0]


def test_objects_that_a_person_labelled_are_not_judged_in_an_edited_image():
    apart = [40, 10, 60, 30]
    result = verdicts(image([(CAR, PLACE), (CAR, apart)], []), THRESHOLDS)
    assert (MISSING, MISSING) == result.verdict
    made = on_synthetic(result, ("human", "synthetic"))
    assert (None, MISSING) == made.verdict
    assert np.isnan(made.score[0]) and made.score[1] == 0
    assert np.isnan(made.iou[0]) and made.iou[1] == 0
    assert np.array_equal(made.region, result.region)


def test_the_iou_is_that_of_object_and_detection_the_verdict_rests_on():
    objects = [
        (CAR, PLACE),
        (CAR, [40, 10, 60, 30]),
        (SKY, [0, 0, 100, 50]),
        (CAR, [70, 10, 90, 30]),
    ]
    found = [(CAR, [10, 10, 30, 28], 0.9), (CAR, [52, 10, 72, 30], 0.9)]
    result = verdicts(image(objects, found), THRESHOLDS)
    assert (KEPT, MISPLACED, None, MISSING) == result.verdict
    np.testing.assert_allclose(result.iou, [0.9, 0.25, np.nan, 0], atol=1e-6)
    nothing = verdicts(image(objects, []), THRESHOLDS)
    np.testing.assert_allclose(nothing.iou, [0, 0, np.nan, 0])


def test_a_small_object_is_small_by_its_share_of_a_wide_image():
    """Ten by ten pixels are 0.005 of an image of 100 x 200, and 0.01 of a square of its height."""
    row = replace(image([(CAR, [10, 10, 20, 20])], []), width=200)
    limits = replace(THRESHOLDS, least_area=np.full(3, 0.007))
    assert verdicts(row, limits).verdict == (TOO_SMALL,)
    assert verdicts(replace(row, width=100), limits).verdict == (MISSING,)


@pytest.mark.parametrize(
    ("least", "shift", "expected"),
    [(0.3, 8, DUPLICATE), (0.5, 8, DOUBTFUL), (0.9, 6, DUPLICATE), (0.9, 8, DOUBTFUL)],
)
def test_a_detection_explains_a_twin_from_half_on_and_from_less_where_the_class_asks_for_less(
    least, shift, expected
):
    """Boxes of 20 pixels shifted by 8 have an IoU of 0.43, by 6 of 0.54."""
    objects = [(CAR, PLACE), (CAR, [10 + shift, 10, 30 + shift, 30])]
    bars = replace(THRESHOLDS, iou=np.array([least, 0.5, 0.5]))
    result = verdicts(image(objects, [(CAR, PLACE, 0.9)]), bars)
    assert result.verdict == (KEPT, expected)

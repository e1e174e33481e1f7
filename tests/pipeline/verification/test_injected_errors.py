"""Each injected error is what its name says, and changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.scores.detection.evaluator import overlaps
from synthaug.pipeline.verification.injected_errors import FREE_IOU, KINDS, SHIFTED_IOU, inject
from synthaug.pipeline.verification.verdicts import (
    DUPLICATE,
    EXTRA,
    KEPT,
    MISPLACED,
    MISSING,
    SWAPPED,
    TOO_SMALL,
    Thresholds,
    verdicts,
)
from tests.imperfect_detector import TOY, TOY_THINGS, detect, image

COUNT = len(TOY_THINGS)
ALL = Thresholds(
    score=np.full(COUNT, 0.4),
    iou=np.full(COUNT, 0.5),
    confident=np.full(COUNT, 0.8),
    least_area=np.full(COUNT, 0.004),
    judged=TOY_THINGS,
    things=TOY_THINGS,
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_injected_error_is_what_its_name_says(kind):
    """Against a detector that sees exactly what is there, each error gets its name and nothing else
    changes.
    """
    count = found = 0
    for index in range(40):
        perfect = replace(
            detect(index, 0, 0),
            pred_scores=np.ones(int(TOY[index].objects.isthing.sum()), np.float32),
        )
        donor = detect((index + 7) % 40)
        error = inject(perfect, donor, kind, ALL, rng_for("test", kind, index))
        if error is None:
            continue
        count += 1
        wrong = replace(perfect, boxes=error.boxes, labels=error.labels, crowd=error.crowd)
        result = verdicts(wrong, ALL)
        failed = [(place, v) for place, v in enumerate(result.verdict) if v not in (KEPT, None)]
        if kind == EXTRA:
            found += len(result.extra)  # one that another object covers is explained by that
            assert not failed
        else:
            assert [verdict for _, verdict in failed] == [kind]
            assert failed[0][0] in error.indices
    assert count >= 30
    assert kind != EXTRA or found >= 0.8 * count


@pytest.mark.parametrize("kind", KINDS)
def test_the_labels_that_are_changed_are_a_copy_and_only_one_is_wrong(kind):
    row, donor = detect(3), detect(4)
    boxes, labels = row.boxes.copy(), row.labels.copy()
    error = inject(row, donor, kind, ALL, rng_for("one", kind))
    assert error is not None
    np.testing.assert_array_equal(row.boxes, boxes)
    np.testing.assert_array_equal(row.labels, labels)
    added = {MISSING: 1, DUPLICATE: 1, EXTRA: -1}.get(kind, 0)
    assert len(error.boxes) == len(error.labels) == len(error.crowd) == len(boxes) + added
    if added >= 0:
        others = [i for i in range(len(boxes)) if i not in error.indices[:1]]
        np.testing.assert_array_equal(error.boxes[others], boxes[others])
        np.testing.assert_array_equal(error.labels[others], labels[others])


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {MISSING}))
def test_an_image_without_judged_objects_is_left_alone(kind):
    rng = rng_for("none")
    empty = image([], [])
    crowd = image([(0, [1, 1, 50, 50])], [], crowd=(0,))
    unknown = replace(ALL, judged=np.zeros(COUNT, bool))
    for row, thresholds in ((empty, ALL), (crowd, ALL), (detect(3), unknown)):
        assert inject(row, detect(4), kind, thresholds, rng) is None


def test_a_missing_object_is_one_of_the_donor_in_the_size_of_the_image():
    donor = image([(2, [10, 20, 30, 60])], [], size=100)
    error = inject(image([], [], size=200), donor, MISSING, ALL, rng_for("size"))
    assert error is not None
    assert error.box.tolist() == [20, 40, 60, 120]
    assert error.labels.tolist() == [2]
    assert error.indices == (0,)


def test_a_missing_object_lies_where_no_object_of_its_class_is():
    taken = image([(2, [10, 20, 30, 60]), (1, [60, 60, 90, 90])], [])
    donor = image([(2, [10, 20, 30, 60])], [])
    for number in range(20):
        error = inject(taken, donor, MISSING, ALL, rng_for("free", number))
        assert error is not None
        own = taken.boxes[:1]
        assert overlaps(error.box[None], own, np.zeros(1, bool)).max() < FREE_IOU
        assert error.box[:2].min() >= 0 and error.box[2:].max() <= 100


def test_an_image_that_is_full_has_no_room_for_a_missing_object():
    full = image([(2, [0, 0, 100, 100])], [])
    donor = image([(2, [10, 10, 80, 80])], [])
    assert inject(full, donor, MISSING, ALL, rng_for("full")) is None


def test_a_swapped_class_is_a_judged_one_of_which_nothing_is_there():
    place = [10.0, 10.0, 40.0, 40.0]
    row = image([(0, place), (1, place)], [])
    judged = np.array([label in (0, 1, 3) for label in range(COUNT)])
    thresholds = replace(ALL, judged=judged)
    for number in range(10):
        error = inject(row, row, SWAPPED, thresholds, rng_for("swap", number))
        assert error is not None
        (index,) = error.indices
        assert error.labels[index] == 3
        assert error.labels[1 - index] == row.labels[1 - index]
    nothing_else = replace(ALL, judged=np.array([label < 2 for label in range(COUNT)]))
    assert inject(row, row, SWAPPED, nothing_else, rng_for("swap")) is None


def test_a_shifted_box_still_overlaps_its_object():
    row = image([(0, [40, 40, 60, 60])], [])
    for number in range(10):
        error = inject(row, row, MISPLACED, ALL, rng_for("shift", number))
        assert error is not None
        iou = overlaps(error.box[None], row.boxes, np.zeros(1, bool)).max()
        assert SHIFTED_IOU[0] <= iou <= SHIFTED_IOU[1]


def test_a_shrunken_box_has_half_the_least_area_and_the_same_middle():
    row = image([(0, [40, 40, 60, 80])], [])
    error = inject(row, row, TOO_SMALL, ALL, rng_for("small"))
    assert error is not None
    sides = error.box[2:] - error.box[:2]
    assert sides.prod() == pytest.approx(0.5 * 0.004 * 100 * 100, rel=1e-4)
    assert sides[1] == pytest.approx(2 * sides[0], rel=1e-4)
    np.testing.assert_allclose((error.box[:2] + error.box[2:]) / 2, [50, 60], rtol=1e-5)
    none_is_too_small = replace(ALL, least_area=np.zeros(COUNT))
    assert inject(row, row, TOO_SMALL, none_is_too_small, rng_for("small")) is None


def test_the_same_seed_injects_the_same_error():
    for kind in KINDS:
        one, again = (inject(detect(3), detect(4), kind, ALL, rng_for(kind)) for _ in range(2))
        assert one is not None and again is not None
        np.testing.assert_array_equal(one.boxes, again.boxes)

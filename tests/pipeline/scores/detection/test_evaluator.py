"""Average precision of constructed cases, and of random ones against pycocotools."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.card import Metric
from synthaug.pipeline.scores.detection.evaluator import (
    DetectionEvaluator,
    DetectionRow,
    frequency_groups,
    lvis_groups,
    match_at,
    match_row,
)

CATEGORIES = tuple(Category(10 * c + 7, f"class{c}") for c in range(4))
KEYS = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)  # of COCOeval.stats


def row(
    index, boxes=(), labels=(), pred_boxes=(), pred_labels=(), pred_scores=(), crowd=None, **more
):
    return DetectionRow(
        index=index,
        height=200,
        width=200,
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        crowd=np.zeros(len(labels), bool) if crowd is None else np.asarray(crowd, bool),
        pred_boxes=np.asarray(pred_boxes, np.float32).reshape(-1, 4),
        pred_labels=np.asarray(pred_labels, np.int64),
        pred_scores=np.asarray(pred_scores, np.float32),
        **more,
    )


def random_rows(num, rng, classes=3):
    """Jittered truth with misses, false alarms, crowds and tied scores."""
    rows = []
    for index in range(num):
        n = int(rng.integers(0, 6))
        corner = rng.uniform(0, 120, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(4, 110, (n, 2))], axis=1)
        labels = rng.integers(0, classes, n)
        extra = rng.uniform(0, 90, (3, 2))
        guesses = np.concatenate(
            [boxes + rng.normal(0, 4, (n, 4)), np.concatenate([extra, extra + 40], axis=1)]
        )
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        guess_labels = np.concatenate([labels, rng.integers(0, classes, 3)])
        scores = np.round(rng.uniform(0, 1, n + 3), 2)
        rows.append(
            row(index, boxes, labels, guesses, guess_labels, scores, crowd=rng.random(n) < 0.15)
        )
    return rows


def evaluate(rows, classes=None):
    evaluator = DetectionEvaluator(CATEGORIES, classes)
    for one in rows:
        evaluator.add(one)
    return evaluator


def pycocotools_stats(rows, classes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(boxes):
        wide = boxes.astype(np.float64)
        return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1).tolist()

    truth, found = [], []
    for r in rows:
        of_boxes = (r.boxes[:, 2] - r.boxes[:, 0]) * (r.boxes[:, 3] - r.boxes[:, 1])
        area = (of_boxes if r.area is None else r.area).tolist()
        for box, label, crowd, size in zip(
            xywh(r.boxes), r.labels.tolist(), r.crowd.tolist(), area, strict=True
        ):
            record = {
                "id": len(truth) + 1,
                "image_id": r.index + 1,
                "bbox": box,
                "category_id": label + 1,
            }
            truth.append({**record, "iscrowd": int(crowd), "area": size})
        for box, label, score in zip(
            xywh(r.pred_boxes), r.pred_labels.tolist(), r.pred_scores.tolist(), strict=True
        ):
            found.append(
                {"image_id": r.index + 1, "bbox": box, "category_id": label + 1, "score": score}
            )
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": r.index + 1, "height": 200, "width": 200} for r in rows],
        "annotations": truth,
        "categories": [{"id": c + 1, "name": str(c)} for c in classes],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {key: float(number) for key, number in zip(KEYS, run.stats, strict=True)}


def equal(expected, actual):
    """Average recall to the bit.

    Pycocotools adds 2.2e-16 to the denominator of precision: 1 of 1 is 1 - 2.2e-16 there.
    """
    recalls = [key for key in KEYS if key.startswith("AR")]
    same = [expected[key] for key in recalls] == [actual[key] for key in recalls]
    return same and expected == pytest.approx(dict(actual), rel=0, abs=5e-16)


@pytest.mark.parametrize("seed", range(3))
def test_random_detections_score_what_pycocotools_says(seed):
    rows = random_rows(40, np.random.default_rng(seed))
    expected = pycocotools_stats(rows, range(4))
    assert equal(expected, evaluate(rows).result().values)
    assert 0.05 < expected["AP"] < 0.95
    assert expected["AR1"] < expected["AR10"]


def test_crowded_images_empty_ones_and_ties_score_what_pycocotools_says():
    """More than 100 detections of a class in an image, images without truth or detections, many
    equal scores.
    """
    rng = np.random.default_rng(9)
    rows = random_rows(12, rng)
    for index in range(12, 18):
        corner = rng.uniform(0, 150, (40, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 50, (40, 2))], axis=1)
        guesses = np.tile(boxes, (6, 1)) + np.repeat(rng.normal(0, 2, (6, 1)), 40, axis=0)
        labels = rng.integers(0, 2, 40)
        scores = np.round(rng.uniform(0, 1, 240), 1)
        rows.append(
            row(
                index,
                boxes,
                labels,
                guesses,
                np.tile(labels, 6),
                scores,
                crowd=rng.random(40) < 0.1,
            )
        )
    rows += [row(18), row(19, [[0, 0, 9, 9]], [1]), row(20, (), (), [[0, 0, 9, 9]], [1], [0.9])]
    assert max(np.bincount(r.pred_labels).max(initial=0) for r in rows) > 100
    expected = pycocotools_stats(rows, range(4))
    assert equal(expected, evaluate(rows).result().values)
    assert expected["AR10"] < expected["AR100"]
    assert evaluate(rows).result().per_class[1]["gt_images"] == sum(
        (r.labels[~r.crowd] == 1).any() for r in rows
    )


@pytest.mark.parametrize("seed", range(2))
def test_areas_of_masks_split_the_sizes_as_in_pycocotools(seed):
    """Masks fill 2 to 100 % of their boxes, so many objects are of a smaller size than their boxes;
    two lie on the bounds.
    """
    rng = np.random.default_rng(seed)
    by_box = [
        replace(
            one, boxes=one.boxes * np.float32(scale), pred_boxes=one.pred_boxes * np.float32(scale)
        )
        for one, scale in zip(random_rows(40, rng), rng.uniform(1.0, 3.0, 40), strict=True)
    ]
    of_boxes = [(r.boxes[:, 2:] - r.boxes[:, :2]).prod(axis=1) for r in by_box]
    rows = [
        replace(r, area=np.floor(area * rng.uniform(0.02, 1.0, len(area))).astype(np.float32))
        for r, area in zip(by_box, of_boxes, strict=True)
    ]
    full = [r.area for r in rows if len(r.area) and not r.crowd[0]]
    full[0][0], full[1][0] = 32**2, 96**2  # COCO counts an object on a bound on both sides
    bounds = [0, 32**2, 96**2]
    groups = [
        np.searchsorted(bounds, np.concatenate(areas))
        for areas in ([r.area for r in rows], of_boxes)
    ]
    assert (groups[0] < groups[1]).sum() > 20
    assert np.bincount(groups[0])[1:].min() > 5  # small, medium and large ones are there
    expected = pycocotools_stats(rows, range(4))
    assert equal(expected, evaluate(rows).result().values)
    boxes_only = evaluate(by_box).result().values
    assert all(
        expected[key] != boxes_only[key] for key in ("APs", "APm", "APl", "ARs", "ARm", "ARl")
    )
    assert all(
        expected[key] == boxes_only[key] for key in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
    )


def test_matching_at_several_thresholds_is_matching_at_each():
    for one in random_rows(10, np.random.default_rng(6)):
        several = match_at(one, range(3), (0.5, 0.75, 0.9), floor=0.2)
        np.testing.assert_array_equal(
            several, [match_row(one, range(3), iou, 0.2) for iou in (0.5, 0.75, 0.9)]
        )


def test_order_of_arrival_does_not_matter():
    rows = random_rows(20, np.random.default_rng(5))
    assert evaluate(rows).result() == evaluate(rows[::-1]).result()


def test_a_hand_made_case_has_the_ap_of_its_curve():
    """Hit, false alarm, hit: precision 1 up to recall 1/2 (51 points), 2/3 beyond (50 points)."""
    near, far = (10, 10, 50, 50), (100, 100, 150, 150)
    one = row(0, [near, far], [0, 0], [near, (60, 60, 90, 90), far], [0, 0, 0], [0.9, 0.8, 0.7])
    assert (
        pytest.approx(evaluate([one]).result().values["AP"], abs=1e-12) == (51 + 50 * 2 / 3) / 101
    )


def test_truth_as_prediction_is_perfect_and_the_first_object_counts():
    one = row(0, [(10, 10, 50, 50)], [1], [(10, 10, 50, 50)], [1], [0.9])
    result = evaluate([one]).result()
    assert tuple(result.values[key] for key in ("AP", "AP50", "AR100")) == (1.0, 1.0, 1.0)
    assert result.per_class[1]["AP75"] == 1.0
    assert result.per_class[1]["gt"] == 1


def test_no_detections_are_zero_and_no_truth_is_none():
    found_nothing = evaluate([row(0, [(10, 10, 50, 50)], [1]), row(1)]).result()
    assert (found_nothing.values["AP"], found_nothing.values["AP50"], found_nothing.num_gt) == (
        0.0,
        0.0,
        1,
    )
    assert found_nothing.per_class[0]["AP"] is None
    no_truth = evaluate([row(0, (), (), [(10, 10, 50, 50)], [1], [0.5])]).result()
    assert {None} == set(no_truth.values.values())
    assert {None} == set(evaluate([]).result().values.values())


def test_only_crowds_are_no_truth():
    crowds = evaluate(
        [row(0, [(10, 10, 90, 90)], [1], [(10, 10, 90, 90)], [1], [0.5], crowd=[True])]
    ).result()
    assert (crowds.values["AP"], crowds.num_gt) == (None, 0)


def test_a_hundred_detections_of_a_class_are_kept_the_best_ones():
    """In the rows that intervals are drawn from, too."""
    many = np.tile([[0, 0, 9, 9]], (103, 1))
    scores = np.linspace(0.1, 0.9, 103)
    evaluator = DetectionEvaluator(CATEGORIES)
    evaluator.add(row(0, [[0, 0, 9, 9]], [1], many, [1] * 101 + [2] * 2, scores))
    (kept,) = evaluator.rows()
    assert [100, 2] == [int((kept.pred_labels == label).sum()) for label in (1, 2)]
    assert np.float32(0.1) not in kept.pred_scores


def test_classes_left_out_touch_nothing():
    rows = random_rows(30, np.random.default_rng(1))
    everything, part = evaluate(rows).result(), evaluate(rows, [0, 2]).result()
    assert list(part.per_class) == [0, 2]
    assert everything.per_class[2] == part.per_class[2]
    assert part.values["AP50"] == pytest.approx(everything.mean_over([0, 2], "AP50"))
    assert everything.mean_over([3], "AP50") is None  # class 3 has no truth
    assert everything.mean_over([2, 3], "AP50") == everything.per_class[2]["AP50"]


def test_mask_areas_decide_the_size_group():
    one = {
        "boxes": [(0, 0, 100, 100)],
        "labels": [0],
        "pred_boxes": [(0, 0, 100, 100)],
        "pred_labels": [0],
    }
    by_box = evaluate([row(0, **one, pred_scores=[0.9])]).result().values
    by_mask = (
        evaluate([row(0, **one, pred_scores=[0.9], area=np.array([500.0], np.float32))])
        .result()
        .values
    )
    assert (by_box["APs"], by_box["APl"]) == (None, 1.0)
    assert (by_mask["APs"], by_mask["APl"]) == (1.0, None)


def test_a_score_that_is_nan_and_an_image_added_twice_are_refused():
    with pytest.raises(AssertionError, match="not finite"):
        row(0, (), (), [(0, 0, 9, 9)], [0], [np.nan])
    evaluator = evaluate([row(3)])
    with pytest.raises(AssertionError, match="twice"):
        evaluator.add(row(3))
    evaluator.add(row(3, sample=1))


def test_matches_of_hand_made_boxes():
    """Class 0: hit, duplicate, hit with a low score, wrong class. Class 1: two on a crowd."""
    a, b, c, crowd = (0, 0, 40, 40), (60, 60, 90, 90), (100, 0, 140, 40), (0, 100, 200, 200)
    one = row(
        0,
        [a, b, c, crowd],
        [0, 0, 1, 1],
        [a, (2, 2, 42, 42), b, c, (20, 120, 60, 160), (150, 150, 199, 199)],
        [0, 0, 0, 0, 1, 1],
        [0.9, 0.8, 0.3, 0.7, 0.9, 0.6],
        crowd=[False, False, False, True],
    )
    HIT, FALSE, NEITHER = 1, 0, -1
    expected = [HIT, FALSE, HIT, FALSE, NEITHER, NEITHER]
    assert expected == match_row(one, range(2), 0.5).tolist()
    below = [HIT, FALSE, NEITHER, FALSE, NEITHER, NEITHER]
    assert below == match_row(one, range(2), 0.5, floor=0.5).tolist()


def test_frequency_groups_by_share_of_the_largest_and_by_lvis():
    counts = [800, 400, 399, 100, 99, 1, 0]
    assert frequency_groups(counts) == {
        "head": [0, 1],
        "middle": [2, 3],
        "tail": [4, 5],
        "unseen": [6],
    }
    assert frequency_groups([0]) == {"head": [], "middle": [], "tail": [], "unseen": [0]}
    assert lvis_groups([1, 10, 11, 100, 101, 0]) == {
        "rare": [0, 1],
        "common": [2, 3],
        "frequent": [4],
        "unseen": [5],
    }


def test_a_metric_is_plain_json_and_nan_is_null():
    metric = Metric(
        "dap",
        float("nan"),
        values={"AP": np.float32(0.5), "AP50": None},
        per_class={"cell": {"AP50": float("inf")}},
        card={"size": (64, 64), "scores": np.arange(2), "weights": {"sha256": "ab"}},
        controls={"real": {"AP": 0.75}},
    )
    record = metric.to_json()
    assert record == json.loads(json.dumps(record, allow_nan=False))
    assert (metric.value, metric.values["AP"], metric.per_class["cell"]["AP50"]) == (
        None,
        0.5,
        None,
    )
    assert metric.card["size"] == [64, 64]
    with pytest.raises(AssertionError, match="no object"):
        Metric("dap", 0.0, card={"thing": object()})

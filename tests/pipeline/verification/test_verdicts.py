"""Verdicts on constructed images and on planted faults, with detectors whose every answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification import injected_errors as planted
from synthaug.pipeline.verification import thresholds as verification_bars
from synthaug.pipeline.verification.thresholds import Demand, learn, sightings
from synthaug.pipeline.verification.verdicts import (
    DOUBTFUL,
    DUPLICATE,
    EXTRA,
    KEPT,
    MISPLACED,
    MISSING,
    SWAPPED,
    TOO_SMALL,
    TWIN,
    Bars,
    judge,
)

CLASSES = 3
THINGS = np.array([True, True, False])
BARS = Bars(
    score=np.array([0.4, 0.4, 0.4]),
    iou=np.array([0.5, 0.5, 0.5]),
    confident=np.array([0.8, np.inf, 0.8]),
    least_area=np.array([0.001, 0.001, 0.001]),
    judged=np.array([True, True, False]),
    things=THINGS,
)
CAR, BUS, SKY = range(CLASSES)
PLACE = [10, 10, 30, 30]


def row(objects, found, crowd=()):
    """objects: (class, box); found: (class, box, score)."""
    return DetectionRow(
        0,
        100,
        100,
        np.array([box for _, box in objects], np.float32).reshape(-1, 4),
        np.array([label for label, _ in objects], np.int64),
        np.array([i in crowd for i in range(len(objects))], bool),
        np.array([box for _, box, _ in found], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in found], np.int64),
        np.array([score for _, _, score in found], np.float32),
    )


@pytest.mark.parametrize(
    ("objects", "found", "verdicts", "extra"),
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
def test_constructed_images(objects, found, verdicts, extra):
    judged = judge(row(objects, found), BARS)
    assert list(judged.verdict) == verdicts
    assert len(judged.extra) == extra


def test_a_crowd_is_not_judged_and_explains_what_lies_in_it():
    judged = judge(
        row([(CAR, [0, 0, 60, 60])], [(CAR, PLACE, 0.9), (BUS, PLACE, 0.9)], crowd=(0,)), BARS
    )
    assert judged.verdict == (None,)
    assert not len(judged.extra)
    assert np.isnan(judged.score).all()


def test_the_score_is_that_of_the_detection_the_verdict_rests_on():
    found = [(CAR, PLACE, 0.9), (BUS, [40, 40, 60, 60], 0.6), (CAR, [70, 70, 90, 90], 0.25)]
    objects = [
        (CAR, PLACE),
        (CAR, [40, 40, 60, 60]),
        (CAR, [70, 70, 90, 90]),
        (CAR, [0, 60, 20, 80]),
    ]
    judged = judge(row(objects, found), BARS)
    assert judged.verdict == (KEPT, SWAPPED, DOUBTFUL, MISSING)
    assert judged.score.tolist() == pytest.approx([0.9, 0.6, 0.25, 0.0])


def test_the_region_of_a_misplaced_object_holds_label_and_find():
    judged = judge(row([(CAR, PLACE)], [(CAR, [22, 12, 42, 32], 0.9)]), BARS)
    assert judged.region.tolist() == [[10, 10, 42, 32]]


def test_the_region_of_a_doubtful_object_is_its_own_box():
    """What it rests on may be a neighbour, which is no reason to ignore that one too."""
    judged = judge(row([(CAR, PLACE), (CAR, [20, 10, 40, 30])], [(CAR, PLACE, 0.9)]), BARS)
    assert judged.region.tolist() == [PLACE, [20, 10, 40, 30]]


boxes = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(5, 40)] * 2).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


def _iou(a, b):
    return overlaps(np.array([a], np.float32), np.array([b], np.float32), np.zeros(1, bool))[0, 0]


things = st.lists(st.tuples(st.sampled_from([CAR, BUS]), boxes), max_size=6)


@given(things, st.randoms(use_true_random=False))
def test_a_perfect_detector_keeps_every_object_in_any_order(objects, random):
    found = [(label, box, 0.9) for label, box in objects]
    random.shuffle(found)
    judged = judge(row(objects, found), BARS)
    assert set(judged.verdict) <= {KEPT, DUPLICATE}
    for place, verdict in enumerate(
        judged.verdict
    ):  # what is labelled twice is the only thing wrong
        twins = [
            box
            for label, box in objects
            if label == objects[place][0] and _iou(box, objects[place][1]) >= TWIN
        ]
        assert verdict == KEPT or len(twins) > 1


@given(things, things)
def test_no_detection_speaks_for_two_objects(objects, found):
    judged = judge(row(objects, [(label, box, 0.9) for label, box in found]), BARS)
    for label in (CAR, BUS):
        kept = sum(
            v == KEPT and o[0] == label for v, o in zip(judged.verdict, objects, strict=True)
        )
        assert kept <= sum(f[0] == label for f in found)


# ---- bars and error rates, on the labels of toy scenes and a detector that is good, but not perfect ----

TOY = toy.read(toy.Config("val", 150), Path())
TOY_THINGS = np.array([c.isthing for c in toy.CATEGORIES], bool)


def imperfect(index, misses=0.05, noise=0.04):
    """What a good detector would find in a toy scene: boxes a little off, scores in doubt, a few things missed."""
    rng = rng_for("imperfect", index)
    scene = TOY[index]
    truth = scene.objects
    seen = np.flatnonzero(truth.isthing & (rng.random(len(truth)) >= misses))
    side = np.tile(truth.boxes[seen, 2:] - truth.boxes[seen, :2], 2)
    found = truth.boxes[seen] + (rng.normal(0, noise, (len(seen), 4)) * side).astype(np.float32)
    labels = truth.category.astype(np.int64)
    scores = rng.uniform(0.5, 1, len(seen)).astype(np.float32)
    return DetectionRow(
        index,
        scene.height,
        scene.width,
        truth.boxes,
        labels,
        truth.iscrowd,
        found,
        labels[seen],
        scores,
    )


@pytest.fixture(scope="module")
def rows():
    return [imperfect(i) for i in range(len(TOY))]


def test_bars_are_the_highest_that_let_the_wanted_share_pass(rows):
    demand = Demand(recall=0.9)
    seen = sightings(rows, TOY_THINGS)
    for label, bar in enumerate(learn(rows, TOY_THINGS, demand)):
        own = seen.of(seen.label == label)
        if bar.basis == "class":
            assert 0.9 <= own.passing(bar.score, bar.iou) <= 0.9 + 0.11
            assert bar.truths == len(own.label) >= demand.min_truths
        assert bar.judged == (TOY_THINGS[label] and len(own.label) > 0)


def test_a_class_the_detector_does_not_know_is_not_judged(rows):
    deaf = [replace(r, pred_scores=np.where(r.pred_labels == 0, 0.01, r.pred_scores)) for r in rows]
    bars = learn(deaf, TOY_THINGS, Demand())
    assert not bars[0].judged
    assert bars[0].reached == 0
    assert bars[1].judged


def test_error_rates_are_those_of_images_the_bars_did_not_see(rows):
    least = np.full(len(TOY_THINGS), 0.005)
    errors = verification_bars.held_out(rows, TOY_THINGS, least, Demand(recall=0.9), seed=0)
    true = list(errors["true"].values())
    rejected = 1 - sum(n[KEPT] for n in true) / sum(sum(n.values()) for n in true)
    assert 0.05 < rejected < 0.2
    assert set(errors["planted"]) == set(planted.FAULTS)
    for kind, n in errors["planted"].items():
        assert n["planted"] > 50, kind
        assert n["accepted"] <= (0.15 if kind == EXTRA else 0.05) * n["planted"], kind
        assert n["named"] >= 0.7 * n["planted"], kind
    assert errors == verification_bars.held_out(rows, TOY_THINGS, least, Demand(recall=0.9), seed=0)


@pytest.mark.parametrize("kind", planted.FAULTS)
def test_a_planted_fault_is_what_its_name_says(kind, rows):
    """Against a detector that sees exactly what is there, each planted fault gets its name and nothing else changes."""
    bars = replace(
        BARS,
        **{
            name: np.full(len(TOY_THINGS), value)
            for name, value in (("score", 0.4), ("iou", 0.5), ("confident", 0.8))
        },
        least_area=np.full(len(TOY_THINGS), 0.004),
        judged=TOY_THINGS,
        things=TOY_THINGS,
    )
    count = found = 0
    for index in range(40):
        perfect = replace(
            imperfect(index, 0, 0),
            pred_scores=np.ones(int(TOY[index].objects.isthing.sum()), np.float32),
        )
        fault = planted.plant(
            perfect, rows[(index + 7) % 40], kind, bars, rng_for("test", kind, index)
        )
        if fault is None:
            continue
        count += 1
        judged = judge(
            replace(perfect, boxes=fault.boxes, labels=fault.labels, crowd=fault.crowd), bars
        )
        failed = [(place, v) for place, v in enumerate(judged.verdict) if v not in (KEPT, None)]
        if kind == EXTRA:
            found += len(judged.extra)  # one that another object covers is explained by that
            assert not failed
        else:
            assert [v for _, v in failed] == [kind]
            assert failed[0][0] in fault.places
    assert count >= 30
    assert kind != EXTRA or found >= 0.8 * count

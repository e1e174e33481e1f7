"""Pseudo-labels on the report: numbers of the right class and rule, and both ends of certainty."""

import re

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.report.pseudo_labels import (
    BASES,
    class_row,
    ends,
    held_out_quality,
    histogram,
    reliability,
    rule_rows,
)

PSEUDO = {
    "found": {"car": 30, "tree": 5},
    "objects": {"car": 12, "tree": 1},
    "bins": {"car": [9, 4, 0, 1]},
    "thresholds": {
        "car": {"least": 0.45, "basis": "class"},
        "tree": {"least": None, "basis": "unreached"},
    },
    "quality": {"classes": {"car": {"precision": 0.9, "truth": 20}}},
}
NUMBERS = {"precision": 0.8, "recall": 0.7, "f1": 0.75}
CALIBRATION = {
    "images": 24,
    "classes": {"car": {"truths": 17}, "tree": {"truths": 0}},
    "held_out": {
        "folds": 5,
        "rules": {
            "fixed": {"all": NUMBERS, "macro_f1": 0.5, "classes": {"car": {"precision": 0.1}}},
            "f1": {"all": NUMBERS, "macro_f1": 0.6, "classes": {"car": {"precision": 0.2}}},
        },
        "raw": {"bins": [[0.1, 0.2, 9], [0.9, 0.8, 3]]},
        "calibrated": {"bins": [[0.1, 0.1, 9]]},
    },
}


def test_a_class_has_the_numbers_of_its_own_and_of_the_rule_that_was_used():
    car = class_row("car", PSEUDO, CALIBRATION, "f1")
    assert (car.found, car.kept, car.least, car.truths) == (30, 12, 0.45, 17)
    assert car.basis == BASES["class"]
    assert car.held_out == {"precision": 0.2}
    assert car.truth == {"precision": 0.9, "truth": 20}
    assert class_row("car", PSEUDO, CALIBRATION, "fixed").held_out == {"precision": 0.1}
    tree = class_row("tree", PSEUDO, CALIBRATION, "f1")
    assert tree.least is None
    assert tree.basis == BASES["unreached"]
    assert tree.bins == []


def test_a_class_without_detections_and_truth_is_empty():
    bus = class_row("bus", PSEUDO, CALIBRATION, "f1")
    assert bus.is_empty
    assert not class_row("tree", PSEUDO, CALIBRATION, "f1").is_empty
    nothing = class_row("car", {"objects": {}}, {"classes": {}}, "f1")
    assert nothing.is_empty


def test_a_bin_is_kept_when_any_score_in_it_is():
    bins = histogram([9, 4, 0, 1], 0.45)
    assert [own.x for own in bins] == [0, 0.25, 0.5, 0.75]
    assert [own.kept for own in bins] == [False, True, True, True]
    assert [own.height for own in bins] == pytest.approx([1, 2 / 3, 0, 1 / 3], abs=1e-4)
    assert not any(own.kept for own in histogram([9, 4], None))
    assert histogram([], 0.5) == []
    assert [own.height for own in histogram([0, 0], 0.5)] == [0, 0]


def test_rules_stand_in_one_order_and_the_used_one_is_marked():
    rows = rule_rows(CALIBRATION, "f1")
    assert [(title, used, macro) for title, used, _, macro in rows] == [
        ("one threshold for all", False, 0.5),
        ("highest F1 per class", True, 0.6),
    ]
    assert rule_rows({"held_out": None}, "f1") == []


def test_the_diagram_has_a_line_as_scored_one_calibrated_and_the_ideal():
    svg = reliability(CALIBRATION)
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 1, "of a single bin"
    assert re.findall(r">(as scored|calibrated|ideal)<", svg) == [
        "as scored",
        "calibrated",
        "ideal",
    ]


def test_without_held_out_images_there_is_neither_rule_nor_diagram():
    for calibration in ({}, {"held_out": None}, {"held_out": {"raw": {"bins": []}}}):
        assert reliability(calibration) == ""
    quality = held_out_quality({}, "f1")
    assert (quality["images"], quality["rules"], quality["reliability"]) == (0, [], "")


def test_both_ends_of_certainty_take_turns_over_the_classes():
    categories = (Category(1, "a"), Category(2, "b"), Category(3, "sky", isthing=False))
    scores = [[0.9, 0.5, 1.0], [0.8, 0.6, 0.1], [0.7, 0.4, 0.2]]
    box = [[0, 0, 4, 4]] * 3
    scenes = [
        Scene(str(i), 8, 8, ImageRef(), Objects.build([0, 1, 2], box, score=s))
        for i, s in enumerate(scores)
    ]
    most, least = ends(SceneList(categories, scenes), 4)
    assert [(0, 0.9), (1, 0.6), (0, 0.8), (1, 0.5)] == [
        (c.category, round(c.score, 4)) for c in most
    ]
    assert [(1, 0.4), (0, 0.7), (1, 0.5), (0, 0.8)] == [
        (c.category, round(c.score, 4)) for c in least
    ]
    assert [(0, 0), (1, 1), (1, 0), (0, 1)] == [(c.scene, c.number) for c in most]


def test_where_there_are_no_things_both_ends_are_of_stuff():
    categories = (Category(1, "car"), Category(2, "sky", isthing=False))
    objects = Objects.build([1, 1], [[0, 0, 4, 4]] * 2, score=[0.2, 0.9])
    table = SceneList(categories, [Scene("a", 8, 8, ImageRef(), objects)])
    most, least = ends(table)
    assert [candidate.number for candidate in most] == [1, 0]
    assert [candidate.number for candidate in least] == [0, 1]


def test_of_equal_scores_the_first_in_the_table_come_first_at_both_ends():
    categories = (Category(1, "car"),)
    scenes = [
        Scene(str(k), 8, 8, ImageRef(), Objects.build([0], [[0, 0, 4, 4]], score=np.float32([0.5])))
        for k in range(5)
    ]
    most, least = ends(SceneList(categories, scenes), 3)
    assert [candidate.scene for candidate in most] == [0, 1, 2]
    assert [candidate.scene for candidate in least] == [0, 1, 2]


def test_a_table_without_labels_has_no_ends():
    assert ends(SceneList((Category(1, "car"),), [])) == ([], [])

"""Verification on the page.

Verdicts of their own class, errors of their own kind, every name escaped.
"""

import copy
import re

import pytest

from synthaug.pipeline.report.verification import class_rows, injected_rows, section

THRESHOLDS = {"score": 0.41, "iou": 0.55, "judged": True, "basis": "class"}
MANIFEST = {
    "enabled": True,
    "judge": {"sha256": "a" * 64, "trained_here": True, "measured": {"AP50": 0.567}},
    "images": {"verified": 14, "failed": 1, "empty": 2},
    "kept": {"car": 20, "<b>emu": 3},
    "missing": {"car": 2, "<b>emu": 1},
    "swapped": {"car": 1},
    "misplaced": {},
    "duplicate": {},
    "doubtful": {"<b>emu": 2},
    "too_small": {},
    "not_judged": {"sky": 4},
    "things": ["car", "<b>emu", "kite"],
    "extra": {"kite": 3},
    "objects": {"car": 21, "<b>emu": 5, "sky": 4},
    "bars": {
        "car": THRESHOLDS,
        "<b>emu": {**THRESHOLDS, "basis": "pooled"},
        "kite": {**THRESHOLDS, "judged": False},
        "sky": {**THRESHOLDS, "judged": False},
    },
    "errors": {
        "folds": 5,
        "images": 60,
        "extra": 4,
        "true": {"car": {"kept": 57, "missing": 3}},
        "planted": {
            "swapped": {"planted": 10, "accepted": 1, "named": 8},
            "missing": {"planted": 0, "accepted": 0, "named": 0},
            "extra": {"planted": 9, "accepted": 3, "named": 6},
        },
    },
    "policy": {
        "missing": "drop",
        "swapped": "ignore",
        "misplaced": "ignore",
        "duplicate": "keep",
        "doubtful": "ignore",
        "too_small": "drop",
        "extra": "ignore",
        "max_failed": 0.5,
        "recall": 0.95,
    },
}


def words_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def changed(**content):
    return {**copy.deepcopy(MANIFEST), **content}


def test_a_class_has_its_own_verdicts_and_the_one_that_lost_most_comes_first():
    emu, car, kite, sky = class_rows(MANIFEST)
    assert (emu.name, car.name, kite.name) == ("<b>emu", "car", "kite")
    assert car.verdicts == [20, 2, 1, 0, 0, 0, 0]
    assert (car.synthesized, car.left, car.not_judged, car.extra) == (23, 21, 0, 0)
    assert emu.verdicts == [3, 1, 0, 0, 0, 2, 0]
    assert (emu.synthesized, emu.left, emu.not_judged) == (6, 5, 0)
    assert (sky.synthesized, sky.not_judged, sky.yields) == (4, 4, "–")
    assert emu.yields == "83 %"
    assert (kite.synthesized, kite.extra) == (0, 3), "found, though nothing of it was planned"
    assert car.rejects == pytest.approx(0.05)
    assert emu.rejects is None


def test_only_errors_that_were_injected_are_listed_with_their_own_counts():
    rows = injected_rows(MANIFEST)
    assert [(name, counts["planted"], extra) for name, counts, extra in rows] == [
        ("another class is there", 10, False),
        ("found without a label", 9, True),
    ]


def test_the_page_says_what_became_of_each_verdict():
    text = words_of(section(MANIFEST))
    assert "looked for each of 33 synthetic objects: 23 are where they should be" in text
    assert ", 3 not found at all (dropped), 1 another class is there (now ignore regions)" in text
    assert "14 images stand; 1 were dropped" in text
    assert "AP50 57 % on validation images" in text
    assert "a label taken away 9 33 % 67 %" in text
    assert "0.41, 0.55 (all classes&#39;)" in text


def test_classes_that_nobody_judges_are_named_and_the_judges_that_were_tried_are_shown():
    evidence = {"true": 12, "accepted_true": 11, "false": 80, "accepted_false": 3}
    tail = {
        "car": {
            "judge": "crops",
            "tried": {"lower bar": {**evidence, "true": 40}, "crops": evidence},
        },
        "kite": {"judge": "", "tried": {"lower bar": evidence}},
    }
    thresholds = {**MANIFEST["bars"], "kite": {**THRESHOLDS, "judged": False, "judge": "crops"}}
    told = changed(tail=tail, bars=thresholds, not_judged={"sky": 4, "kite": 2})
    text = words_of(section(told))
    assert "6 were not judged and have no yield: stuff, and the classes kite, of which" in text
    assert "the detector at a lower bar 11 of 40 3 of 80" in text
    assert "prototypes of crops used 11 of 12 3 of 80" in text
    assert "no yield: stuff. " in words_of(section(MANIFEST))


def test_names_are_escaped():
    html = section(MANIFEST)
    assert "<b>" not in html
    assert "&lt;b&gt;emu" in html


def test_where_nothing_was_verified_there_is_no_section():
    assert section({}) == ""
    assert section({"enabled": False, "images": {"verified": 3}}) == ""


def test_a_detector_that_knows_no_class_is_said_to_be_uncounted():
    errors = {**MANIFEST["errors"], "planted": {}, "true": {}}
    text = words_of(section(changed(errors=errors)))
    assert "could not be counted: it knows no class well enough" in text
    named = {"sha256": "b" * 64, "trained_here": False}
    assert "the checkpoint bbbbbbbbbbbb that the job names" in section(changed(judge=named))


def test_without_validation_images_no_error_rate_is_told():
    errors = {"folds": 0, "true": {}, "planted": {}, "extra": 0, "images": 0}
    text = words_of(section(changed(errors=errors)))
    assert "How often" not in text


def test_a_run_without_objects_has_a_section_of_zeros():
    none = {key: {} for key in MANIFEST if isinstance(MANIFEST[key], dict)}
    kept = {key: MANIFEST[key] for key in ("judge", "images", "policy", "errors")}
    text = words_of(section({"enabled": True, **none, **kept}))
    assert "looked for each of 0 synthetic objects: 0 are where they should be" in text

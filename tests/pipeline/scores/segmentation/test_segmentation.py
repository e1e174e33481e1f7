"""Segmentation scores against counting pixel by pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.scores.segmentation.segmentation import confusion, ious, summary

C = 4
PAIRS = st.integers(1, 6).flatmap(
    lambda n: hnp.arrays(np.int64, (2, n, 5), elements=st.sampled_from([0, 1, 2, 4, 255, -1]))
)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_scores_are_what_counting_gives(maps):
    """Class 3 never occurs; 4, 255 and -1 are don't care where true and no class where found."""
    truth, found = maps
    pixels = [
        (t, f)
        for t, f in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True)
        if 0 <= t < C
    ]
    values = summary(confusion(truth, found, C), list("abcd")).values
    expected, accuracies, weighted = {}, [], 0.0
    for k in range(C):
        hit = sum(t == f == k for t, f in pixels)
        union = sum(k in (t, f) for t, f in pixels)
        true = sum(t == k for t, f in pixels)
        if union:
            expected[k] = (hit / union, true)
        if true:
            accuracies.append(hit / true)
            weighted += true / len(pixels) * hit / union
    if not pixels:
        assert all(value is None for value in values.values())
        return
    assert np.mean([iou for iou, true in expected.values() if true]) == pytest.approx(
        values["miou"]
    )
    assert np.mean([iou for iou, _ in expected.values()]) == pytest.approx(values["miou_found"])
    assert sum(t == f for t, f in pixels) / len(pixels) == pytest.approx(values["pixel_accuracy"])
    assert np.mean(accuracies) == pytest.approx(values["mean_accuracy"])
    assert weighted == pytest.approx(values["fw_iou"])
    assert [k for k in range(C) if k not in expected] == np.flatnonzero(
        np.isnan(ious(confusion(truth, found, C)))
    ).tolist()


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.integers(0, 6))
def test_matrices_of_parts_add_up(maps, cut):
    truth, found = maps
    parts = confusion(truth[:cut], found[:cut], C) + confusion(truth[cut:], found[cut:], C)
    assert np.array_equal(confusion(truth, found, C), parts)


def test_small_labels_do_not_overflow_and_the_card_is_json():
    """An 8-bit map of many classes; a perfect guess scores one, found nowhere scores zero."""
    truth = np.arange(182, dtype=np.uint8).reshape(14, 13)
    names = [str(k) for k in range(182)]
    perfect, nothing = (
        summary(confusion(truth, truth, 182), names),
        summary(confusion(truth, truth * 0 + 255, 182), names),
    )
    assert {1.0} == set(perfect.values.values()) and {0.0} == set(nothing.values.values())
    assert (
        182 == nothing.card["found_no_class"]
        and {"iou": 1.0, "accuracy": 1.0, "pixels": 1} == perfect.per_class["181"]
    )
    json.dumps(summary(confusion(truth, truth, 183), [*names, "x"]).to_json(), allow_nan=False)

"""Segmentation scores against counting pixel by pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.cityscapes import CATEGORIES as CITYSCAPES
from synthaug.pipeline.scores.segmentation import segmentation
from synthaug.pipeline.scores.segmentation.segmentation import (
    Config,
    confusion,
    ious,
    restricted,
    summary,
)
from tests import paths
from tests.pipeline.formats.samples import CAR, HEIGHT, WIDTH, Thing, sample_table
from tests.score_inputs import score_inputs

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


def test_a_perfect_network_of_the_evaluated_classes_of_cityscapes_scores_one() -> None:
    """It knows 19 of the 34 classes.

    True pixels of the others count nowhere, as in the benchmark.
    """
    job = load_job(paths.JOBS / "cityscapes.yaml", ["data.root=."])
    config = job.score.settings["segmentation"]
    evaluated = config.evaluated(CITYSCAPES)
    names = [CITYSCAPES[c].name for c in evaluated]
    assert 19 == len(names) and {"road", "bicycle"} <= set(names) and "parking" not in names
    truth = np.arange(34).repeat(10)
    answer = np.where(np.isin(truth, evaluated), truth, 34)
    matrix = confusion(truth, answer, 34)
    ours = summary(restricted(matrix, evaluated), names)
    assert 1.0 == ours.value == ours.values["pixel_accuracy"]
    assert 190 == ours.card["pixels"] and 19 == len(ours.per_class)
    every = summary(matrix, [category.name for category in CITYSCAPES])
    assert 0.559 == round(every.value, 3)


def test_an_answer_of_a_class_that_is_not_evaluated_is_wrong_where_one_is_true() -> None:
    truth, answer = np.array([0, 0, 1, 2]), np.array([0, 2, 1, 0])
    matrix = restricted(confusion(truth, answer, 3), [0, 1])
    assert [[1, 0, 1], [0, 1, 0]] == matrix.tolist()
    assert {"a": 0.5, "b": 1.0} == {
        name: numbers["iou"] for name, numbers in summary(matrix, ["a", "b"]).per_class.items()
    }


def test_a_score_of_some_classes_tells_of_these_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Person and car are there; a network that answers car everywhere is measured on cars."""
    table = sample_table([Thing((1, 1, 12, 14)), Thing((15, 1, 30, 14), CAR)])
    tables = {"train": table, "real": table, "synthetic": table}
    cars = np.full((HEIGHT, WIDTH), CAR)
    monkeypatch.setattr(segmentation, "network", lambda *_: lambda _: cars)
    metric = segmentation.score(score_inputs(tables), Config(classes=("car",)))
    assert {"car"} == set(metric.per_class)
    assert 1.0 == metric.value == metric.per_class["car"]["real_iou"]
    both = segmentation.score(score_inputs(tables), Config())
    person, car = 11 * 13, 15 * 13
    assert pytest.approx(car / (car + person)) == both.per_class["car"]["iou"]
    assert 0.0 == both.per_class["person"]["iou"]


def test_evaluated_classes_are_those_of_the_data() -> None:
    categories = (Category(1, "road"), Category(2, "sky"))
    assert [0, 1] == Config().evaluated(categories)
    assert [1] == Config(classes=("sky",)).evaluated(categories)
    with pytest.raises(
        ValueError, match=r"^classes: there is no class 'rood'; did you mean 'road'"
    ):
        segmentation.check(Config(classes=("rood",)), categories)


def test_the_card_says_which_classes_and_whose_network() -> None:
    assert "means over the classes that have" in segmentation._classes_told(Config())
    assert "road" in segmentation._classes_told(Config(classes=("road",)))
    assert "own instead of DeepLab-V2" in segmentation._comparability(Config())
    file = Config(network="torchscript", file="net.pt", input="caffe")
    assert "instead" not in segmentation._comparability(file)

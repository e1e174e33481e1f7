"""Diversity: which two images a distance is of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.features import diversity
from tests.feature_scenes import scene, table
from tests.score_inputs import records_of, score_inputs

pytestmark = pytest.mark.usefixtures("stand_ins")


def distance(a: Scene, b: Scene) -> float:
    """The stand-in's distance."""
    return float(np.abs(decode(a).astype(float) - decode(b)).mean())


def test_first_images_meet_the_second_of_their_layout_and_the_first_of_the_next_layout(
    inputs: MetricInputs,
) -> None:
    synthetic = inputs.tables["synthetic"]
    (extractor,) = diversity.extractors(diversity.Config())
    records = list(records_of(inputs, extractor, "synthetic", batch=5))
    for i in range(0, 24, 2):
        arrays = records[i].arrays
        assert arrays["same_layout"].tolist() == [distance(synthetic[i], synthetic[i + 1])]
        following = synthetic[(i + 2) % 24]
        assert arrays["other_layout"].tolist() == [distance(synthetic[i], following)]
        assert not records[i + 1].arrays["same_layout"].size
        assert not records[i + 1].arrays["other_layout"].size


def test_the_score_is_mean_and_deviation_over_layouts(inputs: MetricInputs) -> None:
    synthetic = inputs.tables["synthetic"]
    expected = [distance(synthetic[i], synthetic[i + 1]) for i in range(0, 24, 2)]
    metric = diversity.score(inputs, diversity.Config())
    assert metric.value == pytest.approx(np.mean(expected))
    assert metric.values["diversity_std"] == pytest.approx(np.std(expected))
    assert metric.values["layouts"] == 12
    few = diversity.score(inputs, diversity.Config(max_layouts=3))
    assert few.value == pytest.approx(np.mean(expected[:3]))


def test_one_layout_has_nothing_to_compare_it_with_and_one_image_no_distance() -> None:
    real = table([scene("r0", 0), scene("r1", 1)])
    synthetic = table([scene("a", 2, "r0"), scene("b", 3, "r0"), scene("c", 4, "r9")])
    inputs = score_inputs({"real": real, "synthetic": synthetic}, generated=True)
    metric = diversity.score(inputs, diversity.Config())
    assert metric.value == distance(synthetic[0], synthetic[1])
    assert metric.controls["other_layout"]["diversity"] is None
    alone = replace(inputs, tables={"real": real, "synthetic": table([scene("a", 2, "r0")])})
    pairing = replace(inputs.pairing, layout=np.array([0]), sample=np.array([0]))
    assert diversity.score(replace(alone, pairing=pairing), diversity.Config()).value is None


def test_a_given_set_needs_two_images_of_a_layout(inputs: MetricInputs) -> None:
    assert diversity.available(inputs, diversity.Config()) is None
    real = inputs.tables["real"]
    single = score_inputs({"real": real, "synthetic": real})
    assert "no layout has two synthetic images" in str(
        diversity.available(single, diversity.Config())
    )

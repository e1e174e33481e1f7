"""Distances on the detector's features: the floor, and the variety of images of one layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.scores.base import MetricInputs, Record
from synthaug.pipeline.scores.features import detector_features
from synthaug.pipeline.scores.features.detector_features import _distances
from tests.feature_scenes import table
from tests.score_inputs import score_inputs


def test_the_floor_has_as_many_images_as_the_score(inputs: MetricInputs) -> None:
    """12 synthetic ones, so 12 of the 20 training images; a set has no distance from itself."""
    config = detector_features.Config(subsets=3, neighbors=2)
    metric = detector_features.score(inputs, config)
    assert metric.controls["train"]["images"] == 12
    real = inputs.tables["real"]
    same = score_inputs({"real": real, "synthetic": real}, detector=inputs.resources.detector)
    found = detector_features.score(same, config)
    assert found.value == pytest.approx(0, abs=1e-6)
    assert (found.values["precision"], found.values["recall"], found.values["coverage"]) == (
        1,
        1,
        1,
    )
    assert found.controls == {}


def test_variety_is_nought_where_the_latents_change_nothing(inputs: MetricInputs) -> None:
    """The second image of each layout is the first one; against it, independent images."""
    config = detector_features.Config(subsets=3, neighbors=2, samples_per_layout=2)
    independent = detector_features.score(inputs, config).values["variety"]
    made = inputs.tables["synthetic"]
    twins = table([replace(made[i], image=made[i - i % 2].image) for i in range(len(made))])
    collapsed = replace(inputs, tables={**inputs.tables, "synthetic": twins})
    assert detector_features.score(collapsed, config).values["variety"] == 0
    assert independent and 0.6 < independent < 1.4
    assert (
        "variety"
        not in detector_features.score(inputs, replace(config, samples_per_layout=1)).values
    )


def test_distances_pair_two_samples_of_a_layout_and_first_samples_of_neighbouring_layouts(
    inputs: MetricInputs,
) -> None:
    """Features are numbers on a line, so every distance says which two images it is of."""

    class Line(MetricInputs):
        def extracted(self, _extractor, _table):  # type: ignore[no-untyped-def]
            for layout, sample, value in ((0, 0, 0), (0, 1, 1), (0, 2, 50), (3, 0, 10), (3, 1, 14)):
                arrays = {"features": np.array([value], np.float32)}
                yield Record("synthetic", 0, layout, sample, arrays)

    line = Line(inputs.tables, inputs.pairing, inputs.records, inputs.networks)
    extractor = detector_features.extractors(detector_features.Config())[0]
    found = list(_distances(line, extractor))  # type: ignore[arg-type]
    assert found == [(True, 1.0), (False, 10.0), (True, 4.0)]

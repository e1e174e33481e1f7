"""Nearest training images: copies are found and named, and the yardstick is the real images."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.scene import Objects
from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.features import nearest
from tests.feature_scenes import table


def test_copies_are_found(inputs: MetricInputs) -> None:
    """Half of the synthetic images are training images.

    These are near copies, named with their originals, and pictured.
    """
    made, train = inputs.tables["synthetic"], inputs.tables["train"]
    mixed = table(
        [
            replace(made[i], image=train[i // 2].image) if i % 4 == 0 else made[i]
            for i in range(len(made))
        ]
    )
    copying = replace(inputs, tables={**inputs.tables, "synthetic": mixed})
    config = nearest.Config(pairs=6)
    metric = nearest.score(copying, config)
    assert metric.value == pytest.approx(0.5)
    listed = nearest.listed_pairs(metric.to_json())
    assert listed == nearest.listed_pairs(json.loads(json.dumps(metric.to_json())))
    assert {(p.synthetic, p.train) for p in listed} == {
        (f"r{i}~0", f"t{2 * i // 2}") for i in range(0, 12, 2)
    }
    assert all(p.similarity == pytest.approx(1) for p in listed)
    assert nearest.score(inputs, config).value == pytest.approx(0, abs=0.3)
    few = nearest.score(
        copying, replace(config, max_images=6)
    )  # every other layout: r0, r2 ..., all of them copies
    assert few.value == 1
    assert {p.synthetic for p in nearest.listed_pairs(few.to_json())} == {
        f"r{i}~0" for i in range(0, 12, 2)
    }


def test_a_copied_layout_is_found_and_features_are_not_asked_about_it(
    inputs: MetricInputs,
) -> None:
    """One synthetic image has the layout of training image 13 under its own pixels."""
    synthetic, train = inputs.tables["synthetic"], inputs.tables["train"]
    boxes = [[1, 2, 30, 9], [3, 20, 11, 31]]
    marked = [*train]
    marked[13] = marked[13].with_objects(Objects.build([1, 0], boxes))
    copied = [*synthetic]
    copied[4] = copied[4].with_objects(Objects.build([1, 0], boxes))
    tables = {**inputs.tables, "synthetic": table(copied), "train": table(marked)}
    metric = nearest.score(replace(inputs, tables=tables), nearest.Config(pairs=12))
    (pair,) = (p for p in nearest.listed_pairs(metric.to_json()) if p.synthetic == "r2~0")
    assert (pair.layout_train, pair.layout_train_index) == ("t13", 13)
    assert pair.layout_similarity == 1
    assert pair.similarity < 0.99


def test_pairs_are_listed_the_nearest_first_up_to_the_number_asked_for(
    inputs: MetricInputs,
) -> None:
    metric = nearest.score(inputs, nearest.Config(pairs=5))
    similarity = [pair.similarity for pair in nearest.listed_pairs(metric.to_json())]
    assert len(similarity) == 5
    assert similarity == sorted(similarity, reverse=True)
    assert not nearest.listed_pairs(nearest.score(inputs, nearest.Config(pairs=0)).to_json())


def test_the_limit_is_the_99th_percentile_of_the_real_images(inputs: MetricInputs) -> None:
    metric = nearest.score(inputs, nearest.Config())
    assert metric.controls["real"]["near_copies"] == pytest.approx(1 / 12)
    assert 0 < metric.card["yardstick"] <= 1
    assert "12 real images" in metric.card["warnings"][0]


def test_no_pairs_draw_no_picture(inputs: MetricInputs) -> None:
    metric = nearest.score(inputs, nearest.Config(pairs=2)).to_json()
    assert list(nearest.pictures(inputs, metric)) == ["nearest.jpg"]
    metric["card"]["pairs"] = []
    assert nearest.pictures(inputs, metric) == {}
    assert np.isfinite(metric["value"])

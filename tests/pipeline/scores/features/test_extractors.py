"""Extractors of features: which images, which arrays, and label maps of layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Objects
from synthaug.pipeline.scores.base import BATCH, MetricInputs
from synthaug.pipeline.scores.features.extractors import (
    FEATURES,
    LOGITS,
    DetectorFeatureExtractor,
    InceptionExtractor,
    LayoutMapExtractor,
    Vgg16Extractor,
    label_map,
    num_selected,
    rows,
)
from tests.score_inputs import records_of


def test_layouts_are_maps_of_their_boxes(inputs: MetricInputs) -> None:
    """The smaller box lies on the larger one; cells are those it touches."""
    image = inputs.image("real", 0)
    boxes = [[0, 0, 32, 16], [8, 8, 17, 12], [40, 40, 50, 50]]
    image = replace(image, scene=image.scene.with_objects(Objects.build([0, 1, 1], boxes)))
    expected = np.full((4, 4), -1)
    expected[:2] = 0
    expected[1, 1:3] = 1
    assert np.array_equal(label_map(image, 4), expected)


def test_a_spaced_extractor_keeps_what_was_asked_for(inputs: MetricInputs) -> None:
    """Evenly spaced images of each table; the batches do not change its records."""
    extractor = LayoutMapExtractor(train_images=5, other_images=3, side=4)
    for name, count, first in (("train", 5, [0, 4, 8, 12, 16]), ("real", 3, [0, 4, 8])):
        assert extractor.selected(inputs, name).tolist() == first
        whole, parts = (list(records_of(inputs, extractor, name, batch)) for batch in (BATCH, 3))
        kept = [record.index for record in whole if record.arrays["layout"].size]
        assert (len(kept), kept) == (count, first)
        assert all(
            np.array_equal(a.arrays["layout"], b.arrays["layout"])
            for a, b in zip(whole, parts, strict=True)
        )
    assert DetectorFeatureExtractor().key != DetectorFeatureExtractor(train_images=5).key


def test_crowds_paint_nothing_and_layouts_are_what_was_asked_for(inputs: MetricInputs) -> None:
    image = inputs.image("real", 0)
    objects = Objects.build(
        [0, 1],
        [[0, 0, 32, 32], [0, 0, 4, 4]],
        layout_boxes=[[0, 0, 32, 32], [16, 16, 32, 32]],
        iscrowd=[True, False],
    )
    painted = label_map(replace(image, scene=image.scene.with_objects(objects)), 2)
    assert painted.tolist() == [[-1, -1], [-1, 1]]


@pytest.mark.usefixtures("stand_ins")
def test_each_image_meets_its_own_features_and_logits(inputs: MetricInputs) -> None:
    extractor = InceptionExtractor(train_images=7)
    selected = extractor.selected(inputs, "train").tolist()
    features = np.concatenate(list(rows(inputs, extractor, "train")))
    logits = np.concatenate(list(rows(inputs, extractor, "train", LOGITS)))
    assert len(features) == len(selected) == num_selected(inputs, extractor, "train") == 7
    for row, of_row, index in zip(features, logits, selected, strict=True):
        expected = decode(inputs.tables["train"][index])[::11, ::11].reshape(-1)
        np.testing.assert_array_equal(row, expected)
        np.testing.assert_allclose(of_row, expected[:5] / 50, rtol=1e-6)


@pytest.mark.usefixtures("stand_ins")
def test_a_table_that_is_not_there_has_no_rows(inputs: MetricInputs) -> None:
    tables = {name: table for name, table in inputs.tables.items() if name != "train"}
    without = replace(inputs, tables=tables)
    extractor = Vgg16Extractor()
    assert num_selected(without, extractor, "train") == 0
    assert not list(rows(without, extractor, "train"))
    assert len(list(rows(without, extractor, "real"))) == 12


def test_the_detectors_features_do_not_depend_on_the_batch(inputs: MetricInputs) -> None:
    extractor = DetectorFeatureExtractor()
    one = [record.arrays[FEATURES] for record in records_of(inputs, extractor, "real", 1)]
    all_at_once = [record.arrays[FEATURES] for record in records_of(inputs, extractor, "real")]
    np.testing.assert_allclose(one, all_at_once, rtol=1e-4, atol=1e-5)
    assert len({row.tobytes() for row in all_at_once}) == 12

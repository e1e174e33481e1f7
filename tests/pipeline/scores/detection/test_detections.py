"""Detections of the reference detector.

The layout is the truth, and each image meets its own predictions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug import detectors
from synthaug.detectors.base import Prediction
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.scores.base import Record
from synthaug.pipeline.scores.detection.detections import DetectionExtractor, detection_row
from tests.score_inputs import records_of, score_inputs


def scene(name: str, level: int, size: tuple[int, int]) -> Scene:
    pixels = np.full((*size, 3), level, np.uint8)
    objects = Objects.build(
        [1, 0],
        [[0, 0, 2, 2], [0, 0, 3, 3]],
        layout_boxes=[[0, 0, 5, 5], [1, 1, 3, 3]],
        iscrowd=[False, True],
    )
    return Scene(name, *size, ImageRef(encode(pixels, "png")), objects)


class Reader:
    """Scores one box by the level of the image."""

    def predict(self, images: Any) -> list[Prediction]:
        box = np.array([[0, 0, 4, 4]], np.float32)
        return [
            Prediction(box, np.array([1]), np.array([image.mean() / 255], np.float32))
            for image in images
        ]


def test_a_row_has_the_layout_as_truth_and_the_images_own_prediction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def load(path: Path, device: str) -> Reader:
        asked.append((path, device))
        return Reader()

    monkeypatch.setattr(detectors, "load", load)
    categories = (Category(1, "cat"), Category(2, "dog"))
    table = SceneList(categories, [scene("a", 51, (10, 20)), scene("b", 102, (30, 40))])
    inputs = score_inputs(
        {"real": table, "synthetic": table}, detector=Path("d.safetensors"), device="cpu"
    )
    records = list(records_of(inputs, DetectionExtractor(), "synthetic"))
    assert asked == [(Path("d.safetensors"), "cpu")]
    rows = [detection_row(record, offset=2) for record in records]
    assert [(row.height, row.width) for row in rows] == [(10, 20), (30, 40)]
    assert [row.pred_scores.tolist() for row in rows] == [
        [pytest.approx(0.2)],
        [pytest.approx(0.4)],
    ]
    for row in rows:
        assert row.boxes.tolist() == [[0, 0, 5, 5], [0, 0, 3, 3]], "as asked for; a crowd as it is"
        assert (row.labels.tolist(), row.crowd.tolist()) == ([1, 0], [False, True])
        assert row.area is not None and row.area.tolist() == [25, 9]


def test_rows_are_named_by_layout_and_sample_and_others_stand_behind_the_real_ones() -> None:
    arrays = {
        "size": np.array([8, 8]),
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int64),
        "crowd": np.zeros(0, bool),
        "pred_boxes": np.zeros((0, 4), np.float32),
        "pred_labels": np.zeros(0, np.int64),
        "pred_scores": np.zeros(0, np.float32),
    }
    paired = detection_row(Record("synthetic", 7, 3, 2, arrays), offset=10)
    alone = detection_row(Record("synthetic", 7, -1, 0, arrays), offset=10)
    assert (paired.index, paired.sample) == (3, 2)
    assert (alone.index, alone.sample) == (17, 0)

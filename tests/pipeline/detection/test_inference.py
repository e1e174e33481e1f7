"""A detector over a table: each image meets its own prediction, whatever the batches and shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.detectors.base import Prediction
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import inference
from synthaug.pipeline.detection.inference import detect, detect_rows, detect_shards
from synthaug.pipeline.detection.store import read_rows
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.toy.dataset import Config, ToyDataset
from synthaug.pipeline.scores.detection.evaluator import DetectionRow

COUNT = 11


def table() -> Dataset:
    return ToyDataset(Config("val", COUNT))


class Summing:
    """Says of each image one box whose score is told by its pixels.

    Keeps the sizes of its batches.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        self.batches.append(len(images))
        return [one_box(image) for image in images]


def one_box(image: NDArray[np.uint8]) -> Prediction:
    score = np.array([image.mean() / 255], np.float32)
    height, width = image.shape[:2]
    return Prediction(np.array([[0, 0, width, height]], np.float32), np.array([1]), score)


@pytest.mark.parametrize("batch", [1, 4, 11, 50])
def test_batches_change_nothing(batch: int) -> None:
    from synthaug.pipeline.core.images import decode

    detector, scenes = Summing(), table()
    found = list(detect(detector, scenes, range(2, COUNT), batch))
    assert [index for index, _, _ in found] == list(range(2, COUNT))
    for index, scene, prediction in found:
        assert scene.image_id == scenes[index].image_id
        assert prediction.scores == one_box(decode(scenes[index])).scores
    assert sum(detector.batches) == COUNT - 2
    assert max(detector.batches) <= batch


def test_no_images_are_no_predictions() -> None:
    detector = Summing()
    assert not list(detect(detector, table(), range(0), 4))
    assert detector.batches == []


def test_a_row_has_the_objects_of_its_scene_and_the_prediction_on_its_image() -> None:
    scenes = table()
    first = scenes[0]
    crowded = first.with_objects(
        replace(first.objects, iscrowd=np.arange(len(first.objects)) % 2 == 1)
    )
    wide = replace(crowded, height=30, width=50)
    prediction = Prediction(
        np.array([[1, 2, 3, 4]], np.float32), np.array([2]), np.array([0.5], np.float32)
    )
    row = DetectionRow.of(7, wide, prediction)
    assert (row.index, row.sample, row.height, row.width) == (7, 0, 30, 50)
    np.testing.assert_array_equal(row.boxes, first.objects.boxes)
    np.testing.assert_array_equal(row.labels, first.objects.category)
    assert row.labels.dtype == np.int64
    np.testing.assert_array_equal(row.crowd, crowded.objects.iscrowd)
    np.testing.assert_array_equal(row.pred_boxes, [[1, 2, 3, 4]])
    assert (row.pred_labels.tolist(), row.pred_scores.tolist()) == ([2], [0.5])


class Backwards(SerialExecutor):
    """Does the last shard first, as a pool may."""

    def pool(self, make: Any, items: Any, most: int | None = None, gpu: bool = False) -> Any:
        yield from super().pool(make, list(items)[::-1], most, gpu)


@pytest.mark.parametrize("shard", [3, 64])
def test_stored_rows_are_those_of_the_table_in_its_order(
    shard: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "SHARD", shard)
    folder = Folder.at(tmp_path / "detections")
    done: list[tuple[Any, ...]] = []
    context = Context(
        None,  # type: ignore[arg-type] # no job is read
        Folder.at(tmp_path),
        {},
        Backwards(),
        lambda _: None,
        lambda *progress: done.append(progress),
    )
    detect_shards(context, table, Summing, COUNT, 2, folder, "validation images")
    assert done[-1] == (COUNT, COUNT, "validation images", {})
    stored = list(read_rows(folder))
    expected = list(detect_rows(Summing(), table(), range(COUNT), 4))
    assert [row.index for row in stored] == list(range(COUNT))
    for one, other in zip(stored, expected, strict=True):
        np.testing.assert_array_equal(one.pred_scores, other.pred_scores)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_stored_shards_are_not_done_again(tmp_path: Path) -> None:
    lines: list[str] = []
    context = Context(
        None,  # type: ignore[arg-type] # no job is read
        Folder.at(tmp_path),
        {},
        SerialExecutor(),
        lines.append,
        lambda *_: None,
    )
    again = partial(detect_shards, context, table)
    again(Summing, COUNT, 2, Folder.at(tmp_path), "images")

    def broken() -> Summing:
        raise AssertionError("the detector was loaded again")

    again(broken, COUNT, 2, Folder.at(tmp_path), "images")
    assert "shards were finished earlier" in lines[-1]

"""Stored detections: every field comes back, and shards are read in order."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.store import read_rows, write_rows
from synthaug.pipeline.scores.detection.evaluator import DetectionRow


def row(index: int, objects: int, predictions: int, sample: int = 0) -> DetectionRow:
    """Return a row in which no two numbers are the same."""
    rng = np.random.default_rng([index, objects, predictions])
    return DetectionRow(
        index,
        height=40,
        width=60,
        boxes=rng.random((objects, 4), np.float32),
        labels=rng.integers(9, size=objects),
        crowd=rng.random(objects) < 0.5,
        pred_boxes=rng.random((predictions, 4), np.float32),
        pred_labels=rng.integers(9, size=predictions),
        pred_scores=rng.random(predictions, np.float32),
        sample=sample,
    )


def same(one: DetectionRow, other: DetectionRow) -> None:
    for field in fields(DetectionRow):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=field.name)


def test_rows_are_read_as_they_were_written_without_objects_and_without_predictions_too(
    tmp_path: Path,
) -> None:
    rows = [row(0, 3, 2), row(1, 0, 2, sample=4), row(2, 3, 0), row(3, 0, 0)]
    write_rows(Folder.at(tmp_path), "part-00001", rows[2:])
    write_rows(Folder.at(tmp_path), "part-00000", rows[:2])
    found = list(read_rows(Folder.at(tmp_path)))
    assert len(found) == 4
    for expected, one in zip(rows, found, strict=True):
        same(expected, one)


def test_a_mask_area_is_kept(tmp_path: Path) -> None:
    import dataclasses

    measured = dataclasses.replace(row(0, 2, 1), area=np.array([4.5, 6], np.float32))
    write_rows(Folder.at(tmp_path), "part", [measured])
    same(measured, next(read_rows(Folder.at(tmp_path))))


def test_a_folder_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert not list(read_rows(Folder.at(tmp_path / "none")))

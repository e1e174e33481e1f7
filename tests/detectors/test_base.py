"""Predictions keep their columns of one length, whatever a back-end hands over."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.detectors.base import Prediction


def columns(boxes: int = 2, labels: int = 2, scores: int = 2) -> tuple[np.ndarray, ...]:
    return (
        np.zeros((boxes, 4), np.float32),
        np.zeros(labels, np.int64),
        np.zeros(scores, np.float32),
    )


def test_no_detections_are_a_prediction() -> None:
    empty = Prediction(*columns(0, 0, 0), np.zeros((0, 28, 28), np.float32))
    assert len(empty.labels) == 0


@pytest.mark.parametrize("lengths", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (3, 2, 2)])
def test_columns_of_different_lengths_are_refused(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(AssertionError):
        Prediction(*columns(*lengths))


def test_fewer_masks_than_boxes_are_refused() -> None:
    with pytest.raises(AssertionError):
        Prediction(*columns(), np.zeros((1, 28, 28), np.float32))


def test_boxes_of_another_width_than_four_are_refused() -> None:
    _, labels, scores = columns()
    with pytest.raises(AssertionError):
        Prediction(np.zeros((2, 5), np.float32), labels, scores)

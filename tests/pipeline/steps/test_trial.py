"""The trial step keeps what the detector would have returned, and refuses keys that cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.detectors.torchvision_rcnn import Config as RcnnConfig
from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps.trial import seeing_everything, usual


def test_what_the_detector_would_have_returned() -> None:
    """Its floor and its limit, applied afterwards, in the order it returned them."""
    scores = np.array([0.3, 0.9, 0.05, 0.04, 0.8], np.float32)
    boxes, none = np.zeros((5, 4), np.float32), np.zeros((0, 4), np.float32)
    empty = np.zeros(0, np.int64)
    row = DetectionRow(0, 9, 9, none, empty, empty.astype(bool), boxes, np.arange(5), scores)
    config = RcnnConfig(score_floor=0.05, detections_per_image=2)
    assert usual(row, config).pred_labels.tolist() == [1, 4]
    assert usual(row, replace(config, detections_per_image=9)).pred_labels.tolist() == [0, 1, 4]
    assert seeing_everything(config).detections_per_image == 1000


def test_trial_keys_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"seeds": 1},
        {"arms": ("synthetic",)},
        {"curve": (1.0,)},
        {"arms": ("real", "real")},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Trial(**{"seeds": 5, **wrong})

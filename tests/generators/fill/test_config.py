"""Settings of the in-filler: which are refused, by their key."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.fill.config import Config, Loop


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": ()}, r"resolutions: \[\] is not a rising list"),
        ({"resolutions": (128, 64)}, r"resolutions: \[128, 64\] is not a rising list"),
        ({"resolutions": (20,)}, "resolutions: 20 is not a multiple of 8"),
        ({"width": 6}, "width: 6 is not a positive multiple of 4"),
        ({"embedding": 0}, "embedding: 0 is out of range; give 1 or more"),
        ({"width": 4, "heads": 3}, "heads: 3 does not divide 16 channels"),
        ({"surroundings": 0.9}, "surroundings: 0.9 is less than the box"),
        ({"flow_steps": 0}, "flow_steps: 0 is out of range; give 1 or more"),
        ({"guidance": -1.0}, "guidance: -1.0 is out of range"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_its_key(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, "ema: 1.0 is out of range; give 0 or more and less than 1"),
        ({"dropout": -0.1}, "dropout: -0.1 is out of range"),
        ({"background": 0.7, "ring": 0.5}, "background: with ring it is more than all"),
        ({"lr": -1.0}, "lr: -1.0 is out of range"),
        ({"precision": "float16"}, "precision: 'float16' is not one of float32"),
    ],
)
def test_a_training_that_cannot_be_is_refused_by_its_key(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Loop(**changes)

"""Settings of sg2im: what no network can be made of is one line."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.sg2im.config import GEOMETRIC, Config


def test_the_defaults_are_the_published_ones() -> None:
    config = Config()
    assert (64, 64) == config.size
    assert (128, 512, 5, 16, 32) == (
        config.embedding,
        config.hidden,
        config.graph_layers,
        config.mask_side,
        config.noise,
    )
    assert config.vocabulary == GEOMETRIC


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 256}, "resolution: 256 is not one of"),
        ({"width": 0}, "width: 0 is out of range; give 1 or more"),
        ({"mask_side": 12}, "mask_side: 12 is not 0 or a power of two"),
        ({"mask_side": 1}, "mask_side: 1 is not 0 or a power of two"),
        ({"relations": ("in", "on", "on")}, "relations: a name is there twice"),
        ({"lambda_box": -1.0}, "lambda_box: -1.0 is out of range; give 0 or more"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(**settings)


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({}, 16),
        ({"given_masks": False}, 0),
        ({"given_masks": False, "lambda_mask": 0.1}, 16),
        ({"mask_side": 0}, 0),
    ],
)
def test_masks_are_asked_for_where_they_are_painted_or_learned(
    settings: dict[str, Any], side: int
) -> None:
    assert side == Config(**settings).learns_masks

"""Settings of Grid2Im: what no network can be made of is one line."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.grid2im.config import ATTRIBUTES, Config


def test_the_defaults_are_the_published_ones() -> None:
    config = Config()
    assert (128, 128) == config.size
    assert (4, 9, 32, 64, 32) == (
        config.halvings,
        config.residual_blocks,
        config.mask_side,
        config.mask_noise,
        config.appearance,
    )
    assert config.mask_side == config.learns_masks
    assert ATTRIBUTES == 35


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 100}, "resolution: 100 is not a multiple of 32"),
        ({"appearance": 0}, "appearance: 0 is not positive"),
        ({"mask_side": 12}, "mask_side: 12 is not a power of two"),
        ({"lambda_mask": -1.0}, "lambda_mask: -1.0 is negative"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(**settings)

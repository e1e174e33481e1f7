"""Settings of Layout2Im: what no network can be made of is one line."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.layout2im.config import Config


def test_the_defaults_are_the_published_ones() -> None:
    config = Config()
    assert (64, 64) == config.size
    assert (64, 64, 64, 3) == (config.width, config.embedding, config.z_object, config.lstm_layers)
    assert not config.owa


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 128}, "resolution: 128 is not 64"),
        ({"z_object": 0}, "z_object: 0 is not positive"),
        ({"lstm_layers": 4}, "lstm_layers: 4 is not 1, 2 or 3"),
        ({"mask_side": 10}, "mask_side: 10 is not a power of two"),
        ({"lambda_kl": -1.0}, "lambda_kl: -1.0 is negative"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(**settings)

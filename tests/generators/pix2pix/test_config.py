"""Settings that fit no network are one line that names the key."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.pix2pix.config import Config, Loop, MapConfig, even_halvings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resolution": 0}, "resolution: 0 is out of range; give 1 or more"),
        ({"resolution": 50}, "resolution: images of 50 x 50 pixels do not halve evenly 2 times"),
        ({"downs": 7}, "downs: 7 is not 0 or 2 to 6"),
        ({"downs": 1}, "downs: 1 is not 0 or 2 to 6"),
        ({"num_layers": 5}, "num_layers: 5 leave no patch of 64 x 64 pixels"),
        ({"statistics": "running"}, "statistics: 'running' is not one of image, batch"),
        ({"dropout": 1.0}, r"dropout: 1\.0 is out of range"),
        ({"lambda_l1": -1.0}, r"lambda_l1: -1\.0 is out of range"),
    ],
)
def test_what_fits_no_network_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Config(**keys)
    assert "\n" not in str(caught.value)


def test_maps_have_a_size_of_their_own() -> None:
    config = MapConfig(resolution=512, aspect_ratio=2.0)
    assert (config.size, config.halvings) == ((256, 512), 8)
    assert config.map_channels(19) == 20
    with pytest.raises(ValueError, match=r"aspect_ratio: 0\.0 is out of range"):
        MapConfig(aspect_ratio=0.0)
    with pytest.raises(ValueError, match=r"aspect_ratio: 1000\.0 leaves no row of pixels"):
        MapConfig(aspect_ratio=1000.0)


def test_halvings_are_those_that_leave_no_rest() -> None:
    assert [even_halvings(h, w) for h, w in ((64, 64), (96, 64), (7, 8), (6, 4))] == [6, 5, 0, 1]
    assert (Config().halvings, Config(downs=4).halvings) == (6, 4)


def test_the_published_optimizer_is_the_default() -> None:
    loop = Loop()
    assert (loop.lr_g, loop.lr_d, loop.beta1, loop.beta2) == (2e-4, 2e-4, 0.5, 0.999)
    assert loop.decay_from == 0.5

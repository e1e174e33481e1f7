from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.crn.config import PLAIN
from synthaug.generators.sims.config import Config


def test_defaults_are_the_published_sizes() -> None:
    config = Config()
    assert config.size == (256, 512) and config.weights == PLAIN
    assert round(config.large * 256 * 512) == 1000
    assert config.map_channels(19) == 20


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resolution": 16}, "resolution: 16 x 8 pixels are too few"),
        ({"large": 1.0}, "large: 1.0 is out of range"),
        ({"align": "shape"}, "align: 'shape' is not one of image, box"),
        ({"follow": "both"}, "follow: 'both' is not one of map, canvas"),
        ({"choices": 0}, "choices: 0 is out of range"),
        ({"among": -1}, "among: -1 is out of range"),
        ({"layers": (1, 1)}, r"layers: \[1, 1\] are not different class indices"),
        ({"thin": (-1,)}, r"thin: \[-1\] are not different class indices"),
        ({"lambdas": (1.0,)}, "lambdas: 1 weights for 6 terms"),
        ({"perceptual_input": "vgg"}, "perceptual_input: 'vgg' is not one of caffe, imagenet"),
    ],
)
def test_settings_of_no_use_are_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Config(**keys)
    assert "\n" not in str(caught.value)

"""Settings that fit no cascade are one line that names the key."""

from __future__ import annotations

from typing import Any

import pytest

from synthaug.generators.crn.config import DIVERSE, PLAIN, Config, doublings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resolution": 0}, "resolution: 0 is out of range; give 1 or more"),
        ({"resolution": 96, "aspect_ratio": 1.0}, "resolution: 96 x 96 pixels are no doublings"),
        ({"aspect_ratio": 0.0}, r"aspect_ratio: 0\.0 is out of range"),
        ({"images": 0}, "images: 0 is out of range"),
        ({"widths": (4, 4)}, "widths: 2 widths for 7 levels of 256 rows"),
        ({"width": 1}, "width: 1 leaves a level of 256 rows no channel"),
        ({"lambdas": (1.0,)}, "lambdas: 1 weights for 6 terms"),
        ({"lambdas": (1.0, -1.0, 0.0, 0.0, 0.0, 0.0)}, "lambdas: .* has a negative weight"),
        ({"perceptual_input": "raw"}, "perceptual_input: 'raw' is not one of caffe, imagenet"),
    ],
)
def test_what_fits_no_network_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Config(**keys)
    assert "\n" not in str(caught.value)


def test_levels_have_the_published_widths() -> None:
    assert Config().level_widths == (1024,) * 5 + (512,) * 2
    assert Config(resolution=1024).level_widths == (1024,) * 5 + (512, 512, 128)
    assert Config(resolution=2048).level_widths == (1024,) * 5 + (512, 512, 128, 32)
    assert (Config().size, Config().start) == ((256, 512), (4, 8))
    assert Config(resolution=36, aspect_ratio=2.25).start == (4, 9)
    assert [doublings(rows) for rows in (4, 8, 12, 256)] == [0, 1, None, 6]


def test_the_form_of_the_loss_chooses_the_published_weights() -> None:
    assert Config().weights == DIVERSE
    assert Config(images=1).weights == PLAIN
    own = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert Config(lambdas=own).weights == own

"""The scores on features, from tables of images to metrics.

Networks are stand-ins, tested with the libraries elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.features import (
    convolutions,
    detector_features,
    diversity,
    fid,
    inception_score,
    kid,
    nearest,
    prdc,
)
from tests.feature_scenes import with_resources

SCORES = {
    "fid": (fid, fid.Config()),
    "kid": (kid, kid.Config(subsets=3)),
    "inception_score": (inception_score, inception_score.Config(splits=2)),
    "prdc": (prdc, prdc.Config(neighbors=2)),
    "diversity": (diversity, diversity.Config()),
    "nearest": (nearest, nearest.Config(features="alexnet", pairs=2)),
    "detector_features": (
        detector_features,
        detector_features.Config(subsets=3, neighbors=2, samples_per_layout=2),
    ),
}


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", SCORES)
def test_every_score_gives_numbers_with_a_full_card(name: str, inputs: MetricInputs) -> None:
    """A number, JSON all through, its network's digest, and a sample too small said to be so."""
    module, config = SCORES[name]
    assert module.available(inputs, config) is None
    metric = module.score(inputs, config)
    assert metric.name == name
    assert metric.value is not None
    assert metric.value == metric.values[metric.card["headline_key"]]
    assert all(metric.card["headline_key"] in control for control in metric.controls.values())
    json.dumps(metric.to_json(), allow_nan=False)
    assert metric.card["network_sha256"] in ("cd" * 32, "ab")
    assert metric.card["warnings"]
    assert metric.controls
    assert all(
        number is not None for control in metric.controls.values() for number in control.values()
    )


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("detector_features",)])
def test_without_weights_a_published_score_is_not_there(
    name: str, inputs: MetricInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which file is missing; the scores on the detector need none."""
    monkeypatch.setattr(convolutions, "package_file", lambda _: None)
    module, config = SCORES[name]
    reason = module.available(with_resources(inputs, weights=Path("/nowhere")), config)
    assert reason and ".pth" in reason
    assert "\n" not in reason
    assert "score.weights" in (module.available(inputs, config) or "")


def test_without_a_detector_its_features_are_not_there(inputs: MetricInputs) -> None:
    for module, config in (
        (detector_features, detector_features.Config()),
        (nearest, nearest.Config()),
    ):
        assert module.available(inputs, config) is None
        assert "no reference detector" in (
            module.available(with_resources(inputs, detector=None), config) or ""
        )


@pytest.mark.usefixtures("stand_ins")
def test_one_extractor_serves_the_three_inception_scores() -> None:
    found = {
        extractor.key
        for name in ("fid", "kid", "inception_score")
        for extractor in SCORES[name][0].extractors(SCORES[name][1])
    }
    assert len(found) == 1
    own = detector_features.extractors(detector_features.Config())
    assert own[0] in nearest.extractors(nearest.Config())


@pytest.mark.parametrize(
    ("module", "settings", "says"),
    [
        (fid, {"samples_per_layout": 0}, "fid.samples_per_layout is 0; give 1 or more"),
        (kid, {"subset_size": 1}, "kid.subset_size is 1; give 2 or more"),
        (inception_score, {"splits": 0}, "inception_score.splits is 0"),
        (prdc, {"neighbors": 0}, "prdc.neighbors is 0"),
        (diversity, {"max_layouts": -1}, "diversity.max_layouts is -1"),
        (nearest, {"pairs": -1}, "nearest.pairs is -1"),
        (detector_features, {"train_images": -1}, "detector_features.train_images is -1"),
    ],
)
def test_settings_that_make_no_sense(module: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        module.Config(**settings)

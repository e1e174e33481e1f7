"""Inputs of the scores on features.

Tables of noisy pictures, a tiny detector, stand-ins for published networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug import detectors
from synthaug.pipeline.scores.base import MetricInputs
from synthaug.pipeline.scores.features import convolutions, nearest, networks, weights
from tests.feature_scenes import SMALL, scene, table
from tests.score_inputs import score_inputs


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector's file."""
    path = tmp_path_factory.mktemp("judge") / "detector.safetensors"
    detectors.build("torchvision", SMALL, 2, seed=1).save(path, {})
    return path


@pytest.fixture
def inputs(judge: Path) -> MetricInputs:
    """12 real images, two synthetic ones of each, 20 training images."""
    real = table([scene(f"r{i}", i) for i in range(12)])
    synthetic = table(
        [scene(f"r{i}~{s}", 100 + 2 * i + s, f"r{i}", 120) for i in range(12) for s in range(2)]
    )
    train = table([scene(f"t{i}", 200 + i) for i in range(20)])
    tables = {"real": real, "synthetic": synthetic, "train": train}
    return score_inputs(tables, generated=True, detector=judge, detector_sha256="ab")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose features are a few pixels, and weights that are in order."""

    def features(images: Any) -> NDArray[np.float32]:
        return np.stack([image[::11, ::11].reshape(-1) for image in images]).astype(np.float32)

    class Pixels:
        def __init__(self, *_: Any) -> None:
            pass

        def __call__(self, images: Any) -> Any:
            return features(images)

    class Both(Pixels):
        def __call__(self, images: Any) -> Any:
            return features(images), features(images)[:, :5] / 50

    class Distance(Pixels):
        def __call__(self, first: Any, second: Any = ()) -> Any:  # type: ignore[override]
            return np.array(
                [np.abs(a.astype(float) - b).mean() for a, b in zip(first, second, strict=True)]
            )

    for name, fake in (
        ("Inception", Both),
        ("Vgg16", Pixels),
        ("AlexNetPool5", Pixels),
        ("Lpips", Distance),
    ):
        monkeypatch.setattr(networks, name, fake)
    monkeypatch.setattr(weights, "read", lambda *_: ({}, "cd"))
    found = weights.Found(Path("x"), "cd" * 32)
    monkeypatch.setattr(convolutions, "read_convolutions", lambda *_: {})
    monkeypatch.setattr(convolutions, "read_heads", lambda *_: [])
    monkeypatch.setattr(convolutions, "find_convolutions", lambda *_: found)
    monkeypatch.setattr(nearest, "find_convolutions", lambda *_: found)
    monkeypatch.setattr(weights, "find", lambda *_: found)

"""Small tables of pictures for tests of scores on features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene, SceneList
from synthaug.pipeline.scores.base import MetricInputs

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
SIDE = 32
SMALL = {"width": 4, "fpn_channels": 4, "image_size": 32, "anchor_sizes": (8, 16), "box_head": 8}


def scene(name: str, seed: int, source: str = "", brightness: int = 100) -> Scene:
    """A noisy picture with one box; synthetic where `source` is given."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(brightness, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    x, y = rng.integers(0, 16, 2)
    objects = Objects.build([seed % 2], [[x, y, x + 12, y + 9]])
    origin = Provenance(seed, "g", "", source, "score") if source else None
    return Scene(name, SIDE, SIDE, ImageRef(encode(pixels, "png")), objects, None, origin)


def table(scenes: list[Scene]) -> SceneList:
    return SceneList(CATEGORIES, scenes)


def with_resources(inputs: MetricInputs, **changes: Any) -> MetricInputs:
    """Return the same inputs with other networks at hand."""
    return replace(inputs, resources=replace(inputs.resources, **changes))

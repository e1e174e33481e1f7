"""Sets of measured objects for tests of the scores of objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthaug.pipeline.scores.objects.extractor import ObjectSet

SIDE = 32


def object_set(
    labels: Sequence[int],
    pictures: np.ndarray | None = None,
    powers: Sequence[float] | None = None,
    images: Sequence[int] | None = None,
    seed: int = 0,
) -> ObjectSet:
    """Return objects of some classes; what is not given is noise, or an image of their own."""
    count = len(labels)
    if pictures is None:
        rng = np.random.default_rng(seed)
        pictures = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    if powers is None:
        powers = np.zeros(count)
    if images is None:
        images = np.arange(count)
    return ObjectSet(
        pictures,
        pictures.copy(),
        np.asarray(powers, np.float64),
        np.asarray(labels, np.int64),
        np.asarray(images, np.int64),
    )

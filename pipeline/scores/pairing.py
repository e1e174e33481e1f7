"""Pairs of synthetic and real images.

The real image whose layout a synthetic one shows, or another one for a control.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import permuted

UNPAIRED = -1


@dataclass(frozen=True)
class Pairing:
    """The real image whose layout each synthetic image shows."""

    layout: Ints  # [synthetic] index of the real image; -1 = none
    sample: Ints  # [synthetic] number of the image among those of its layout, from 0


def pair(real: Dataset, synthetic: Dataset) -> Pairing:
    """Return the pairing by `provenance.source_image`, else by equal `image_id`."""
    index_of = {scene.image_id: index for index, scene in enumerate(real)}
    layout = np.full(len(synthetic), UNPAIRED, np.int64)
    sample = np.zeros(len(synthetic), np.int64)
    num_samples = np.zeros(len(real), np.int64)  # of each real image, so far
    for i, scene in enumerate(synthetic):
        source = scene.image_id
        if scene.provenance:
            source = scene.provenance.source_image
        index = index_of.get(source, UNPAIRED)
        layout[i] = index
        if index != UNPAIRED:
            sample[i] = num_samples[index]
            num_samples[index] += 1
    return Pairing(layout, sample)


def derangement(count: int, seed: int) -> Ints:
    """Return for each of `count` images another one [count], each used once.

    The successor in a fixed permutation.
    """
    order = np.array([permuted(i, count, seed) for i in range(count)], np.int64)
    following = np.empty(count, np.int64)
    following[order] = np.roll(order, -1)
    return following

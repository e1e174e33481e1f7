"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020): quality and variety apart.

Each image's neighbourhood reaches to its k-th nearest of its own kind. Precision: the share of synthetic images inside
some real neighbourhood. Recall: the share of real images inside some synthetic one. Density: in how many real
neighbourhoods a synthetic image lies, over k. Coverage: the share of real images whose neighbourhood holds a synthetic one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.features import Features, spans, squared_distances


@dataclass(frozen=True)
class Manifolds:
    """Precision, recall and coverage in [0, 1]; density 0 or more, about 1 where the two sets are alike."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Features, synthetic: Features, k: int) -> Manifolds | None:
    """Return the four of real rows [N, D] and synthetic rows [M, D]; None where a set has k rows or fewer.

    Distances are Euclidean, in float64, block by block; a point on the border of a neighbourhood is inside.
    """
    if min(len(real), len(synthetic)) <= k:
        return None
    of_real, of_synthetic = radii(real, k), radii(synthetic, k)
    hits = 0
    precise: NDArray[np.bool_] = np.zeros(len(synthetic), bool)
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for span in spans(len(real)):
        for other in spans(len(synthetic)):
            distance = squared_distances(real[span], synthetic[other])
            inside = distance <= of_real[span][:, None]  # of real neighbourhoods [n, m]
            hits += int(inside.sum())
            precise[other] |= inside.any(axis=0)
            covered[span] |= inside.any(axis=1)
            recalled[span] |= (distance <= of_synthetic[other][None]).any(axis=1)
    density = hits / (k * len(synthetic))
    return Manifolds(float(precise.mean()), float(recalled.mean()), density, float(covered.mean()))


def radii(rows: Features, k: int) -> NDArray[np.float64]:
    """Return the squared distance of each row [N] to its k-th nearest other row."""
    out: NDArray[np.float64] = np.empty(len(rows))
    for span in spans(len(rows)):
        nearest = np.full((span.stop - span.start, k), np.inf)
        for other in spans(len(rows)):
            distance = squared_distances(rows[span], rows[other])
            if other == span:
                np.fill_diagonal(distance, np.inf)  # a row is no neighbour of its own
            joined = np.concatenate([nearest, distance], axis=1)
            nearest = np.partition(joined, k - 1, axis=1)[:, :k]
        out[span] = nearest.max(axis=1)
    return out

"""Statistics of layouts, and how far planned ones are from natural ones.

Pure functions of arrays.

Distances are Jensen-Shannon divergences in bits: 0 = the same distribution, 1 = nothing in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.planning.exchange import Layout, concatenate
from synthaug.pipeline.planning.placement import pair_counts

GRID = 8  # cells per side of a position map
SIZE_BINS = 16  # of box areas, two per octave; the first holds all below 1/256 of the image
ROUNDS = 500  # of scaling a pair matrix
TOLERANCE = 1e-9  # relative error of the margins at which scaling ends


@dataclass(frozen=True)
class Statistics:
    """Statistics of S layouts of C classes."""

    counts: NDArray[np.int32]  # [S, C] objects
    median_area: Floats  # [C] share of the image, NaN without objects
    positions: Ints  # [C, GRID, GRID] box centres, rows are y
    sizes: Ints  # [C, SIZE_BINS]

    @staticmethod
    def of(layouts: Sequence[Layout], num_classes: int) -> Statistics:
        """Measure layouts."""
        objects = concatenate(layouts)
        category = objects.category
        low = objects.boxes[:, :2]
        high = objects.boxes[:, 2:]
        area = (high - low).prod(1)  # [N]
        centers = (low + high) / 2
        in_grid = (centers * GRID).astype(np.int64)
        cell = in_grid.clip(0, GRID - 1)  # [N, 2] x, y
        octave = 2 * np.log2(area.clip(1e-9))
        bins = (SIZE_BINS + octave).astype(np.int64)
        size_bin = bins.clip(0, SIZE_BINS - 1)
        positions = np.zeros((num_classes, GRID, GRID), np.int64)
        np.add.at(positions, (category, cell[:, 1], cell[:, 0]), 1)
        sizes = np.zeros((num_classes, SIZE_BINS), np.int64)
        np.add.at(sizes, (category, size_bin), 1)
        median_area = np.full(num_classes, np.nan)
        for label in np.unique(category):
            median_area[label] = np.median(area[category == label])
        return Statistics(object_counts(layouts, num_classes), median_area, positions, sizes)


def object_counts(layouts: Sequence[Layout], num_classes: int) -> NDArray[np.int32]:
    """Return the objects per layout and class [S, C]."""
    counts = np.zeros((len(layouts), num_classes), np.int32)
    for row, layout in zip(counts, layouts, strict=True):
        np.add.at(row, layout.category, 1)
    return counts


def divergence(p: NDArray[np.generic], q: NDArray[np.generic]) -> float:
    """Compute the Jensen-Shannon divergence in bits of two histograms of one shape.

    0 where either is empty.
    """
    first = np.asarray(p, np.float64).ravel()
    second = np.asarray(q, np.float64).ravel()
    if not first.sum() or not second.sum():
        return 0.0
    first = first / first.sum()
    second = second / second.sum()
    mean = (first + second) / 2
    of_first = _relative_entropy(first, mean)
    of_second = _relative_entropy(second, mean)
    distance = (of_first + of_second) / 2
    return max(0.0, distance)


def _relative_entropy(p: Floats, q: Floats) -> float:
    """Compute the Kullback-Leibler divergence of p from q in bits."""
    some = p > 0
    terms = p[some] * np.log2(p[some] / q[some])
    return float(terms.sum())


def with_margins(pairs: Floats, margins: Floats) -> Floats:
    """Scale a symmetric pair matrix [C, C] to the row sums `margins` [C].

    Its odds ratios stay.

    Gives the co-occurrence if nothing had changed but the frequencies of the classes (iterative
    proportional fitting).
    """
    scale = np.ones(len(pairs))
    for _ in range(ROUNDS):
        sums = scale * (pairs @ scale)
        ratio = np.divide(margins, sums, out=np.zeros_like(sums), where=sums > 0)
        deviation = np.abs(ratio[sums > 0] - 1)
        if deviation.max(initial=0) < TOLERANCE:
            break
        scale = scale * np.sqrt(ratio)
    scaled: Floats = scale[:, None] * pairs * scale
    return scaled


def deviation(natural: Statistics, planned: Statistics) -> dict[str, float]:
    """Compute how far planned layouts are from natural ones, each in bits.

    `pairs`: classes that share an image; no plan can avoid most of it, since its target changes how
    frequent classes are. `pairs_given_frequency`: the same to the natural matrix scaled to the
    planned frequencies, which a plan can come near. `objects_per_image`; `sizes` and `positions`:
    mean over the classes, weighted by their planned objects.
    """
    natural_pairs = pair_counts(natural.counts)
    planned_pairs = pair_counts(planned.counts)
    expected_pairs = with_margins(natural_pairs, planned_pairs.sum(1))
    return {
        "pairs": divergence(natural_pairs, planned_pairs),
        "pairs_given_frequency": divergence(expected_pairs, planned_pairs),
        "objects_per_image": _divergence_of_fullness(natural.counts, planned.counts),
        "sizes": _mean_divergence(natural.sizes, planned.sizes, planned.counts),
        "positions": _mean_divergence(natural.positions, planned.positions, planned.counts),
    }


def _divergence_of_fullness(natural: NDArray[np.int32], planned: NDArray[np.int32]) -> float:
    """Compute the divergence of the objects per image, given counts [S, C]."""
    natural_sizes = natural.sum(1)
    planned_sizes = planned.sum(1)
    most_natural = natural_sizes.max(initial=0)
    most_planned = planned_sizes.max(initial=0)
    most = int(max(most_natural, most_planned))
    natural_histogram = np.bincount(natural_sizes, minlength=most + 1)
    planned_histogram = np.bincount(planned_sizes, minlength=most + 1)
    return divergence(natural_histogram, planned_histogram)


def _mean_divergence(natural: Ints, planned: Ints, counts: NDArray[np.int32]) -> float:
    """Average the divergences of histograms [C, ...].

    Weighted by the objects of each class in `counts` [S, C].
    """
    pairs = zip(natural, planned, strict=True)
    per_class = [divergence(before, after) for before, after in pairs]
    weights = counts.sum(0) / max(1, counts.sum())
    return float(weights @ np.array(per_class))

"""What is natural about layouts, and how far planned ones are from it: pure functions of arrays.

Distances are Jensen-Shannon divergences in bits: 0 = the same distribution, 1 = nothing in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.planning.exchange import Layout
from synthaug.pipeline.planning.placement import pair_counts

GRID = 8  # cells per side of a position map
SIZE_BINS = 16  # of box areas, two per octave; the first holds all below 1/256 of the image
ROUNDS = 500  # of scaling a pair matrix
EXACT = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Statistics of S layouts of C classes."""

    counts: NDArray[np.int32]  # [S, C] objects
    median_area: Floats  # [C] share of the image, NaN without objects
    positions: NDArray[np.int64]  # [C, GRID, GRID] box centres, rows are y
    sizes: NDArray[np.int64]  # [C, SIZE_BINS]

    @staticmethod
    def of(layouts: Sequence[Layout], num_classes: int) -> Statistics:
        """Measure layouts."""
        counts = class_counts(layouts, num_classes)
        category = np.concatenate(
            [layout.category for layout in layouts] or [np.zeros(0, np.int32)]
        )
        boxes = np.concatenate(
            [layout.boxes for layout in layouts] or [np.zeros((0, 4), np.float32)]
        )
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)  # [N]
        cell = (
            ((boxes[:, :2] + boxes[:, 2:]) / 2 * GRID).astype(np.int64).clip(0, GRID - 1)
        )  # [N, 2] x, y
        bins = (SIZE_BINS + 2 * np.log2(area.clip(1e-9))).astype(np.int64).clip(0, SIZE_BINS - 1)
        positions = np.zeros((num_classes, GRID, GRID), np.int64)
        sizes = np.zeros((num_classes, SIZE_BINS), np.int64)
        np.add.at(positions, (category, cell[:, 1], cell[:, 0]), 1)
        np.add.at(sizes, (category, bins), 1)
        medians = [
            float(np.median(area[category == c])) if counts[:, c].any() else np.nan
            for c in range(num_classes)
        ]
        return Statistics(counts, np.array(medians), positions, sizes)


def class_counts(layouts: Sequence[Layout], num_classes: int) -> NDArray[np.int32]:
    """Objects per layout and class [S, C]."""
    counts = np.zeros((len(layouts), num_classes), np.int32)
    for row, layout in zip(counts, layouts, strict=True):
        row += np.bincount(layout.category, minlength=num_classes).astype(np.int32)
    return counts


def divergence(p: NDArray[np.generic], q: NDArray[np.generic]) -> float:
    """Jensen-Shannon divergence in bits of two histograms of one shape; 0 where either is empty."""
    one, other = np.asarray(p, np.float64).ravel(), np.asarray(q, np.float64).ravel()
    if not one.sum() or not other.sum():
        return 0.0
    one, other = one / one.sum(), other / other.sum()
    middle = (one + other) / 2

    def relative(a: Floats) -> float:
        some = a > 0
        return float((a[some] * np.log2(a[some] / middle[some])).sum())

    return max(0.0, (relative(one) + relative(other)) / 2)


def with_margins(pairs: Floats, margins: Floats) -> Floats:
    """Scale a symmetric pair matrix [C, C] to the row sums `margins` [C]; its odds ratios stay.

    What co-occurrence would be, had nothing changed but the frequencies of the classes (iterative proportional fitting).
    """
    scale = np.ones(len(pairs))
    for _ in range(ROUNDS):
        given = scale * (pairs @ scale)
        ratio = np.divide(margins, given, out=np.zeros_like(given), where=given > 0)
        if np.abs(ratio[given > 0] - 1).max(initial=0) < EXACT:
            break
        scale = scale * np.sqrt(ratio)
    result: Floats = scale[:, None] * pairs * scale
    return result


def deviation(natural: Statistics, planned: Statistics) -> dict[str, float]:
    """How far planned layouts are from natural ones, each in bits.

    `pairs`: classes that share an image; no plan can avoid most of it, since its target changes how frequent classes are.
    `pairs_given_frequency`: the same to the natural matrix scaled to the planned frequencies, which a plan can come near.
    `objects_per_image`; `sizes` and `positions`: mean over the classes, weighted by their planned objects.
    """
    before, after = pair_counts(natural.counts), pair_counts(planned.counts)
    most = int(max(natural.counts.sum(1).max(initial=0), planned.counts.sum(1).max(initial=0)))
    per_image = [np.bincount(s.counts.sum(1), minlength=most + 1) for s in (natural, planned)]
    weights = planned.counts.sum(0) / max(1, planned.counts.sum())

    def mean(name: str) -> float:
        pairs = zip(getattr(natural, name), getattr(planned, name), strict=True)
        return float(weights @ np.array([divergence(a, b) for a, b in pairs]))

    return {
        "pairs": divergence(before, after),
        "pairs_given_frequency": divergence(with_margins(before, after.sum(1)), after),
        "objects_per_image": divergence(*per_image),
        "sizes": mean("sizes"),
        "positions": mean("positions"),
    }

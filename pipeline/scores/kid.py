"""KID, kernel inception distance (Binkowski et al. 2018, section 4): the squared MMD of synthetic and real features.

The kernel is (x.y / D + 1)^3; the estimate is unbiased, so few images make it less certain but not too high, and it may
be slightly below 0. Reported are mean and standard deviation over random subsets, as torch-fidelity draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.features import Features, spans

SUBSET_SEED = 2020  # torch-fidelity's


@dataclass(frozen=True)
class Kernel:
    """An MMD estimate: mean and standard deviation over subsets, and how large these were."""

    mean: float
    std: float
    subset_size: int
    subsets: int


def mmd(x: Features, y: Features) -> float:
    """Return the unbiased estimate of the squared MMD (Gretton et al. 2012, eq. 3) of rows [N, D] and [M, D], N, M >= 2.

    Sums in float64, block by block.
    """
    n, m = len(x), len(y)
    assert n > 1 and m > 1
    within_x = _kernel_sum(x, x) - _diagonal_sum(x)
    within_y = _kernel_sum(y, y) - _diagonal_sum(y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * _kernel_sum(x, y) / (n * m)


def kernel_distance(
    x: Features, y: Features, subsets: int = 100, size: int = 1000, seed: int = SUBSET_SEED
) -> Kernel | None:
    """Return the mean of `mmd` over random subsets of `size` rows of each; None with fewer than four rows.

    Where there are not enough rows the subsets have half of the fewer, so that they still differ; the estimate stays
    unbiased.
    """
    least = min(len(x), len(y))
    if least < 4:
        return None
    used = size if least >= size else least // 2
    rng = np.random.RandomState(seed)
    draws: NDArray[np.float64] = np.zeros(subsets)
    for i in range(subsets):
        picks = [rng.choice(len(rows), used, replace=False) for rows in (x, y)]
        # a mapped array is read faster, and a product is the same, in any order of rows
        draws[i] = mmd(*(rows[np.sort(pick)] for rows, pick in zip((x, y), picks, strict=True)))
    return Kernel(float(draws.mean()), float(draws.std()), used, subsets)


def _polynomial(products: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    cubed: NDArray[np.float64] = (products / width + 1.0) ** 3
    return cubed


def _kernel_sum(x: Features, y: Features) -> float:
    total, right = 0.0, y.astype(np.float64)
    for span in spans(len(x)):
        total += float(_polynomial(x[span].astype(np.float64) @ right.T, x.shape[1]).sum())
    return total


def _diagonal_sum(x: Features) -> float:
    return float(_polynomial((x.astype(np.float64) ** 2).sum(axis=1), x.shape[1]).sum())

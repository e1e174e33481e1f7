"""The kernel distance against its double sum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.pipeline.scores.features import streams as features
from synthaug.pipeline.scores.features.kid import SUBSET_SEED, kernel_distance, mmd


def rows(count: int, seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(shift, 1, (count, 6)).astype(np.float32)


def direct(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Gretton et al. 2012, eq. 3, term by term."""

    def kernel(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i, j in itertools.permutations(range(n), 2)) / (
        n * (n - 1)
    )
    within_y = sum(kernel(y[i], y[j]) for i, j in itertools.permutations(range(m), 2)) / (
        m * (m - 1)
    )
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_the_double_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in blocks that do not divide the rows."""
    x, y = rows(11, 0), rows(7, 1, 0.5)
    assert mmd(x, y) == pytest.approx(direct(x, y), rel=1e-12)
    monkeypatch.setattr(features.spans, "__defaults__", (3,))
    assert mmd(x, y) == pytest.approx(direct(x, y), rel=1e-12)


def test_unbiased() -> None:
    """Two halves of one distribution: zero on average, below it about half the time.

    Another one: clearly above.
    """
    same = [mmd(rows(30, 2 * i), rows(30, 2 * i + 1)) for i in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    assert 10 < sum(value < 0 for value in same) < 50
    assert mmd(rows(30, 0), rows(30, 1, 1.0)) > max(same)


def test_subsets_are_fixed_and_shrink_with_the_sample() -> None:
    """Half of the fewer rows where there are too few; nothing from fewer than four."""
    x, y = rows(40, 0), rows(25, 1)
    assert kernel_distance(x, y, 10, 20) == kernel_distance(x.copy(), y.copy(), 10, 20)
    found = kernel_distance(x, y, 10, 1000)
    assert found and (found.subset_size, found.subsets) == (12, 10)
    assert found.std > 0
    assert kernel_distance(x[:3], y) is None


def test_mean_and_spread_are_those_of_the_subsets_as_published() -> None:
    """Drawn without repeats, a set after the other, by one stream; the spread is of them all."""
    x, y = rows(20, 0), rows(16, 1, 0.5)
    rng = np.random.RandomState(SUBSET_SEED)
    values = []
    for _ in range(4):
        some = rng.choice(20, 8, replace=False)
        others = rng.choice(16, 8, replace=False)
        values.append(mmd(x[some], y[others]))
    found = kernel_distance(x, y, 4, 8)
    assert found and found.mean == pytest.approx(np.mean(values), rel=1e-9)
    assert found.std == pytest.approx(np.std(values), rel=1e-9)

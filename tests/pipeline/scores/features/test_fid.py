"""The Fréchet distance against formulas in closed form, and its sums against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg

from synthaug.pipeline.scores.features.fid import Moments, frechet, moments, warnings


def given(mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> Moments:
    """Moments of a known Gaussian."""
    found = Moments(len(mean))
    found.count, found.mean, found._scatter = 2, mean, covariance
    return found


def rows(count: int, width: int, seed: int, scale: float = 1.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) * scale + seed
    ).astype(np.float32)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    """tr of the root is the sum of sqrt(s1 s2)."""
    rng = np.random.default_rng(0)
    m1, m2, s1, s2 = rng.normal(size=7), rng.normal(size=7), rng.random(7), rng.random(7)
    expected = ((m1 - m2) ** 2).sum() + ((np.sqrt(s1) - np.sqrt(s2)) ** 2).sum()
    assert frechet(given(m1, np.diag(s1)), given(m2, np.diag(s2))) == pytest.approx(
        expected, rel=1e-13
    )


def test_general_gaussians_agree_with_the_matrix_root() -> None:
    """The definition, with scipy's square root of the product."""
    a, b = moments([rows(200, 9, 1)]), moments([rows(150, 9, 2)])
    assert a and b
    root = linalg.sqrtm(a.covariance @ b.covariance).real
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-10)


def test_fewer_rows_than_dimensions() -> None:
    """Singular covariances.

    The nuclear norm of the product of centred rows is what the root's trace is.
    """
    x, y = rows(6, 40, 3).astype(np.float64), rows(9, 40, 4).astype(np.float64)
    a, b = moments([x.astype(np.float32)]), moments([y.astype(np.float32)])
    assert a and b
    left, right = (v - v.mean(axis=0) for v in (x, y))
    cross = np.linalg.svd(left @ right.T, compute_uv=False).sum() / np.sqrt(5 * 8)
    shift = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    expected = shift + (left**2).sum() / 5 + (right**2).sum() / 8 - 2 * cross
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-10)


def test_a_set_has_no_distance_from_itself_also_when_singular_or_constant() -> None:
    """Zero to the last bits of its trace; constant features too."""
    for count in (2, 5, 400):
        a = moments([rows(count, 30, 5, 100.0)])
        assert a
        assert frechet(a, a) <= 1e-9 * np.trace(a.covariance)
    constant = moments([np.full((5, 3), 7, np.float32)])
    assert constant and frechet(constant, constant) == 0


def test_moments_do_not_depend_on_how_the_stream_is_cut() -> None:
    """The same bits, whoever made which rows; equal to numpy's on a mean far from zero."""
    x = rows(1300, 5, 6) + np.float32(1e4)
    whole = moments([x])
    parts = moments([x[:1], x[1:700], x[700:700], x[700:]])
    assert whole and parts
    assert np.array_equal(whole.covariance, parts.covariance)
    assert np.array_equal(whole.mean, parts.mean)
    np.testing.assert_allclose(
        whole.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9
    )
    np.testing.assert_allclose(whole.mean, x.astype(np.float64).mean(axis=0), rtol=1e-14)


def test_no_rows_no_moments() -> None:
    assert moments([]) is None
    assert moments([np.zeros((0, 4), np.float32)]) is None


def test_small_samples_are_warned_of() -> None:
    assert warnings([20_000, 12_000], 2048) == []
    assert len(warnings([20_000, 3000], 2048)) == 1
    assert len(warnings([2048, 20_000], 2048)) == 2

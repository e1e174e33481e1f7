"""Placement.

Lifts are those of the definition, sums are met, shares are the nearest to the affinities that meet
them.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.pipeline.planning.placement import SMOOTHING, affinity, fit, lift, pair_counts, shares


def random_counts(images: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.7, (images, classes)).astype(np.int32)


def test_pairs_and_lifts_against_their_definition() -> None:
    counts = random_counts(60, 5, 0)
    for a in range(5):
        for b in range(5):
            both = sum(1 for row in counts if (row[a] and row[b] if a != b else row[a] > 1))
            expected = (counts[:, a] > 0).sum() * (counts[:, b] > 0).sum() / 60
            assert pair_counts(counts)[a, b] == both
            assert lift(counts)[a, b] == pytest.approx((both + SMOOTHING) / (expected + SMOOTHING))


def test_a_class_fits_best_beside_its_companion() -> None:
    """A bus comes with roads, never with boats.

    Half of the images have either, every tenth road a bus.
    """
    counts = np.array(
        [[1, 0, 1]] * 4 + [[1, 0, 0]] * 36 + [[0, 1, 0]] * 40, np.int32
    )  # road, boat, bus
    fits = affinity(np.array([[1, 0, 0], [0, 1, 0]], np.int32), lift(counts))
    lifts = [
        (4 + 1) / (4 * 40 / 80 + 1),
        1 / (4 * 40 / 80 + 1),
    ]  # of the bus with a road, with a boat
    assert lift(counts)[2, :2].tolist() == pytest.approx(lifts)
    given = shares(fits, fit(fits, np.array([1.0, 1.0]), np.array([0, 0.5, 1.5])))[:, 2]
    assert given[0] > given[1]


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 2**32))
def test_both_sums_are_met(images: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, rows = np.exp(rng.normal(size=(images, classes))), rng.random(images)
    columns = rng.random(classes) * (np.arange(classes) % 3 > 0)
    columns *= rows.sum() / columns.sum()
    found = shares(kernel, fit(kernel, rows, columns))
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(rows @ found, columns, rtol=1e-4)


def test_of_all_that_meet_the_sums_the_nearest_is_taken() -> None:
    """The divergence is convex, and every step that keeps all sums is a sum of swaps.

    No swap may lower it.
    """
    rng = np.random.default_rng(1)
    kernel, rows = np.exp(rng.normal(size=(4, 3))), np.array([1.0, 2.0, 0.5, 1.5])
    ours = rows[:, None] * shares(kernel, fit(kernel, rows, np.array([1.0, 3.0, 1.0])))

    def divergence(given: np.ndarray) -> float:
        return float((given * np.log(given / kernel)).sum())

    for i, j in itertools.permutations(range(4), 2):
        for c, d in itertools.permutations(range(3), 2):
            swapped = ours.copy()
            swapped[[i, j], [c, d]] += 0.01
            swapped[[i, j], [d, c]] -= 0.01
            assert divergence(swapped) > divergence(ours)


def test_equal_affinities_place_uniformly() -> None:
    found = shares(
        np.ones((3, 4)), fit(np.ones((3, 4)), np.array([1.0, 5, 0]), np.array([0.0, 1, 2, 3]))
    )
    np.testing.assert_allclose(found, np.array([[0, 1, 2, 3]] * 3) / 6)


def test_nothing_to_place_is_no_error() -> None:
    assert np.isfinite(fit(np.ones((2, 2)), np.zeros(2), np.array([0.0, 1]))).all()

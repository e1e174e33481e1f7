"""The Inception Score by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.pipeline.scores.features.inception_score import (
    SHUFFLE_SEED,
    inception_score,
)


def logits(guesses: list[list[float]]) -> NDArray[np.float32]:
    return np.log(np.array(guesses, np.float32))


def test_certain_and_varied_guesses_give_the_number_of_classes() -> None:
    """Each of four classes once, with certainty: exp(log 4)."""
    found = inception_score([np.eye(4, dtype=np.float32) * 1000], 4, splits=1)
    assert found and found.mean == pytest.approx(4.0, rel=1e-12)
    assert found.std == 0


def test_equal_guesses_give_one() -> None:
    found = inception_score([logits([[0.2, 0.3, 0.5]] * 12)], 12, splits=3)
    assert found and found.mean == pytest.approx(1.0, rel=1e-6)


def test_two_images_by_hand() -> None:
    """KL of (.9, .1) and of (.1, .9) from (.5, .5)."""
    divergence = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    found = inception_score([logits([[0.9, 0.1], [0.1, 0.9]])], 2, splits=1)
    assert found and found.mean == pytest.approx(float(np.exp(divergence)), rel=1e-6)


def test_splits_are_a_shuffle_that_the_cut_of_the_stream_does_not_change() -> None:
    """Sorted by class, contiguous splits would each hold one guess only and score 1."""
    rows = logits([[0.9, 0.1]] * 300 + [[0.1, 0.9]] * 300)
    whole = inception_score([rows], 600, splits=5)
    parts = inception_score([rows[:7], rows[7:]], 600, splits=5)
    assert whole == parts
    assert whole and whole.mean > 1.3
    assert whole.std > 0


def test_splits_are_runs_of_the_shuffled_images_as_published() -> None:
    guesses = np.random.default_rng(0).dirichlet(np.ones(4), 21).astype(np.float32)
    shuffled = guesses[np.random.RandomState(SHUFFLE_SEED).permutation(21)].astype(np.float64)
    scores = []
    for part in (shuffled[:7], shuffled[7:14], shuffled[14:]):
        divergence = (part * np.log(part / part.mean(0))).sum(1).mean()
        scores.append(np.exp(divergence))
    found = inception_score([np.log(guesses)], 21, splits=3)
    assert found and found.mean == pytest.approx(np.mean(scores), rel=1e-5)
    assert found.std == pytest.approx(np.std(scores), rel=1e-4)


def test_fewer_images_than_splits() -> None:
    assert inception_score([logits([[0.5, 0.5]])], 1, splits=10) is None

"""Nearest neighbours of features and layouts, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.pipeline.scores.features import streams
from synthaug.pipeline.scores.features.neighbours import (
    Standardization,
    nearest,
    similar_layouts,
)


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def test_nearest_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Best first; in blocks too; of equal ones the first; a vector of zeros is near nothing."""
    queries, corpus = rows(9), rows(13, 1)
    corpus[7] = corpus[3] * 2  # the same direction
    unit = [
        v / np.linalg.norm(v, axis=1, keepdims=True)
        for v in (queries.astype(float), corpus.astype(float))
    ]
    cosine = unit[0] @ unit[1].T
    expected = np.argsort(-np.round(cosine, 12), axis=1, kind="stable")[:, :3]
    for size in (512, 4):
        monkeypatch.setattr(streams.spans, "__defaults__", (size,))
        found = nearest(queries, corpus, 3)
        assert np.array_equal(found.index, expected)
        assert found.similarity == pytest.approx(np.take_along_axis(cosine, expected, axis=1))
    shifted = Standardization(corpus.astype(float).mean(0) + 5, np.array([1.0, 2.0, 0.0, 3.0]))
    by_hand = [
        np.delete((v - shifted.mean) / np.array([1, 2, 1, 3]), 2, axis=1) for v in (queries, corpus)
    ]
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in by_hand]
    found = nearest(queries, corpus, 2, shifted)
    assert found.similarity == pytest.approx(np.sort(unit[0] @ unit[1].T, axis=1)[:, ::-1][:, :2])
    assert nearest(np.zeros((1, 4), np.float32), corpus).similarity.tolist() == [[0.0]]


def test_similar_layouts_share_cells_and_classes() -> None:
    """Equal maps have similarity 1.

    The same classes elsewhere count through the histogram; of equals the first.
    """
    maps = np.array([[0, 0, 1, -1], [0, 1, 0, -1], [1, 1, 1, 1]], np.int16)
    found = similar_layouts(np.array([[0, 1, 0, -1], [-1, -1, -1, -1]], np.int16), maps, 2)
    assert found.index[:, 0].tolist() == [1, 0]
    assert found.similarity[:, 0].tolist() == [1.0, 0.25]


def test_a_layout_of_other_cells_and_the_same_classes_is_half_as_similar() -> None:
    corpus = np.array([[0, 0, 1, 1]], np.int16)
    found = similar_layouts(np.array([[1, 1, 0, 0]], np.int16), corpus, 2)
    assert found.similarity.tolist() == [[0.5]]

"""Nearest neighbours of feature vectors, and of layouts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.features.streams import Features, spans


@dataclass(frozen=True)
class Neighbours:
    """For each query the best of a corpus: `similarity` [N, k] falling, `place` [N, k] its rows in the corpus."""

    place: NDArray[np.int64]
    similarity: NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """A synthetic image with the training images nearest to it, by `image_id` and by their place in the table."""

    synthetic: str
    synthetic_index: int
    train: str  # nearest by features
    train_index: int
    similarity: float  # cosine, 1 = the same direction
    layout_train: str  # nearest by layout
    layout_train_index: int
    layout_similarity: float  # in [0, 1], 1 = the same layout


@dataclass(frozen=True)
class Standard:
    """What features are centred and scaled by before they are compared."""

    mean: NDArray[np.float64]  # [D]
    deviation: NDArray[np.float64]  # [D]; 0 = a feature that says nothing and is left out


def nearest(
    queries: Features, corpus: Features, k: int = 1, standard: Standard | None = None
) -> Neighbours:
    """Return the k rows of `corpus` [M, D] with the highest cosine similarity to each of `queries` [N, D]; k <= M.

    Of equals the first counts as nearer. Block by block, in float64; rows need not be of length 1. Features that are never
    negative all point the same way; with `standard` they are centred and scaled first.
    """
    assert 0 < k <= len(corpus)
    place = np.zeros((len(queries), k), np.int64)
    best = np.full((len(queries), k), -np.inf)
    for span in spans(len(queries)):
        wanted = _unit(queries[span], standard)
        for other in spans(len(corpus)):
            found = np.concatenate([best[span], wanted @ _unit(corpus[other], standard).T], axis=1)
            names = np.broadcast_to(
                np.arange(other.start, other.stop), (len(wanted), other.stop - other.start)
            )
            names = np.concatenate([place[span], names], axis=1)
            order = np.argsort(-found, axis=1, kind="stable")[
                :, :k
            ]  # earlier rows stand before later ones
            best[span] = np.take_along_axis(found, order, axis=1)
            place[span] = np.take_along_axis(names, order, axis=1)
    return Neighbours(place, best)


def _unit(rows: Features, standard: Standard | None) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    if standard:
        wide -= standard.mean
        wide = np.divide(
            wide, standard.deviation, out=np.zeros_like(wide), where=standard.deviation > 0
        )
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return unit


def similar_layouts(
    queries: NDArray[np.int16], corpus: NDArray[np.int16], num_classes: int
) -> Neighbours:
    """Return the layout of `corpus` [M, cells] most like each of `queries` [N, cells], maps of class indices, -1 = no box.

    Similarity is the mean of two shares: cells with the same content in both, and what the two histograms over classes
    (no box is one) have in common. Of equals the first counts as nearer.
    """
    shares = _histograms(corpus, num_classes)
    place = np.zeros((len(queries), 1), np.int64)
    best = np.zeros((len(queries), 1))
    for i, (query, histogram) in enumerate(
        zip(queries, _histograms(queries, num_classes), strict=True)
    ):
        alike = ((corpus == query).mean(axis=1) + np.minimum(shares, histogram).sum(axis=1)) / 2
        place[i, 0] = alike.argmax()
        best[i, 0] = alike[place[i, 0]]
    return Neighbours(place, best)


def _histograms(maps: NDArray[np.int16], num_classes: int) -> NDArray[np.float64]:
    """Return the share of cells of each class, no box among them [N, num_classes + 1]."""
    found: NDArray[np.float64] = np.zeros((len(maps), num_classes + 1))
    for content in np.unique(maps).tolist():
        found[:, content] = (maps == content).mean(axis=1)  # no box, -1, is the last column
    return found

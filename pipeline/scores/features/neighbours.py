"""Nearest neighbours of feature vectors, and of layouts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.scores.features.streams import Features, spans


@dataclass(frozen=True)
class Neighbours:
    """The k most similar rows of a corpus for each of N queries.

    The most similar first.
    """

    index: Ints  # [N, k] rows of the corpus
    similarity: Floats  # [N, k] falling


@dataclass(frozen=True)
class ImagePair:
    """A synthetic image with the training images nearest to it.

    By `image_id` and by their index in the table.
    """

    synthetic: str
    synthetic_index: int
    train: str  # nearest by features
    train_index: int
    similarity: float  # cosine, 1 = the same direction
    layout_train: str  # nearest by layout
    layout_train_index: int
    layout_similarity: float  # in [0, 1], 1 = the same layout


@dataclass(frozen=True)
class Standardization:
    """Mean and deviation by which features are centered and scaled.

    Before they are compared.
    """

    mean: Floats  # [D]
    deviation: Floats  # [D]; a feature of deviation 0 is left out


def nearest(
    queries: Features, corpus: Features, k: int = 1, standardization: Standardization | None = None
) -> Neighbours:
    """Return the k rows of `corpus` [M, D] most like each of `queries` [N, D].

    By cosine similarity, k <= M. Of equals the first counts as nearer. Block by block, in float64;
    rows need not be of length 1. Features that are never negative all point the same way; with
    `standardization` they are centred and scaled first.
    """
    assert 0 < k <= len(corpus)
    index = np.zeros((len(queries), k), np.int64)
    best = np.full((len(queries), k), -np.inf)
    for span in spans(len(queries)):
        block = _unit(queries[span], standardization)
        for other in spans(len(corpus)):
            similarity = block @ _unit(corpus[other], standardization).T  # [block, other]
            numbers = np.arange(other.start, other.stop)
            rows = np.broadcast_to(numbers, similarity.shape)
            # earlier rows stand before later ones, and the sort is stable
            candidates = np.concatenate([best[span], similarity], axis=1)
            candidate_rows = np.concatenate([index[span], rows], axis=1)
            ranked = np.argsort(-candidates, axis=1, kind="stable")
            order = ranked[:, :k]
            best[span] = np.take_along_axis(candidates, order, axis=1)
            index[span] = np.take_along_axis(candidate_rows, order, axis=1)
    return Neighbours(index, best)


def _unit(rows: Features, standardization: Standardization | None) -> Floats:
    """Return rows of length 1 in float64; a row of zeros stays one."""
    wide = rows.astype(np.float64)
    if standardization:
        wide -= standardization.mean
        deviation = standardization.deviation
        wide = np.divide(wide, deviation, out=np.zeros_like(wide), where=deviation > 0)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Floats = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return unit


def similar_layouts(
    queries: NDArray[np.int16], corpus: NDArray[np.int16], num_classes: int
) -> Neighbours:
    """Return the layout of `corpus` [M, cells] most like each query [N, cells].

    Layouts are maps of class indices, -1 = no box. Similarity is the mean of two shares: cells with
    the same content in both, and the intersection of the two histograms over classes (no box is
    one). Of equals the first counts as nearer.
    """
    corpus_histograms = _histograms(corpus, num_classes)
    query_histograms = _histograms(queries, num_classes)
    index = np.zeros((len(queries), 1), np.int64)
    best = np.zeros((len(queries), 1))
    for i, query in enumerate(queries):
        equal_cells = (corpus == query).mean(axis=1)  # [M]
        common = np.minimum(corpus_histograms, query_histograms[i]).sum(axis=1)  # [M]
        similarity = (equal_cells + common) / 2
        index[i, 0] = similarity.argmax()
        best[i, 0] = similarity[index[i, 0]]
    return Neighbours(index, best)


def _histograms(maps: NDArray[np.int16], num_classes: int) -> Floats:
    """Return the share of cells of each class, no box among them [N, num_classes + 1]."""
    shares: Floats = np.zeros((len(maps), num_classes + 1))
    for content in np.unique(maps).tolist():
        shares[:, content] = (maps == content).mean(axis=1)  # no box, -1, is the last column
    return shares

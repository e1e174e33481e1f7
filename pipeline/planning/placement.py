"""Which layouts receive which added objects: a class goes where it naturally occurs. Pure functions of arrays.

The plan fixes how many objects each layout receives (as many as it gave up) and how many of each class are added in all
(the deficits). Among all ways to meet both, `fit` takes the one nearest to the classes' natural companions: it minimises
the Kullback-Leibler divergence of the additions from the affinities, subject to both sums. That is matrix scaling
(iterative proportional fitting: Deming and Stephan 1940; Sinkhorn 1967): row * affinity * weight of the class, normalised
per layout. Where one class alone is added there is nothing to choose. Only the weights [C] are kept, so that a layout's
shares are found from its own classes alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 1.0  # images; pulls the lift of pairs that are seldom expected towards 1
ROUNDS = 500  # of scaling
EXACT = 1e-6  # relative error of the sums at which scaling ends
_LEAST = -100.0  # of a logarithm, so that every class keeps a chance everywhere

Floats = NDArray[np.float64]


def pair_counts(counts: NDArray[np.int32]) -> Floats:
    """Images that hold both classes [C, C], from objects per image and class [S, C]; the diagonal: two or more of it."""
    present = (counts > 0).astype(np.float32)
    both = (present.T @ present).astype(np.float64)
    np.fill_diagonal(both, (counts > 1).sum(0))
    return both


def lift(counts: NDArray[np.int32]) -> Floats:
    """How many times more often two classes share an image than if they were independent [C, C]; 1 = independent.

    lift = (n_kc + a) / (n_k n_c / S + a) with n_kc of `pair_counts` and a = SMOOTHING; above 0 everywhere.
    """
    images = (counts > 0).sum(0).astype(np.float64)  # [C]
    expected = np.outer(images, images) / max(1, len(counts))
    result: Floats = (pair_counts(counts) + SMOOTHING) / (expected + SMOOTHING)
    return result


def affinity(counts: NDArray[np.int32], lifts: Floats) -> Floats:
    """How well each class fits into layouts [S, C]: the product of its lifts with the classes that are there.

    The product is what follows when classes are independent given the one that is added (naive Bayes).
    """
    logs = (counts > 0).astype(np.float64) @ np.log(lifts)
    result: Floats = np.exp(np.maximum(logs - logs.max(1, keepdims=True), _LEAST))
    return result


def shares(affinities: Floats, weights: Floats) -> Floats:
    """Return the share of each class among what a layout receives [S, C]; rows sum to 1."""
    scaled = affinities * weights
    result: Floats = scaled / scaled.sum(1, keepdims=True)
    return result


def fit(affinities: Floats, rows: Floats, columns: Floats) -> Floats:
    """Return class weights [C] for which layouts that receive `rows` [S] objects receive `columns` [C] of each class.

    Both are expectations with one sum; affinities [S, C] are above 0, so a solution exists.
    """
    weights: Floats = columns / columns.sum()
    if not rows.any():
        return weights
    wanted = columns > 0
    goal = columns[wanted] * (rows.sum() / columns.sum())
    kernel, found = affinities[:, wanted], weights[wanted]
    for _ in range(ROUNDS):
        given = rows @ shares(kernel, found)
        if np.abs(given / goal - 1).max() < EXACT:
            break
        found = found * goal / given
        found = found / found.sum()
    weights[wanted] = found
    return weights

"""The layouts that receive added objects: a class goes where it occurs.

Where it naturally occurs, that is. Pure functions of arrays.

The plan fixes how many objects each layout receives (as many as it gave up) and how many of each
class are added in all (the deficits). Among all ways to meet both, `fit` takes the one nearest to
the classes' natural companions: it minimises the Kullback-Leibler divergence of the additions from
the affinities, subject to both sums. That is matrix scaling (iterative proportional fitting: Deming
and Stephan 1940; Sinkhorn 1967): row * affinity * weight of the class, normalised per layout. Where
one class alone is added there is nothing to choose. Only the weights [C] are kept, so that a
layout's shares are found from its own classes alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats

SMOOTHING = 1.0  # images; pulls the lift of pairs that are seldom expected towards 1
ROUNDS = 500  # of scaling
TOLERANCE = 1e-6  # relative error of the sums at which scaling ends
_MIN_LOG = -100.0  # so that every class keeps a chance everywhere


def pair_counts(counts: NDArray[np.int32]) -> Floats:
    """Return the number of images that hold both classes [C, C].

    Given objects per image and class [S, C].

    The diagonal has the images with two objects or more of the class.
    """
    present = (counts > 0).astype(np.float32)
    pairs = (present.T @ present).astype(np.float64)
    np.fill_diagonal(pairs, (counts > 1).sum(0))
    return pairs


def lift(counts: NDArray[np.int32]) -> Floats:
    """Return how much more often than by chance two classes share an image.

    Shape [C, C]; 1 = independent.

    lift = (n_kc + a) / (n_k n_c / S + a) with n_kc of `pair_counts` and a = SMOOTHING; above 0
    everywhere.
    """
    images = (counts > 0).sum(0).astype(np.float64)  # [C]
    expected = np.outer(images, images) / max(1, len(counts))
    lifts: Floats = (pair_counts(counts) + SMOOTHING) / (expected + SMOOTHING)
    return lifts


def affinity(counts: NDArray[np.int32], lifts: Floats) -> Floats:
    """Return the fit of each class to each layout [S, C].

    The product of its lifts with the classes that are there.

    The product is what follows when classes are independent given the one that is added (naive
    Bayes).
    """
    present = (counts > 0).astype(np.float64)
    logs = present @ np.log(lifts)
    relative = logs - logs.max(1, keepdims=True)
    affinities: Floats = np.exp(np.maximum(relative, _MIN_LOG))
    return affinities


def shares(affinities: Floats, weights: Floats) -> Floats:
    """Return the share of each class among the objects a layout receives [S, C].

    Rows sum to 1.
    """
    scaled = affinities * weights
    rows: Floats = scaled / scaled.sum(1, keepdims=True)
    return rows


def fit(affinities: Floats, rows: Floats, columns: Floats) -> Floats:
    """Return class weights [C] that meet the margins.

    Layouts that receive `rows` [S] objects then receive `columns` [C] of each class.

    Both are expectations with one sum; affinities [S, C] are above 0, so a solution exists.
    """
    weights: Floats = columns / columns.sum()
    if not rows.any():
        return weights
    added = columns > 0
    goal = columns[added] * (rows.sum() / columns.sum())
    kernel = affinities[:, added]
    scale = weights[added]
    for _ in range(ROUNDS):
        received = rows @ shares(kernel, scale)
        if np.abs(received / goal - 1).max() < TOLERANCE:
            break
        scale = scale * goal / received
        scale = scale / scale.sum()
    weights[added] = scale
    return weights

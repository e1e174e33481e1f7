"""A cross-validated classifier of small pictures, and the area under its curve.

Pure functions of arrays.

Legend: N pictures, S their side, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Floats, Ints

FOLDS = 5
RIDGE = 3.0  # penalty on standardized weights
ROUNDS = 25  # of Newton's method, at most
THUMBNAIL = 8  # pixels per side
RADII = 8  # rings of a spectrum
SMALLEST = 1e-6
INTERVAL = 1.96  # standard errors


def features(pictures: Bytes) -> Floats:
    """Return what a glance tells of pictures [N, S, S, 3].

    Colors, edges row by row and column by column, spectrum [N, D].
    """
    count, side = pictures.shape[:2]
    values = pictures.astype(np.float64) / 255
    cell = side // THUMBNAIL
    cells = values.reshape(count, THUMBNAIL, cell, THUMBNAIL, cell, 3)
    means = cells.mean((2, 4))
    thumbnails = means.reshape(count, 3 * THUMBNAIL**2)
    gray = values.mean(3)
    steps_down = np.abs(np.diff(gray, axis=1))
    steps_across = np.abs(np.diff(gray, axis=2))
    down = steps_down.mean(2)  # [N, S - 1]
    across = steps_across.mean(1)
    centered = gray - gray.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(centered)) ** 2
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency)
    numbers = (radius * 2 * RADII).astype(int)
    ring = np.minimum(numbers, RADII - 1)
    rings = []
    for number in range(RADII):
        of_ring = power[:, ring == number].mean(1)
        rings.append(np.log(of_ring + SMALLEST))
    spectrum = np.stack(rings, 1)
    return np.concatenate([thumbnails, down, across, spectrum], 1)


@dataclass(frozen=True)
class Curve:
    """The area under a ROC curve with its 95 % interval."""

    area: float
    low: float
    high: float


def told_apart(first: Floats, second: Floats, groups: tuple[Ints, Ints]) -> Curve | None:
    """Return how well a logistic regression tells rows [N, D] of two sets apart.

    Each row is judged by a regression that has not learned from it.

    Rows of one group (image) of a set are learned from together or not at all. None with fewer rows
    than folds need.
    """
    if min(len(first), len(second)) < 2 * FOLDS:
        return None
    rows = np.concatenate([first, second])
    zeros = np.zeros(len(first))
    ones = np.ones(len(second))
    truth = np.concatenate([zeros, ones])
    folds = np.concatenate([_folds(own) for own in groups])
    scores = np.zeros(len(rows))
    for fold in range(FOLDS):
        learned = folds != fold
        center = rows[learned].mean(0)
        scale = rows[learned].std(0) + SMALLEST
        learned_rows = (rows[learned] - center) / scale
        weights = regress(learned_rows, truth[learned])
        standardized = (rows[~learned] - center) / scale
        scores[~learned] = _with_one(standardized) @ weights
    return area_under_curve(scores[truth == 0], scores[truth == 1])


def _folds(groups: Ints) -> Ints:
    """Return the fold [N] of each row: groups in turn, by their order."""
    _, rank = np.unique(groups, return_inverse=True)
    folds: Ints = rank % FOLDS
    return folds


def regress(rows: Floats, truth: Floats) -> Floats:
    """Return weights [D + 1] of a ridge logistic regression, the constant last.

    It is one of `truth`, 0 or 1 [N], on rows [N, D].
    """
    design = _with_one(rows)
    weights = np.zeros(design.shape[1])
    penalty = np.full(len(weights), RIDGE)
    penalty[-1] = SMALLEST
    for _ in range(ROUNDS):
        logit = (design @ weights).clip(-30, 30)
        probability = 1 / (1 + np.exp(-logit))
        spread = probability * (1 - probability)
        slope = design.T @ (truth - probability) - penalty * weights
        weighed = design * spread[:, None]
        curvature = weighed.T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        weights = weights + step
        if np.abs(step).max() < SMALLEST:
            break
    return weights


def _with_one(rows: Floats) -> Floats:
    ones = np.ones((len(rows), 1))
    return np.concatenate([rows, ones], 1)


def area_under_curve(negative: Floats, positive: Floats) -> Curve:
    """Return the share of pairs [N] x [M] in order, ties half.

    The interval is that of Hanley and McNeil (1982).
    """
    num_negative = len(negative)
    num_positive = len(positive)
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left")
    equal = np.searchsorted(order, positive, "right") - below
    area = float((below + equal / 2).mean() / num_negative)
    # of two positives both rank above one negative, and of one positive above two negatives
    q1 = area / (2 - area)
    q2 = 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (num_positive - 1) * (q1 - area**2)
    variance += (num_negative - 1) * (q2 - area**2)
    num_pairs = num_positive * num_negative
    error = float(np.sqrt(max(0.0, variance) / num_pairs))
    low = max(0.0, area - INTERVAL * error)
    high = min(1.0, area + INTERVAL * error)
    return Curve(area, low, high)

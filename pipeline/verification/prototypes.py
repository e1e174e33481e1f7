"""A judge of crops: prototypes of classes in the frozen features of a detector.

A box holds an object of a class as far as its features are nearer to the class's prototype than to
any other: of another class, of background, or of the class half in the box. A prototype is the mean
of the features of labelled crops; distances are Mahalanobis', with one covariance for all (linear
discriminant analysis, Fisher 1936), shrunk towards its diagonal (Schäfer and Strimmer 2005, target
D) because there may be fewer crops than features.

Legend: N crops, D features, P prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.json_values import Json

SHRINKAGE = 0.2  # of the covariance towards its diagonal
LEAST_VARIANCE = 1e-6  # of a feature, as a share of the mean one
BACKGROUND = -1  # the crop of no object
# A crop that holds only a part of an object of class c is of the kind PART - c.
PART = -2

Features = NDArray[np.float32]  # [N, D]
Kinds = NDArray[np.int64]  # [N] class index, BACKGROUND, or PART - class


@dataclass(frozen=True)
class Prototypes:
    """The prototypes, as the linear functions that tell which is nearest."""

    kinds: Kinds  # [P]
    weight: Floats  # [P, D]
    offset: Floats  # [P]

    def margins(self, features: Features, label: int) -> Floats:
        """Return how much nearer crops [N, D] are to a class than to any other prototype.

        Below 0: further. It is half the difference of the squared distances.
        """
        products = features.astype(np.float64) @ self.weight.T
        closeness = products + self.offset  # [N, P]
        own = self.kinds == label
        to_class = closeness[:, own][:, 0]
        to_others = closeness[:, ~own].max(1)
        margins: Floats = to_class - to_others
        return margins

    def confirm(self, features: Features, labels: Ints, least: Floats) -> Flags:
        """Return which crops [N, D] are near enough to the classes they are said to show.

        `least` [C] are the margins from which on a class is confirmed.
        """
        confirmed = np.zeros(len(labels), bool)
        for label in np.unique(labels).tolist():
            own = labels == label
            margins = self.margins(features[own], label)
            confirmed[own] = margins >= least[label]
        return confirmed

    def knows(self, label: int) -> bool:
        """Return whether there is a prototype of the class, and another to compare with."""
        has_class = self.kinds == label
        return len(self.kinds) > 1 and bool(has_class.any())

    def to_json(self) -> Json:
        """Return plain data."""
        return {
            "kinds": self.kinds.tolist(),
            "weight": self.weight.tolist(),
            "offset": self.offset.tolist(),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Prototypes:
        """Return the prototypes that `to_json` described."""
        kinds = np.array(content["kinds"], np.int64)
        weight = np.array(content["weight"], np.float64)
        weight = weight.reshape(len(kinds), -1)
        offset = np.array(content["offset"], np.float64)
        return Prototypes(kinds, weight, offset)


def fit(features: Sequence[Features], kinds: Sequence[int]) -> Prototypes:
    """Return the prototypes of crops.

    Given as a feature vector [D] and a kind of each.
    """
    if not kinds:
        return Prototypes(
            kinds=np.zeros(0, np.int64),
            weight=np.zeros((0, 0)),
            offset=np.zeros(0),
        )
    crops = np.stack(features).astype(np.float64)  # [N, D]
    names, owner = np.unique(kinds, return_inverse=True)
    sums = np.zeros((len(names), crops.shape[1]))
    np.add.at(sums, owner, crops)
    means = sums / np.bincount(owner)[:, None]
    within = crops - means[owner]
    covariance = within.T @ within / len(crops)
    variance = np.diag(covariance)
    least = LEAST_VARIANCE * max(float(variance.mean()), LEAST_VARIANCE)
    diagonal = np.diag(np.maximum(variance, least))
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal
    solved = np.linalg.solve(shrunk, means.T)
    weight = np.asarray(solved.T, np.float64)
    offset: Floats = -0.5 * (weight * means).sum(1)
    return Prototypes(names.astype(np.int64), weight, offset)

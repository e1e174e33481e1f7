"""Whether made objects are copies of training objects, and vary as real ones do.

Recall and coverage say how much of the variety of real objects they reach.

How near objects of validation images are to training objects is the yardstick: made ones should not
be nearer. An object is compared in its eight turned and mirrored forms, since a generator may have
learned from these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, metric_of
from synthaug.pipeline.scores.features.prdc import prdc
from synthaug.pipeline.scores.features.published import check_at_least
from synthaug.pipeline.scores.objects.discrimination import features
from synthaug.pipeline.scores.objects.extractor import (
    ObjectExtractor,
    ObjectSet,
    few_objects,
    matched,
    object_set,
)

SIDE = 16  # pixels at which objects are compared
NEAR = 0.05  # quantile of the yardstick
BARS = {"distance": 0.8, "coverage": 0.7}  # below which the generator is to be mended first

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """Number of objects and neighbours."""

    objects_per_class: int = 300  # made and real ones, at most
    train_objects: int = 2000  # of a class, searched at most
    neighbors: int = 5  # of recall and coverage

    def __post_init__(self) -> None:
        check_at_least(1, "memorizing", self, "objects_per_class", "train_objects", "neighbors")


def extractors(_: Config) -> tuple[Extractor, ...]:
    """Return the extractor of objects."""
    return (ObjectExtractor(),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where all tables show enough objects."""
    return few_objects(inputs)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `distance`, `near_copies`, `recall` and `coverage`.

    Control `real` has the same of real objects.

    `distance` is that of made objects to the nearest training object of their class, over that of
    real validation objects (medians); `near_copies` the share of made ones nearer than 95 % of the
    real ones are. Recall and coverage are of real validation objects by made ones; of the control,
    by training objects.
    """
    extractor = ObjectExtractor()
    most = config.objects_per_class
    real = object_set(inputs, extractor, "real", most)
    made = object_set(inputs, extractor, "synthetic", most)
    train = object_set(inputs, extractor, "train", config.train_objects)
    made_variety = variety(real, made, config.neighbors)
    values = {**nearness(real, made, train), **made_variety}
    train_variety = variety(real, train, config.neighbors)
    control = {**nearness(real, real, train), **train_variety}
    warnings = []
    if values["distance"] is not None and values["distance"] < BARS["distance"]:
        warnings.append(
            f"distance: {values['distance']:.2f} is below {BARS['distance']}: training objects are "
            "copied"
        )
    known = train_variety["coverage"]
    own = made_variety["coverage"]
    if known and own is not None and own < BARS["coverage"] * known:
        warnings.append(
            f"coverage: {own:.2f} is below {BARS['coverage']:.0%} of that of training objects, "
            f"{known:.2f}: little variety"
        )
    return metric_of(
        inputs,
        extractor,
        name="memorizing",
        headline="distance",
        values=values,
        controls={"real": control},
        protocol=f"Euclidean distance of boxes at {SIDE} x {SIDE} pixels to the nearest training "
        "object of the class in "
        "eight orientations; recall and coverage of colors, edges and spectra with "
        f"{config.neighbors} neighbours",
        selection=f"{len(made)} made, {len(real)} real, {len(train)} training objects",
        bars=BARS,
        warnings=warnings,
    )


def nearness(real: ObjectSet, other: ObjectSet, train: ObjectSet) -> dict[str, float | None]:
    """Return `distance` and `near_copies` of other objects, weighted by their classes."""
    ratios = []
    near = []
    weights = []
    in_both = np.intersect1d(real.labels, other.labels)
    shared = np.intersect1d(in_both, train.labels)
    for label in shared.tolist():
        corpus = _of_class(train, label)
        yardstick = nearest(_of_class(real, label), corpus)
        distances = nearest(_of_class(other, label), corpus)
        median = float(np.median(yardstick))
        if not median:
            continue
        ratios.append(float(np.median(distances)) / median)
        is_near = distances < np.quantile(yardstick, NEAR)
        near.append(float(is_near.mean()))
        weights.append(len(distances))
    if not ratios:
        return {"distance": None, "near_copies": None}
    return {
        "distance": float(np.average(ratios, weights=weights)),
        "near_copies": float(np.average(near, weights=weights)),
    }


def variety(real: ObjectSet, other: ObjectSet, neighbors: int) -> dict[str, float | None]:
    """Return recall and coverage of real objects by as many others of their classes."""
    first, second = matched(real, other)
    rows = features(first.inside)
    others = features(second.inside)
    manifolds = None
    if len(rows):
        center = rows.mean(0)
        scale = rows.std(0) + 1e-6
        standardized = []
        for one in (rows, others):
            values = (one - center) / scale
            standardized.append(values.astype(np.float32))
        manifolds = prdc(standardized[0], standardized[1], neighbors)
    if manifolds is None:
        return {"recall": None, "coverage": None}
    return {"recall": manifolds.recall, "coverage": manifolds.coverage}


def _of_class(objects: ObjectSet, label: int) -> Floats:
    """Return small pictures of a class's objects, [N, SIDE, SIDE, 3] in [0, 1]."""
    of_class = objects.inside[objects.labels == label]
    pictures = of_class.astype(np.float32) / 255
    cell = pictures.shape[1] // SIDE
    cells = pictures.reshape(-1, SIDE, cell, SIDE, cell, 3)
    return np.asarray(cells.mean((2, 4)), np.float32)


def nearest(queries: Floats, corpus: Floats) -> NDArray[np.float64]:
    """Return the distance of each query [N, s, s, 3] to the nearest of a corpus.

    A query counts in any of eight orientations.
    """
    rows = corpus.reshape(len(corpus), -1)
    lengths = (rows**2).sum(1)
    best = np.full(len(queries), np.inf)
    for quarter in range(4):
        for mirrored in (False, True):
            turned = np.rot90(queries, quarter, (1, 2))
            if mirrored:
                turned = turned[:, :, ::-1]
            flat = turned.reshape(len(queries), -1)
            own_lengths = (flat**2).sum(1)[:, None]
            squared = own_lengths + lengths - 2 * flat @ rows.T
            best = np.minimum(best, squared.min(1, initial=np.inf))
    return np.asarray(np.sqrt(best.clip(0)))

"""Precision, recall, density and coverage: quality and variety apart.

Kynkäänniemi et al. 2019, Naeem et al. 2020. Each image's neighbourhood reaches to its k-th nearest
of its own kind. Precision: the share of synthetic images inside some real neighbourhood. Recall:
the share of real images inside some synthetic one. Density: in how many real neighbourhoods a
synthetic image lies, over k. Coverage: the share of real images whose neighbourhood holds a
synthetic one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, metric_of
from synthaug.pipeline.scores.features.extractors import SpacedExtractor, Vgg16Extractor, rows
from synthaug.pipeline.scores.features.published import (
    card_entries,
    check_at_least,
    missing_network,
    unusable,
)
from synthaug.pipeline.scores.features.streams import (
    Features,
    on_disk,
    spaced,
    spans,
    squared_distances,
)

ENOUGH = 1000  # images


@dataclass(frozen=True)
class Config:
    """Number of images and neighbours."""

    samples_per_layout: int = 1  # synthetic images of each validation layout
    # k, of precision and recall as published; density and coverage were published with 5
    neighbors: int = 3
    max_images: int = 10_000  # of each set, evenly spaced; time grows with the square; 0 = all

    def __post_init__(self) -> None:
        check_at_least(1, "prdc", self, "samples_per_layout", "neighbors")
        check_at_least(0, "prdc", self, "max_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of VGG-16's features."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where both sets, the library and the published weights are there."""
    return missing_network(inputs, "vgg16")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Return why this machine cannot use the library or the weights in this folder."""
    return unusable(folder, "vgg16")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return precision (the headline), recall, density and coverage.

    Control `train`: of training images instead.
    """
    extractor = _extractor(config)
    result = compare(inputs, extractor, config.neighbors)
    controls = {}
    if result.train:
        controls["train"] = values(result.train)
    selection = "all"
    if config.max_images:
        selection = f"at most {config.max_images} images of each set, evenly spaced"
    numbers = values(result.synthetic)
    return metric_of(
        inputs,
        extractor,
        name="prdc",
        headline="precision",
        values=numbers,
        controls=controls,
        **card_entries(inputs, "vgg16"),
        protocol="neighbourhoods to the k-th nearest image of the same set, k = "
        f"{config.neighbors}; fc2 after ReLU",
        selection=selection,
        floor="train: as many training images as there are synthetic ones (or all), against the "
        "same real images",
        warnings=warnings(result),
    )


@dataclass(frozen=True)
class Comparison:
    """The numbers of synthetic and of training images against the real ones.

    None with too few images.
    """

    synthetic: Manifolds | None
    train: Manifolds | None
    num_real: int
    num_synthetic: int


def compare(inputs: MetricInputs, extractor: SpacedExtractor, k: int, most: int = 0) -> Comparison:
    """Compare at most `most` images of each set, evenly spaced (0 = all).

    Of the training images as many as synthetic.
    """
    train_result = None
    with (
        on_disk(rows(inputs, extractor, "real")) as all_real,
        on_disk(rows(inputs, extractor, "synthetic")) as all_synthetic,
    ):
        real = _some(all_real, most)
        synthetic = _some(all_synthetic, most)
        synthetic_result = prdc(real, synthetic, k)
        with on_disk(rows(inputs, extractor, "train")) as train:
            if len(synthetic):
                train_result = prdc(real, _some(train, len(synthetic)), k)
    return Comparison(synthetic_result, train_result, len(real), len(synthetic))


def values(manifolds: Manifolds | None) -> dict[str, float | None]:
    """Return the four numbers by name, None where there is no result."""
    if manifolds is None:
        return dict.fromkeys(("precision", "recall", "density", "coverage"))
    return {
        "precision": manifolds.precision,
        "recall": manifolds.recall,
        "density": manifolds.density,
        "coverage": manifolds.coverage,
    }


def warnings(result: Comparison) -> list[str]:
    """Return sentences that say where there are too few images."""
    least = min(result.num_real, result.num_synthetic)
    if least >= ENOUGH:
        return []
    return [
        f"{least} images: below {ENOUGH} the neighbourhoods are wide and the four numbers coarse"
    ]


def _some(features: Features, most: int) -> Features:
    return np.asarray(features[spaced(len(features), most)])


def _extractor(config: Config) -> Vgg16Extractor:
    return Vgg16Extractor(
        samples=config.samples_per_layout,
        train_images=config.max_images,
        other_images=config.max_images,
    )


@dataclass(frozen=True)
class Manifolds:
    """Precision, recall and coverage in [0, 1], and density.

    Density is 0 or more, about 1 where the two sets are alike.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Features, synthetic: Features, k: int) -> Manifolds | None:
    """Return the four of real rows [N, D] and synthetic rows [M, D].

    None where a set has k rows or fewer. Distances are Euclidean, in float64, block by block; a
    point on the border of a neighbourhood is inside.
    """
    if min(len(real), len(synthetic)) <= k:
        return None
    real_radii = radii(real, k)
    synthetic_radii = radii(synthetic, k)
    num_hits = 0
    precise = np.zeros(len(synthetic), bool)  # inside some real neighbourhood
    covered = np.zeros(len(real), bool)  # whose neighbourhood holds a synthetic row
    recalled = np.zeros(len(real), bool)  # inside some synthetic neighbourhood
    for span in spans(len(real)):
        for other in spans(len(synthetic)):
            distance = squared_distances(real[span], synthetic[other])  # [n, m]
            in_real = distance <= real_radii[span][:, None]
            in_synthetic = distance <= synthetic_radii[other][None]
            num_hits += int(in_real.sum())
            precise[other] |= in_real.any(axis=0)
            covered[span] |= in_real.any(axis=1)
            recalled[span] |= in_synthetic.any(axis=1)
    density = num_hits / (k * len(synthetic))
    precision = float(precise.mean())
    recall = float(recalled.mean())
    coverage = float(covered.mean())
    return Manifolds(precision, recall, density, coverage)


def radii(rows: Features, k: int) -> Floats:
    """Return the squared distance of each row [N] to its k-th nearest other row."""
    out: Floats = np.empty(len(rows))
    for span in spans(len(rows)):
        nearest = np.full((span.stop - span.start, k), np.inf)
        for other in spans(len(rows)):
            distance = squared_distances(rows[span], rows[other])
            if other == span:
                np.fill_diagonal(distance, np.inf)  # a row is no neighbour of its own
            joined = np.concatenate([nearest, distance], axis=1)
            nearest = np.partition(joined, k - 1, axis=1)[:, :k]
        out[span] = nearest.max(axis=1)
    return out

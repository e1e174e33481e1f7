"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020): quality and variety apart.

Each image's neighbourhood reaches to its k-th nearest of its own kind. Precision: the share of synthetic images inside
some real neighbourhood. Recall: the share of real images inside some synthetic one. Density: in how many real
neighbourhoods a synthetic image lies, over k. Coverage: the share of real images whose neighbourhood holds a synthetic one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, full_card
from synthaug.pipeline.scores.features.extractors import SpacedExtractor, Vgg16Extractor, rows
from synthaug.pipeline.scores.features.published import at_least, entries, reason, unusable
from synthaug.pipeline.scores.features.streams import (
    Features,
    on_disk,
    spaced,
    spans,
    squared_distances,
)


@dataclass(frozen=True)
class Config:
    """How many images and neighbours are used."""

    samples_per_layout: int = 1  # synthetic images of each validation layout
    neighbours: int = (
        3  # k, of precision and recall as published; density and coverage were published with 5
    )
    max_images: int = 10_000  # of each set, evenly spaced; time grows with the square; 0 = all

    def __post_init__(self) -> None:
        at_least(1, "prdc", self, "samples_per_layout", "neighbours")
        at_least(0, "prdc", self, "max_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The features of VGG-16."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Both sets, the library and the published weights must be there."""
    return reason(inputs, "vgg16")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: the library, or the weights in this folder."""
    return unusable(folder, "vgg16")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return precision (the headline), recall, density and coverage; control `train`: of training images instead."""
    extractor = _extractor(config)
    found, controls, counts = measured(inputs, extractor, config.neighbours)
    return Metric(
        name="prdc",
        value=found["precision"],
        values=found,
        card=full_card(
            inputs,
            extractor,
            **entries(inputs, "vgg16"),
            headline_key="precision",
            protocol=f"neighbourhoods to the k-th nearest image of the same set, k = {config.neighbours}; fc2 after ReLU",
            selection=f"at most {config.max_images} images of each set, evenly spaced"
            if config.max_images
            else "all",
            floor="train: as many training images as there are synthetic ones (or all), against the same real images",
            warnings=warnings(counts),
        ),
        controls=controls,
    )


def measured(
    inputs: MetricInputs, extractor: SpacedExtractor, k: int, most: int = 0
) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]], list[int]]:
    """Return the four numbers of synthetic against real images, those of training images, and the two sets' sizes."""
    with (
        on_disk(rows(inputs, extractor, "real")) as whole_real,
        on_disk(rows(inputs, extractor, "synthetic")) as whole,
    ):
        real, synthetic = (_some(features, most) for features in (whole_real, whole))
        found = prdc(real, synthetic, k)
        with on_disk(rows(inputs, extractor, "train")) as train:
            control = prdc(real, _some(train, len(synthetic)), k) if len(synthetic) else None
    counts = [len(real), len(synthetic)]
    return values(found), {"train": values(control)} if control else {}, counts


def values(found: Manifolds | None) -> dict[str, float | None]:
    """Return the four by name, None where there is no result."""
    return {
        name: getattr(found, name, None) for name in ("precision", "recall", "density", "coverage")
    }


def warnings(counts: list[int]) -> list[str]:
    """Say in sentences where there are too few images, or too different numbers of them."""
    few = [
        f"{min(counts)} images: below 1000 the neighbourhoods are wide and the four numbers coarse"
    ]
    return few if min(counts) < 1000 else []


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
    """Precision, recall and coverage in [0, 1]; density 0 or more, about 1 where the two sets are alike."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Features, synthetic: Features, k: int) -> Manifolds | None:
    """Return the four of real rows [N, D] and synthetic rows [M, D]; None where a set has k rows or fewer.

    Distances are Euclidean, in float64, block by block; a point on the border of a neighbourhood is inside.
    """
    if min(len(real), len(synthetic)) <= k:
        return None
    of_real, of_synthetic = radii(real, k), radii(synthetic, k)
    hits = 0
    precise: NDArray[np.bool_] = np.zeros(len(synthetic), bool)
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for span in spans(len(real)):
        for other in spans(len(synthetic)):
            distance = squared_distances(real[span], synthetic[other])
            inside = distance <= of_real[span][:, None]  # of real neighbourhoods [n, m]
            hits += int(inside.sum())
            precise[other] |= inside.any(axis=0)
            covered[span] |= inside.any(axis=1)
            recalled[span] |= (distance <= of_synthetic[other][None]).any(axis=1)
    density = hits / (k * len(synthetic))
    return Manifolds(float(precise.mean()), float(recalled.mean()), density, float(covered.mean()))


def radii(rows: Features, k: int) -> NDArray[np.float64]:
    """Return the squared distance of each row [N] to its k-th nearest other row."""
    out: NDArray[np.float64] = np.empty(len(rows))
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

"""KID, kernel inception distance (Binkowski et al. 2018, section 4): the squared MMD of synthetic and real features.

The kernel is (x.y / D + 1)^3; the estimate is unbiased, so few images make it less certain but not too high, and it may
be slightly below 0. Reported are mean and standard deviation over random subsets, as torch-fidelity draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, full_card
from synthaug.pipeline.scores.features.extractors import InceptionExtractor, counted, rows
from synthaug.pipeline.scores.features.published import at_least, entries, reason, unusable
from synthaug.pipeline.scores.features.streams import Features, on_disk, spans, thinned

SUBSET_SEED = 2020  # torch-fidelity's


@dataclass(frozen=True)
class Config:
    """How many images and subsets KID is computed from; `subsets` and `subset_size` as published and in torch-fidelity."""

    samples_per_layout: int = 1  # synthetic images of each validation layout
    subsets: int = 100
    subset_size: int = 1000  # images; with fewer at hand, half of the smaller set
    train_images: int = 10_000  # training images looked at for the floor, at most; 0 = all

    def __post_init__(self) -> None:
        at_least(1, "kid", self, "samples_per_layout", "subsets")
        at_least(2, "kid", self, "subset_size")
        at_least(0, "kid", self, "train_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The same look as FID's."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Both sets, the library and the published weights must be there."""
    return reason(inputs, "inception")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: the library, or the weights in this folder."""
    return unusable(folder, "inception")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return KID of synthetic against real images; control `train`: as many training images against the same real ones."""
    extractor = _extractor(config)
    with on_disk(rows(inputs, extractor, "real")) as real:
        with on_disk(rows(inputs, extractor, "synthetic")) as synthetic:
            found, count = (
                kernel_distance(synthetic, real, config.subsets, config.subset_size),
                len(synthetic),
            )
        with on_disk(
            thinned(rows(inputs, extractor, "train"), counted(inputs, extractor, "train"), count)
        ) as train:
            floor = kernel_distance(train, real, config.subsets, config.subset_size)
    return Metric(
        name="kid",
        value=found.mean if found else None,
        values=values(found, "kid"),
        card=full_card(
            inputs,
            extractor,
            **entries(inputs, "inception"),
            headline_key="kid",
            protocol="unbiased squared MMD, kernel (x.y / 2048 + 1)^3 on pool features, mean over subsets, unscaled",
            splits=f"{found.subsets} random subsets of {found.subset_size}" if found else "none",
            seed=SUBSET_SEED,
            floor="train: as many training images as there are synthetic ones (or all), against the same real images",
            warnings=warnings(found, config.subset_size),
        ),
        controls={"train": values(floor, "kid")} if floor else {},
    )


def values(found: Kernel | None, name: str) -> dict[str, float | None]:
    """Return the numbers under the name of the score."""
    return {name: found.mean if found else None, f"{name}_std": found.std if found else None}


def warnings(found: Kernel | None, asked: int) -> list[str]:
    """Say in sentences where there are too few images."""
    if not found:
        return ["fewer than 4 images: there is no kernel distance"]
    if found.subset_size < asked:
        return [
            f"subsets of {found.subset_size} instead of {asked} images: the mean is unbiased still, the spread larger"
        ]
    return []


def _extractor(config: Config) -> InceptionExtractor:
    return InceptionExtractor(samples=config.samples_per_layout, train_images=config.train_images)


@dataclass(frozen=True)
class Kernel:
    """An MMD estimate: mean and standard deviation over subsets, and how large these were."""

    mean: float
    std: float
    subset_size: int
    subsets: int


def mmd(x: Features, y: Features) -> float:
    """Return the unbiased estimate of the squared MMD (Gretton et al. 2012, eq. 3) of rows [N, D] and [M, D], N, M >= 2.

    Sums in float64, block by block.
    """
    n, m = len(x), len(y)
    assert n > 1 and m > 1
    within_x = _kernel_sum(x, x) - _diagonal_sum(x)
    within_y = _kernel_sum(y, y) - _diagonal_sum(y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * _kernel_sum(x, y) / (n * m)


def kernel_distance(
    x: Features, y: Features, subsets: int = 100, size: int = 1000, seed: int = SUBSET_SEED
) -> Kernel | None:
    """Return the mean of `mmd` over random subsets of `size` rows of each; None with fewer than four rows.

    Where there are not enough rows the subsets have half of the fewer, so that they still differ; the estimate stays
    unbiased.
    """
    least = min(len(x), len(y))
    if least < 4:
        return None
    used = size if least >= size else least // 2
    rng = np.random.RandomState(seed)
    draws: NDArray[np.float64] = np.zeros(subsets)
    for i in range(subsets):
        picks = [rng.choice(len(rows), used, replace=False) for rows in (x, y)]
        # a mapped array is read faster, and a product is the same, in any order of rows
        draws[i] = mmd(*(rows[np.sort(pick)] for rows, pick in zip((x, y), picks, strict=True)))
    return Kernel(float(draws.mean()), float(draws.std()), used, subsets)


def _polynomial(products: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    cubed: NDArray[np.float64] = (products / width + 1.0) ** 3
    return cubed


def _kernel_sum(x: Features, y: Features) -> float:
    total, right = 0.0, y.astype(np.float64)
    for span in spans(len(x)):
        total += float(_polynomial(x[span].astype(np.float64) @ right.T, x.shape[1]).sum())
    return total


def _diagonal_sum(x: Features) -> float:
    return float(_polynomial((x.astype(np.float64) ** 2).sum(axis=1), x.shape[1]).sum())

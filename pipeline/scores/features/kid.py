"""KID, kernel inception distance (Binkowski et al. 2018, section 4).

The squared MMD of synthetic and real features. The kernel is (x.y / D + 1)^3; the estimate is
unbiased, so few images make it less certain but not too high, and it may be slightly below 0.
Reported are mean and standard deviation over random subsets, as torch-fidelity draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, metric_of
from synthaug.pipeline.scores.features.extractors import (
    InceptionExtractor,
    SpacedExtractor,
    num_selected,
    rows,
)
from synthaug.pipeline.scores.features.published import (
    card_entries,
    check_at_least,
    missing_network,
    unusable,
)
from synthaug.pipeline.scores.features.streams import Features, on_disk, spans, thinned

SUBSET_SEED = 2020  # torch-fidelity's


@dataclass(frozen=True)
class Config:
    """Number of images and subsets.

    `subsets` and `subset_size` are as published and in torch-fidelity.
    """

    samples_per_layout: int = 1  # synthetic images of each validation layout
    subsets: int = 100
    subset_size: int = 1000  # images; with fewer at hand, half of the smaller set
    train_images: int = 10_000  # training images measured for the floor, at most; 0 = all

    def __post_init__(self) -> None:
        check_at_least(1, "kid", self, "samples_per_layout", "subsets")
        check_at_least(2, "kid", self, "subset_size")
        check_at_least(0, "kid", self, "train_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the same extractor as FID's."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where both sets, the library and the published weights are there."""
    return missing_network(inputs, "inception")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Return why this machine cannot use the library or the weights in this folder."""
    return unusable(folder, "inception")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return KID of synthetic against real images.

    Control `train`: as many training images against the same real ones.
    """
    extractor = _extractor(config)
    kernel, floor = kernel_distances(inputs, extractor, config.subsets, config.subset_size)
    splits = "none"
    if kernel:
        splits = f"{kernel.subsets} random subsets of {kernel.subset_size}"
    controls = {}
    if floor:
        controls["train"] = values(floor, "kid")
    numbers = values(kernel, "kid")
    return metric_of(
        inputs,
        extractor,
        name="kid",
        headline="kid",
        values=numbers,
        controls=controls,
        **card_entries(inputs, "inception"),
        protocol="unbiased squared MMD, kernel (x.y / 2048 + 1)^3 on pool features, mean over "
        "subsets, unscaled",
        splits=splits,
        seed=SUBSET_SEED,
        floor="train: as many training images as there are synthetic ones (or all), against the "
        "same real images",
        warnings=warnings(kernel, config.subset_size),
    )


def kernel_distances(
    inputs: MetricInputs, extractor: SpacedExtractor, subsets: int, subset_size: int
) -> tuple[Kernel | None, Kernel | None]:
    """Return the distances of synthetic and of training images from the real ones.

    Of the training images as many are used as there are synthetic ones.
    """
    with on_disk(rows(inputs, extractor, "real")) as real:
        with on_disk(rows(inputs, extractor, "synthetic")) as synthetic:
            kernel = kernel_distance(synthetic, real, subsets, subset_size)
            count = len(synthetic)
        num_train = num_selected(inputs, extractor, "train")
        all_rows = rows(inputs, extractor, "train")
        with on_disk(thinned(all_rows, num_train, count)) as train:
            floor = kernel_distance(train, real, subsets, subset_size)
    return kernel, floor


def values(kernel: Kernel | None, name: str) -> dict[str, float | None]:
    """Return the numbers under the name of the score; None without a distance."""
    if kernel is None:
        return {name: None, f"{name}_std": None}
    return {name: kernel.mean, f"{name}_std": kernel.std}


def warnings(kernel: Kernel | None, subset_size: int) -> list[str]:
    """Return sentences on subsets that too few images cannot fill.

    Of the size asked for.
    """
    if not kernel:
        return ["fewer than 4 images: there is no kernel distance"]
    if kernel.subset_size < subset_size:
        return [
            f"subsets of {kernel.subset_size} instead of {subset_size} images: the mean is "
            "unbiased still, the spread larger"
        ]
    return []


def _extractor(config: Config) -> InceptionExtractor:
    return InceptionExtractor(samples=config.samples_per_layout, train_images=config.train_images)


@dataclass(frozen=True)
class Kernel:
    """An MMD estimate.

    Mean and standard deviation over subsets, and the size of these.
    """

    mean: float
    std: float
    subset_size: int
    subsets: int


def mmd(x: Features, y: Features) -> float:
    """Return the unbiased squared MMD (Gretton et al. 2012, eq. 3) of two sets.

    Rows [N, D] and [M, D], N, M >= 2. Sums in float64, block by block.
    """
    n = len(x)
    m = len(y)
    assert n > 1 and m > 1
    within_x = _kernel_sum(x, x) - _diagonal_sum(x)
    within_y = _kernel_sum(y, y) - _diagonal_sum(y)
    between = _kernel_sum(x, y)
    of_x = within_x / (n * (n - 1))
    of_y = within_y / (m * (m - 1))
    return of_x + of_y - 2 * between / (n * m)


def kernel_distance(
    x: Features, y: Features, subsets: int = 100, size: int = 1000, seed: int = SUBSET_SEED
) -> Kernel | None:
    """Return the mean of `mmd` over random subsets of `size` rows of each.

    None with fewer than four rows. Where there are not enough rows the subsets have half of the
    fewer, so that they still differ; the estimate stays unbiased.
    """
    least = min(len(x), len(y))
    if least < 4:
        return None
    if least < size:
        size = least // 2
    rng = np.random.RandomState(seed)
    draws: Floats = np.zeros(subsets)
    for i in range(subsets):
        x_indices = rng.choice(len(x), size, replace=False)
        y_indices = rng.choice(len(y), size, replace=False)
        # a file is read faster in order, and the sums are the same in any order of rows
        some_x = x[np.sort(x_indices)]
        some_y = y[np.sort(y_indices)]
        draws[i] = mmd(some_x, some_y)
    return Kernel(float(draws.mean()), float(draws.std()), size, subsets)


def _polynomial(products: Floats, width: int) -> Floats:
    cubed: Floats = (products / width + 1.0) ** 3
    return cubed


def _kernel_sum(x: Features, y: Features) -> float:
    """Return the sum of the kernel over all pairs of rows."""
    total = 0.0
    right = y.astype(np.float64)
    for span in spans(len(x)):
        products = x[span].astype(np.float64) @ right.T
        total += float(_polynomial(products, x.shape[1]).sum())
    return total


def _diagonal_sum(x: Features) -> float:
    """Return the sum of the kernel of each row with itself."""
    products = (x.astype(np.float64) ** 2).sum(axis=1)
    return float(_polynomial(products, x.shape[1]).sum())

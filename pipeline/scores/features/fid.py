"""FID, Fréchet inception distance (Heusel et al. 2017, eq. 6).

How far apart are synthetic and real images as two Gaussians? The Gaussians are those of the pool
features of the Inception network of 2015-12-05. The Fréchet distance between them is |m1 - m2|^2 +
tr(S1 + S2 - 2 (S1 S2)^(1/2)).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, comparability, deviations, metric_of
from synthaug.pipeline.scores.features.extractors import InceptionExtractor, num_selected, rows
from synthaug.pipeline.scores.features.published import (
    card_entries,
    check_at_least,
    missing_network,
    unusable,
)
from synthaug.pipeline.scores.features.streams import Features, blocks, thinned

# images; with fewer FID is known to come out too high (Heusel et al., supplement; Chong & Forsyth
# 2020)
ENOUGH = 10_000
FLOOR = (
    "train: as many training images as there are synthetic ones (or all), evenly spaced, against "
    "the same real images"
)


@dataclass(frozen=True)
class Config:
    """Number of images that FID is computed from."""

    # synthetic images of each validation layout; LostGAN-V2: 5 on COCO-Stuff, 1 on VG
    samples_per_layout: int = 1
    train_images: int = 10_000  # training images measured for the floor, at most; 0 = all

    def __post_init__(self) -> None:
        check_at_least(1, "fid", self, "samples_per_layout")
        check_at_least(0, "fid", self, "train_images")


PUBLISHED = Config(
    samples_per_layout=5
)  # LostGAN-V2, Table 1, on COCO-Stuff; one image per layout on VG
UNSTATED = ("train_images",)


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of pool features of all tables."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where both sets, the library and the published weights are there."""
    return missing_network(inputs, "inception")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Return why this machine cannot use the library or the weights in this folder."""
    return unusable(folder, "inception")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return FID of synthetic against real images.

    Control `train`: as many training images against the same real ones.
    """
    extractor = _extractor(config)
    real = moments(rows(inputs, extractor, "real"))
    synthetic = moments(rows(inputs, extractor, "synthetic"))
    assert real and synthetic
    value = frechet(synthetic, real)
    num_train = num_selected(inputs, extractor, "train")
    all_rows = rows(inputs, extractor, "train")
    train = moments(thinned(all_rows, num_train, synthetic.count))
    controls = {}
    if train:
        controls["train"] = {"fid": frechet(train, real), "images": train.count}
    return metric_of(
        inputs,
        extractor,
        name="fid",
        headline="fid",
        values={"fid": value},
        controls=controls,
        **card_entries(inputs, "inception"),
        comparability=comparability(
            deviations("fid", config, PUBLISHED, UNSTATED), "LostGAN-V2's Table 1 (COCO-Stuff)"
        ),
        protocol="squared Fréchet distance of two Gaussians of the 2048 pool features",
        floor=FLOOR,
        warnings=warnings([real.count, synthetic.count], len(real.mean)),
    )


def _extractor(config: Config) -> InceptionExtractor:
    return InceptionExtractor(samples=config.samples_per_layout, train_images=config.train_images)


class Moments:
    """Mean and covariance of rows that come block by block, in float64.

    Stable in blocks (Chan et al. 1983).
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(width)
        # sum of (x - mean)(x - mean)^T
        self._scatter: Floats = np.zeros((width, width))

    def add(self, rows: Features) -> None:
        """Take rows [N, D]."""
        num_rows = len(rows)
        if not num_rows:
            return
        wide = rows.astype(np.float64)
        mean = wide.mean(axis=0)
        total = self.count + num_rows
        centred = wide - mean
        shift = mean - self.mean
        between = np.outer(shift, shift) * (self.count * num_rows / total)
        self._scatter += centred.T @ centred + between
        self.mean = self.mean + shift * (num_rows / total)
        self.count = total

    @property
    def covariance(self) -> Floats:
        """Return the unbiased covariance [D, D]; of fewer than two rows zeros."""
        return self._scatter / max(1, self.count - 1)


def moments(rows: Iterable[Features]) -> Moments | None:
    """Return the moments of a stream of arrays [n, D]; None of an empty one."""
    statistics: Moments | None = None
    for block in blocks(rows):
        if statistics is None:
            statistics = Moments(block.shape[1])
        statistics.add(block)
    return statistics


def frechet(a: Moments, b: Moments) -> float:
    """Return the squared Fréchet distance of two Gaussians, never below 0.

    Singular covariances are no exception. tr (S1 S2)^(1/2) is the sum of the singular values of R1
    R2^T, where S = R^T R: no root of a rounded eigenvalue is taken, so covariances of fewer rows
    than dimensions keep full precision.
    """
    first = a.covariance
    second = b.covariance
    shift = a.mean - b.mean
    product = _root(first) @ _root(second).T
    cross = float(np.linalg.svd(product, compute_uv=False).sum())
    traces = float(shift @ shift) + float(np.trace(first)) + float(np.trace(second))
    return max(0.0, traces - 2 * cross)


def _root(covariance: Floats) -> Floats:
    """Return R [rank, D] with R^T R = covariance.

    Directions without variance are left out.
    """
    values, vectors = np.linalg.eigh(covariance)
    largest = max(float(values[-1]), 0.0)
    least = largest * len(values) * np.finfo(np.float64).eps
    kept = values > least
    scaled = vectors[:, kept] * np.sqrt(values[kept])
    root: Floats = scaled.T
    return root


def warnings(counts: Iterable[int], width: int) -> list[str]:
    """Return sentences on why a Fréchet distance is uncertain.

    For so few images with features of this width.
    """
    least = min(counts)
    sentences = []
    if least <= width:
        sentences.append(
            f"{least} images for {width} feature dimensions: the covariance is singular, the "
            "distance far too high"
        )
    if least < ENOUGH:
        sentences.append(
            f"{least} images: below {ENOUGH} the distance is biased upwards; compare only at equal "
            "numbers of images"
        )
    return sentences

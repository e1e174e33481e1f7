"""FID, Fréchet inception distance (Heusel et al. 2017, eq. 6): how far apart are synthetic and real images as two Gaussians?

The Gaussians are those of the pool features of the Inception network of 2015-12-05. The Fréchet distance between them is
|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, full_card
from synthaug.pipeline.scores.features.extractors import InceptionExtractor, counted, rows
from synthaug.pipeline.scores.features.published import at_least, entries, reason, unusable
from synthaug.pipeline.scores.features.streams import Features, blocks, thinned

ENOUGH = 10_000  # images; with fewer FID is known to come out too high (Heusel et al., supplement; Chong & Forsyth 2020)


@dataclass(frozen=True)
class Config:
    """How many images FID is computed from."""

    samples_per_layout: int = (
        1  # synthetic images of each validation layout; LostGAN-V2: 5 on COCO-Stuff, 1 on VG
    )
    train_images: int = 10_000  # training images looked at for the floor, at most; 0 = all

    def __post_init__(self) -> None:
        at_least(1, "fid", self, "samples_per_layout")
        at_least(0, "fid", self, "train_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The pool features of all tables."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Both sets, the library and the published weights must be there."""
    return reason(inputs, "inception")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: the library, or the weights in this folder."""
    return unusable(folder, "inception")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return FID of synthetic against real images; control `train`: as many training images against the same real ones."""
    extractor = _extractor(config)
    real, synthetic = (moments(rows(inputs, extractor, table)) for table in ("real", "synthetic"))
    assert real and synthetic
    value = frechet(synthetic, real)
    train = moments(
        thinned(
            rows(inputs, extractor, "train"), counted(inputs, extractor, "train"), synthetic.count
        )
    )
    controls = {"train": {"fid": frechet(train, real), "images": train.count}} if train else {}
    return Metric(
        name="fid",
        value=value,
        values={"fid": value},
        card=full_card(
            inputs,
            extractor,
            **entries(inputs, "inception"),
            headline_key="fid",
            protocol="squared Fréchet distance of two Gaussians of the 2048 pool features",
            floor=FLOOR,
            warnings=warnings([real.count, synthetic.count], len(real.mean)),
        ),
        controls=controls,
    )


FLOOR = "train: as many training images as there are synthetic ones (or all), evenly spaced, against the same real images"


def _extractor(config: Config) -> InceptionExtractor:
    return InceptionExtractor(samples=config.samples_per_layout, train_images=config.train_images)


class Moments:
    """Mean and covariance of rows that come block by block, in float64 (Chan et al. 1983: stable, in blocks)."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(width)
        self._scatter: NDArray[np.float64] = np.zeros(
            (width, width)
        )  # sum of (x - mean)(x - mean)^T

    def add(self, rows: Features) -> None:
        """Take rows [N, D]."""
        if not len(rows):
            return
        wide = rows.astype(np.float64)
        mean, total = wide.mean(axis=0), self.count + len(wide)
        centred, shift = wide - mean, mean - self.mean
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (
            self.count * len(wide) / total
        )
        self.mean = self.mean + shift * (len(wide) / total)
        self.count = total

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The unbiased covariance [D, D]; of fewer than two rows zeros."""
        return self._scatter / max(1, self.count - 1)


def moments(rows: Iterable[Features]) -> Moments | None:
    """Return the moments of a stream of arrays [n, D]; None of an empty one."""
    found: Moments | None = None
    for block in blocks(rows):
        found = found or Moments(block.shape[1])
        found.add(block)
    return found


def frechet(a: Moments, b: Moments) -> float:
    """Return the squared Fréchet distance of two Gaussians, never below 0; singular covariances are no exception.

    tr (S1 S2)^(1/2) is the sum of the singular values of R1 R2^T, where S = R^T R: no root of a rounded eigenvalue is
    taken, so covariances of fewer rows than dimensions keep full precision.
    """
    first, second = a.covariance, b.covariance
    shift = a.mean - b.mean
    cross = float(np.linalg.svd(_root(first) @ _root(second).T, compute_uv=False).sum())
    return max(
        0.0, float(shift @ shift) + float(np.trace(first)) + float(np.trace(second)) - 2 * cross
    )


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R [rank, D] with R^T R = covariance; directions without variance are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > max(float(values[-1]), 0.0) * len(values) * np.finfo(np.float64).eps
    root: NDArray[np.float64] = (vectors[:, kept] * np.sqrt(values[kept])).T
    return root


def warnings(counts: Iterable[int], width: int) -> list[str]:
    """Say in sentences why a Fréchet distance of so many images with features of this width is to be taken with care."""
    least = min(counts)
    said = []
    if least <= width:
        said.append(
            f"{least} images for {width} feature dimensions: the covariance is singular, the distance far too high"
        )
    if least < ENOUGH:
        said.append(
            f"{least} images: below {ENOUGH} the distance is biased upwards; compare only at equal numbers of images"
        )
    return said

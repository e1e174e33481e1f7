"""The distances of FID, KID and PRDC on features of the user's own detector, under names of their own.

No published weights are needed: the backbone was trained on the user's real images, so its features tell apart what
matters there. For the same reason the numbers compare only between runs with one judge (`score.judge`), and with no
published FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.scores.base import Extractor, MetricInputs, missing_input
from synthaug.pipeline.scores.card import Metric, full_card, versions
from synthaug.pipeline.scores.features import fid, kid, prdc
from synthaug.pipeline.scores.features.extractors import (
    FEATURES,
    DetectorFeatureExtractor,
    counted,
    rows,
)
from synthaug.pipeline.scores.features.published import at_least
from synthaug.pipeline.scores.features.streams import Features, on_disk, thinned


@dataclass(frozen=True)
class Config:
    """How many images are looked at, and the parameters of the three distances."""

    samples_per_layout: int = (
        1  # synthetic images of each validation layout; from 2 on their variety is measured too
    )
    train_images: int = 10_000  # training images looked at for the floor, at most; 0 = all
    max_images: int = 10_000  # of each set, for precision to coverage; 0 = all
    subsets: int = 100  # of the kernel distance
    subset_size: int = 1000  # images; with fewer at hand, half of the smaller set
    neighbours: int = 5  # of precision, recall, density and coverage

    def __post_init__(self) -> None:
        at_least(1, "detector_features", self, "samples_per_layout", "subsets", "neighbours")
        at_least(2, "detector_features", self, "subset_size")
        at_least(0, "detector_features", self, "train_images", "max_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The features of the judge's backbone."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Both sets and a detector must be there."""
    return missing_input(inputs, detector=True)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `frechet` (the headline), `kernel`, precision to coverage and `variety`; control `train`: training images."""
    extractor = _extractor(config)
    found, floor, counts = _frechet(inputs, extractor)
    kernel, kernel_floor = _kernel(inputs, extractor, config)
    shares, share_floor, _ = prdc.measured(inputs, extractor, config.neighbours, config.max_images)
    values = {**found, **kid.values(kernel, "kernel"), **shares, **_variety(inputs, extractor)}
    controls = (
        {**floor, **kid.values(kernel_floor, "kernel"), **share_floor.get("train", {})}
        if floor
        else {}
    )
    width = next((row.shape[1] for row in rows(inputs, extractor, "real")), 0)
    return Metric(
        name="detector_features",
        value=values["frechet"],
        values=values,
        card=full_card(
            inputs,
            extractor,
            headline_key="frechet",
            protocol=f"{width} features of the detector's backbone, each map averaged over the image",
            comparability="between runs with one judge; not with FID, KID or published precision and recall",
            resize="as the detector does it",
            splits=f"{kernel.subsets} random subsets of {kernel.subset_size} (kernel)"
            if kernel
            else "none",
            seed=kid.SUBSET_SEED,
            network="backbone of the detector that judges",
            network_sha256=inputs.resources.detector_sha256,
            neighbours=config.neighbours,
            floor=fid.FLOOR,
            versions=versions("torch", "torchvision", "numpy"),
            warnings=[*_warnings(counts, width), *kid.warnings(kernel, 0)],
        ),
        controls={"train": controls} if controls else {},
    )


def _frechet(
    inputs: MetricInputs, extractor: DetectorFeatureExtractor
) -> tuple[dict[str, Any], dict[str, Any], list[int]]:
    real, synthetic = (
        fid.moments(rows(inputs, extractor, table)) for table in ("real", "synthetic")
    )
    assert real and synthetic
    train = fid.moments(
        thinned(
            rows(inputs, extractor, "train"), counted(inputs, extractor, "train"), synthetic.count
        )
    )
    floor = {"frechet": fid.frechet(train, real), "images": train.count} if train else {}
    return {"frechet": fid.frechet(synthetic, real)}, floor, [real.count, synthetic.count]


def _kernel(
    inputs: MetricInputs, extractor: DetectorFeatureExtractor, config: Config
) -> tuple[kid.Kernel | None, kid.Kernel | None]:
    with on_disk(rows(inputs, extractor, "real")) as real:
        with on_disk(rows(inputs, extractor, "synthetic")) as synthetic:
            found, count = (
                kid.kernel_distance(synthetic, real, config.subsets, config.subset_size),
                len(synthetic),
            )
        with on_disk(
            thinned(rows(inputs, extractor, "train"), counted(inputs, extractor, "train"), count)
        ) as train:
            return found, kid.kernel_distance(train, real, config.subsets, config.subset_size)


def _variety(inputs: MetricInputs, extractor: DetectorFeatureExtractor) -> dict[str, float | None]:
    """How far apart two images of one layout are, in units of the distance between images of neighbouring layouts.

    0: the latent codes change nothing; 1: as different as images of different layouts. Nothing with one image per layout.
    """
    pairs = list(_distances(inputs, extractor))
    same = [distance for one_layout, distance in pairs if one_layout]
    other = [distance for one_layout, distance in pairs if not one_layout]
    if not same:
        return {}
    apart = float(np.mean(other)) if other else 0.0
    return {"variety": float(np.mean(same)) / apart if apart else None}


def _distances(
    inputs: MetricInputs, extractor: DetectorFeatureExtractor
) -> Iterator[tuple[bool, float]]:
    """Yield (one layout?, distance) of the first two images of each layout, and of the first ones of neighbours."""
    first: dict[int, Features] = {}
    previous: Features | None = None
    for record in inputs.extracted(extractor, "synthetic"):
        if record.sample == 0:
            if previous is not None:
                yield False, float(np.linalg.norm(record.arrays[FEATURES] - previous))
            previous = first[record.layout] = record.arrays[FEATURES]
        elif record.sample == 1 and record.layout in first:
            yield True, float(np.linalg.norm(record.arrays[FEATURES] - first.pop(record.layout)))


def _warnings(counts: list[int], width: int) -> list[str]:
    least = min(counts)
    if least > 10 * width:
        return []
    return [
        f"{least} images for {width} features: below ten images per feature the distance is biased upwards"
    ]


def _extractor(config: Config) -> DetectorFeatureExtractor:
    return DetectorFeatureExtractor(
        samples=config.samples_per_layout, train_images=config.train_images
    )

"""FID, KID and PRDC on features of the user's own detector.

Under names of their own. No published weights are needed: the backbone was trained on the user's
real images, so its features tell apart what matters there. For the same reason the numbers compare
only between runs with one detector (`score.detector`), and with no published FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.scores.base import Extractor, MetricInputs, missing_input
from synthaug.pipeline.scores.card import Metric, metric_of, versions
from synthaug.pipeline.scores.features import fid, kid, prdc
from synthaug.pipeline.scores.features.extractors import (
    FEATURES,
    DetectorFeatureExtractor,
    num_selected,
    rows,
)
from synthaug.pipeline.scores.features.published import check_at_least
from synthaug.pipeline.scores.features.streams import Features, thinned

ENOUGH = 10  # images per feature


@dataclass(frozen=True)
class Config:
    """Number of images, and the parameters of the three distances."""

    # synthetic images of each validation layout; from 2 on their variety is measured too
    samples_per_layout: int = 1
    train_images: int = 10_000  # training images measured for the floor, at most; 0 = all
    max_images: int = 10_000  # of each set, for precision to coverage; 0 = all
    subsets: int = 100  # of the kernel distance
    subset_size: int = 1000  # images; with fewer at hand, half of the smaller set
    neighbors: int = 5  # of precision, recall, density and coverage

    def __post_init__(self) -> None:
        section = "detector_features"
        check_at_least(1, section, self, "samples_per_layout", "subsets", "neighbors")
        check_at_least(2, section, self, "subset_size")
        check_at_least(0, section, self, "train_images", "max_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractor of the features of the reference detector's backbone."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where both sets and a detector are there."""
    return missing_input(inputs, detector=True)


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `frechet` (the headline), `kernel`, precision to coverage and `variety`.

    Control `train`: the training images.
    """
    extractor = _extractor(config)
    frechet, frechet_floor, counts = _frechet(inputs, extractor)
    kernel, kernel_floor = kid.kernel_distances(
        inputs, extractor, config.subsets, config.subset_size
    )
    shares = prdc.compare(inputs, extractor, config.neighbors, config.max_images)
    values = {
        "frechet": frechet,
        **kid.values(kernel, "kernel"),
        **prdc.values(shares.synthetic),
        **_variety(inputs, extractor),
    }
    controls = {}
    if frechet_floor:
        controls["train"] = {**frechet_floor, **kid.values(kernel_floor, "kernel")}
        if shares.train:
            controls["train"] |= prdc.values(shares.train)
    splits = "none"
    if kernel:
        splits = f"{kernel.subsets} random subsets of {kernel.subset_size} (kernel)"
    first = next(rows(inputs, extractor, "real"), None)
    width = 0 if first is None else first.shape[1]
    return metric_of(
        inputs,
        extractor,
        name="detector_features",
        headline="frechet",
        values=values,
        controls=controls,
        protocol=f"{width} features of the detector's backbone, each map averaged over the image",
        comparability="between runs with one detector; not with FID, KID or published precision "
        "and recall",
        resize="as the detector does it",
        splits=splits,
        seed=kid.SUBSET_SEED,
        network="backbone of the reference detector",
        network_sha256=inputs.resources.detector_sha256,
        neighbours=config.neighbors,
        floor=fid.FLOOR,
        versions=versions("torch", "torchvision", "numpy"),
        warnings=[*_warnings(counts, width), *kid.warnings(kernel, 0)],
    )


def _frechet(
    inputs: MetricInputs, extractor: DetectorFeatureExtractor
) -> tuple[float, dict[str, float | None], list[int]]:
    """Return the distances of synthetic and training images, and the set sizes."""
    real = fid.moments(rows(inputs, extractor, "real"))
    synthetic = fid.moments(rows(inputs, extractor, "synthetic"))
    assert real and synthetic
    num_train = num_selected(inputs, extractor, "train")
    all_rows = rows(inputs, extractor, "train")
    train = fid.moments(thinned(all_rows, num_train, synthetic.count))
    floor: dict[str, float | None] = {}
    if train:
        floor = {"frechet": fid.frechet(train, real), "images": train.count}
    return fid.frechet(synthetic, real), floor, [real.count, synthetic.count]


def _variety(inputs: MetricInputs, extractor: DetectorFeatureExtractor) -> dict[str, float | None]:
    """Return the distance of two images of one layout, as a share.

    In units of the distance between images of neighboring layouts. 0: the latent codes change
    nothing; 1: as different as images of different layouts. Nothing with one image per layout.
    """
    same = []
    other = []
    for one_layout, distance in _distances(inputs, extractor):
        if one_layout:
            same.append(distance)
        else:
            other.append(distance)
    if not same:
        return {}
    unit = float(np.mean(other)) if other else 0.0
    if not unit:
        return {"variety": None}
    return {"variety": float(np.mean(same)) / unit}


def _distances(
    inputs: MetricInputs, extractor: DetectorFeatureExtractor
) -> Iterator[tuple[bool, float]]:
    """Yield (one layout?, distance) of pairs of images.

    The first two images of each layout, and the first ones of neighbors.
    """
    first: dict[int, Features] = {}
    previous: Features | None = None
    for record in inputs.extracted(extractor, "synthetic"):
        features = record.arrays[FEATURES]
        if record.sample == 0:
            if previous is not None:
                yield False, float(np.linalg.norm(features - previous))
            previous = first[record.layout] = features
        elif record.sample == 1 and record.layout in first:
            before = first.pop(record.layout)
            yield True, float(np.linalg.norm(features - before))


def _warnings(counts: list[int], width: int) -> list[str]:
    least = min(counts)
    if least > ENOUGH * width:
        return []
    return [
        f"{least} images for {width} features: below ten images per feature the distance is biased "
        "upwards"
    ]


def _extractor(config: Config) -> DetectorFeatureExtractor:
    return DetectorFeatureExtractor(
        samples=config.samples_per_layout, train_images=config.train_images
    )

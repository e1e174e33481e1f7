"""IS, Inception Score (Salimans et al. 2016).

exp of the mean divergence of an image's class guess from the average guess. The guess is that of
the Inception network of 2015-12-05 on the 1,000 classes of ImageNet (1,008 outputs, without their
bias, as published). Images are shuffled, because neighbours share a layout, and cut into splits;
reported are mean and standard deviation over the splits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, comparability, deviations, metric_of
from synthaug.pipeline.scores.features.extractors import (
    LOGITS,
    InceptionExtractor,
    num_selected,
    rows,
)
from synthaug.pipeline.scores.features.published import (
    card_entries,
    check_at_least,
    missing_network,
    unusable,
)
from synthaug.pipeline.scores.features.streams import Features, blocks

SHUFFLE_SEED = 2020  # torch-fidelity's
ENOUGH = 5000  # images of a split; with fewer the score is known to come out too low


@dataclass(frozen=True)
class Config:
    """Number of images and splits that the score is computed from."""

    # synthetic images of each validation layout; LostGAN-V2: 5 on COCO-Stuff, 1 on VG
    samples_per_layout: int = 1
    splits: int = 10  # as published; LostGAN-V2 speaks of 5
    train_images: int = 10_000  # training images measured for the control, at most; 0 = all

    def __post_init__(self) -> None:
        check_at_least(1, "inception_score", self, "samples_per_layout", "splits")
        check_at_least(0, "inception_score", self, "train_images")


PUBLISHED = Config(
    samples_per_layout=5
)  # LostGAN-V2, Table 1, on COCO-Stuff; one image per layout on VG
UNSTATED = ("train_images",)


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the same extractor as FID's."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Return None where the score can be measured.

    It needs synthetic images, the library and the published weights.
    """
    return missing_network(inputs, "inception")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Return why this machine cannot use the library or the weights in this folder."""
    return unusable(folder, "inception")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return the Inception Score of the synthetic images.

    Controls: that of the real and of the training images.
    """
    extractor = _extractor(config)
    numbers: dict[str, dict[str, float | None]] = {}
    for table in ("synthetic", "real", "train"):
        logits = rows(inputs, extractor, table, LOGITS)
        count = num_selected(inputs, extractor, table)
        result = inception_score(logits, count, config.splits)
        if result:
            numbers[table] = _values(result)
    values = numbers.pop("synthetic", {"inception_score": None})
    count = num_selected(inputs, extractor, "synthetic")
    warnings = []
    if count < ENOUGH * config.splits:
        warnings.append(
            f"{count} images in {config.splits} splits: with fewer than {ENOUGH} each the score is "
            "biased downwards"
        )
    return metric_of(
        inputs,
        extractor,
        name="inception_score",
        headline="inception_score",
        values=values,
        controls=numbers,
        **card_entries(inputs, "inception"),
        comparability=comparability(
            deviations("inception_score", config, PUBLISHED, UNSTATED),
            "LostGAN-V2's Table 1 (COCO-Stuff)",
        ),
        protocol="exp of the mean KL divergence of p(class | image) from p(class), 1008 outputs "
        "without bias",
        splits=f"{config.splits} splits of the shuffled images; mean and standard deviation over "
        "them",
        seed=SHUFFLE_SEED,
        warnings=warnings,
    )


def _values(result: InceptionScore) -> dict[str, float | None]:
    return {
        "inception_score": result.mean,
        "inception_score_std": result.std,
        "images": result.images,
    }


def _extractor(config: Config) -> InceptionExtractor:
    return InceptionExtractor(samples=config.samples_per_layout, train_images=config.train_images)


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation over the splits."""

    mean: float
    std: float
    images: int


def inception_score(
    logits: Iterable[Features], count: int, splits: int = 10, seed: int = SHUFFLE_SEED
) -> InceptionScore | None:
    """Return the score of `count` rows of logits [n, C].

    None with fewer images than splits. Memory is that of one block.
    """
    if count < splits:
        return None
    split_of_row = _split_of_row(count, splits, seed)
    sizes = np.bincount(split_of_row, minlength=splits)
    negative_entropy: Floats = np.zeros(splits)  # sum of p log p over the images
    probability: Floats | None = None  # sum of p over the images [splits, C]
    start = 0
    for block in blocks(logits):
        p, log_p = _softmax(block)
        if probability is None:
            probability = np.zeros((splits, block.shape[1]))
        split = split_of_row[start : start + len(block)]
        of_rows = (p * log_p).sum(axis=1)
        np.add.at(negative_entropy, split, of_rows)
        np.add.at(probability, split, p)
        start += len(block)
    assert start == count and probability is not None
    mean_p = probability / sizes[:, None]
    log_mean_p = np.log(mean_p, out=np.zeros_like(mean_p), where=mean_p > 0)
    divergence = negative_entropy / sizes - (mean_p * log_mean_p).sum(axis=1)
    scores = np.exp(divergence)
    return InceptionScore(float(scores.mean()), float(scores.std()), count)


def _split_of_row(count: int, splits: int, seed: int) -> Ints:
    """Return the split of each row [N] after the shuffle."""
    edges = [i * count // splits for i in range(splits + 1)]
    split_of_position = np.repeat(np.arange(splits), np.diff(edges))
    split_of_row: Ints = np.empty(count, np.int64)
    order = np.random.RandomState(seed).permutation(count)
    split_of_row[order] = split_of_position
    return split_of_row


def _softmax(logits: Features) -> tuple[Floats, Floats]:
    """Return probabilities and their logarithms [N, C] in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    log_p = shifted - np.log(total)
    return np.exp(log_p), log_p

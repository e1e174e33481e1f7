"""IS, Inception Score (Salimans et al. 2016): exp of the mean divergence of an image's class guess from the average guess.

The guess is that of the Inception network of 2015-12-05 on the 1,000 classes of ImageNet (1,008 outputs, without their
bias, as published). Images are shuffled, because neighbours share a layout, and cut into splits; reported are mean and
standard deviation over the splits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import Extractor, MetricInputs
from synthaug.pipeline.scores.card import Metric, full_card
from synthaug.pipeline.scores.features.extractors import LOGITS, InceptionExtractor, counted, rows
from synthaug.pipeline.scores.features.published import at_least, entries, reason, unusable
from synthaug.pipeline.scores.features.streams import Features, blocks

SHUFFLE_SEED = 2020  # torch-fidelity's


@dataclass(frozen=True)
class Config:
    """How many images and splits the score is computed from."""

    samples_per_layout: int = (
        1  # synthetic images of each validation layout; LostGAN-V2: 5 on COCO-Stuff, 1 on VG
    )
    splits: int = 10  # as published; LostGAN-V2 speaks of 5
    train_images: int = 10_000  # training images looked at for the control, at most; 0 = all

    def __post_init__(self) -> None:
        at_least(1, "inception_score", self, "samples_per_layout", "splits")
        at_least(0, "inception_score", self, "train_images")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The same look as FID's."""
    return (_extractor(config),)


def available(inputs: MetricInputs, _: Config) -> str | None:
    """Synthetic images, the library and the published weights must be there."""
    return reason(inputs, "inception")


def unsupported(folder: Path | None, _: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: the library, or the weights in this folder."""
    return unusable(folder, "inception")


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return the Inception Score of the synthetic images; controls: that of the real and of the training images."""
    extractor = _extractor(config)
    found = {
        table: inception_score(
            rows(inputs, extractor, table, LOGITS), counted(inputs, extractor, table), config.splits
        )
        for table in ("synthetic", "real", "train")
    }
    numbers = {table: _values(result) for table, result in found.items() if result}
    count = counted(inputs, extractor, "synthetic")
    few = f"{count} images in {config.splits} splits: with fewer than 5000 each the score is biased downwards"
    return Metric(
        name="inception_score",
        value=numbers.get("synthetic", {}).get("inception_score"),
        values=numbers.pop("synthetic", {"inception_score": None}),
        card=full_card(
            inputs,
            extractor,
            **entries(inputs, "inception"),
            headline_key="inception_score",
            protocol="exp of the mean KL divergence of p(class | image) from p(class), 1008 outputs without bias",
            splits=f"{config.splits} splits of the shuffled images; mean and standard deviation over them",
            seed=SHUFFLE_SEED,
            warnings=[few] if count < 5000 * config.splits else [],
        ),
        controls=numbers,
    )


def _values(found: InceptionScore) -> dict[str, float | None]:
    return {"inception_score": found.mean, "inception_score_std": found.std, "images": found.images}


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
    """Return the score of `count` rows of logits [n, C]; None with fewer images than splits. Memory is that of one block."""
    if count < splits:
        return None
    of_row = _split_of(count, splits, seed)
    sizes = np.bincount(of_row, minlength=splits)
    entropy: NDArray[np.float64] = np.zeros(splits)  # sum of p log p
    guesses: NDArray[np.float64] | None = None  # sum of p, per split
    start = 0
    for block in blocks(logits):
        p, log_p = _softmax(block)
        if guesses is None:
            guesses = np.zeros((splits, block.shape[1]))
        member = of_row[start : start + len(block)]
        np.add.at(entropy, member, (p * log_p).sum(axis=1))
        np.add.at(guesses, member, p)
        start += len(block)
    assert start == count and guesses is not None
    average = guesses / sizes[:, None]
    log_average = np.log(average, out=np.zeros_like(average), where=average > 0)
    scores = np.exp(entropy / sizes - (average * log_average).sum(axis=1))
    return InceptionScore(float(scores.mean()), float(scores.std()), count)


def _split_of(count: int, splits: int, seed: int) -> NDArray[np.int64]:
    """Return the split of each row [N] after the shuffle."""
    edges = [i * count // splits for i in range(splits + 1)]
    of_place = np.repeat(np.arange(splits), np.diff(edges))
    of_row: NDArray[np.int64] = np.empty(count, np.int64)
    of_row[np.random.RandomState(seed).permutation(count)] = of_place
    return of_row


def _softmax(logits: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return probabilities and their logarithms [N, C] in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.exp(log_p), log_p

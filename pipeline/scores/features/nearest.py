"""Nearest training images of synthetic images (LostGAN-V2, section 3.1.3): does the generator copy what it has seen?

Two kinds of neighbours, as in the paper: of the image, by cosine similarity of features (AlexNet's pool5, or the backbone of
the user's detector), and of the layout, by which classes it has and where. How near real validation images, which nobody
could copy, are to training images is the yardstick: a synthetic image nearer than nearly all of these may be a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import Extractor, MetricInputs, missing_input
from synthaug.pipeline.scores.card import Metric, full_card, versions
from synthaug.pipeline.scores.features.extractors import (
    LAYOUT,
    AlexNetExtractor,
    DetectorFeatureExtractor,
    LayoutMapExtractor,
    SpacedExtractor,
    counted,
    rows,
)
from synthaug.pipeline.scores.features.fid import moments
from synthaug.pipeline.scores.features.nearest_sheet import sheet
from synthaug.pipeline.scores.features.neighbours import (
    Neighbours,
    Pair,
    Standard,
    nearest,
    similar_layouts,
)
from synthaug.pipeline.scores.features.published import at_least, entries, reason, unusable
from synthaug.pipeline.scores.features.streams import Features, on_disk, spans, thinned

QUANTILE = 0.99  # of the yardstick: a synthetic image nearer than that is suspicious
FEW_REAL = 100  # with fewer real images there is no telling what 1 % of them is


@dataclass(frozen=True)
class Config:
    """What neighbours are told by, and how many images are compared."""

    features: Literal["detector", "alexnet"] = (
        "detector"  # alexnet: pool5, as published; needs its weights
    )
    train_images: int = 10_000  # looked through, at most, evenly spaced; 0 = all
    max_images: int = (
        2000  # synthetic and real ones whose neighbours are looked for, at most; 0 = all
    )
    layout_side: int = 32  # cells per side in which layouts are compared
    pairs: int = 12  # listed and pictured, the nearest first

    def __post_init__(self) -> None:
        at_least(1, "nearest", self, "layout_side")
        at_least(0, "nearest", self, "train_images", "max_images", "pairs")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """The features of all tables, and their layouts."""
    return _extractors(config)


def available(inputs: MetricInputs, config: Config) -> str | None:
    """Training images too must be there, and a detector or AlexNet's published weights."""
    tables = ("train", "real", "synthetic")
    if config.features == "alexnet":
        return reason(inputs, "alexnet", tables=tables)
    return missing_input(inputs, tables, detector=True)


def unsupported(folder: Path | None, config: Config) -> str | None:
    """Say what a machine lacks for this score, whatever the data: with features alexnet, the weights in this folder."""
    return unusable(folder, "alexnet") if config.features == "alexnet" else None


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `near_copies` (the headline): the share of synthetic images that are nearer to a training image than 99 % of
    the real validation images are.

    A generator that copies nothing has about 0.01, one whose images are unlike all real ones 0. `similarity` and
    `layout_similarity` are means over the synthetic images; control `real` has those of the real ones.
    """
    extractor, layouts = _extractors(config)
    near = _nearest(inputs, extractor, config.max_images)
    alike = _alike(inputs, layouts)
    found, real = near["synthetic"].similarity[:, 0], near["real"].similarity[:, 0]
    limit = float(np.quantile(real, QUANTILE))
    places = layouts.places(inputs, "synthetic")
    listed = list(
        _pairs(inputs, extractor, near["synthetic"], alike["synthetic"], places, config.pairs)
    )
    few = (
        [f"{len(real)} real images: below {FEW_REAL} the yardstick is one or two images"]
        if len(real) < FEW_REAL
        else []
    )
    return Metric(
        name="nearest",
        value=float((found > limit).mean()),
        values={
            "near_copies": float((found > limit).mean()),
            **_means(near["synthetic"], alike["synthetic"]),
        },
        card=full_card(
            inputs,
            extractor,
            **_network(inputs, config),
            headline_key="near_copies",
            protocol=f"cosine similarity {_space(config)} to the nearest training image; near copies are above the"
            f" {QUANTILE:.0%} quantile of real validation images, {limit:.4f}",
            selection=f"evenly spaced: {len(places)} synthetic, {len(real)} real,"
            f" {_count(inputs, extractor)} training images",
            layout_similarity="mean of the share of equal cells and of the intersection of class histograms, in"
            f" {config.layout_side} x {config.layout_side} cells (the paper names GSC and gives no formula)",
            yardstick=limit,
            pairs=[vars(pair) for pair in listed],
            warnings=few,
        ),
        controls={
            "real": {
                "near_copies": float((real > limit).mean()),
                **_means(near["real"], alike["real"]),
            }
        },
    )


def pairs(metric: Metric | Mapping[str, Any]) -> list[Pair]:
    """Return the listed pairs of a metric (or of its JSON), the nearest first: what a report shows beside each other."""
    card = metric.card if isinstance(metric, Metric) else metric["card"]
    return [Pair(**entry) for entry in card.get("pairs", [])]


def pictures(inputs: MetricInputs, metric: Mapping[str, Any]) -> dict[str, bytes]:
    """Return, by file name, what a metric (as JSON) has to show: the listed pairs beside each other."""
    drawn = sheet(pairs(metric), inputs.tables["synthetic"], inputs.tables["train"])
    return {"nearest.jpg": drawn} if drawn else {}


def _extractors(config: Config) -> tuple[SpacedExtractor, LayoutMapExtractor]:
    train, other = config.train_images, config.max_images
    layouts = LayoutMapExtractor(train_images=train, other_images=other, side=config.layout_side)
    if config.features == "alexnet":
        return AlexNetExtractor(train_images=train, other_images=other), layouts
    return DetectorFeatureExtractor(
        train_images=train
    ), layouts  # the look of detector_features; thinned when it is read


def _nearest(inputs: MetricInputs, extractor: SpacedExtractor, most: int) -> dict[str, Neighbours]:
    with on_disk(rows(inputs, extractor, "train")) as train:
        standard = (
            None if isinstance(extractor, AlexNetExtractor) else _standard(train)
        )  # the paper compares pool5 as it is
        found = {}
        for table in ("synthetic", "real"):
            with on_disk(
                thinned(rows(inputs, extractor, table), counted(inputs, extractor, table), most)
            ) as queries:
                found[table] = nearest(queries, train, standard=standard)
        return found


def _standard(train: Features) -> Standard:
    spread = moments(train[span] for span in spans(len(train)))
    assert spread
    return Standard(spread.mean, np.sqrt(np.diag(spread.covariance)))


def _alike(inputs: MetricInputs, extractor: LayoutMapExtractor) -> dict[str, Neighbours]:
    maps = {
        t: np.concatenate(list(rows(inputs, extractor, t, LAYOUT)))
        for t in ("train", "synthetic", "real")
    }
    num = len(inputs.categories)
    return {
        table: similar_layouts(maps[table], maps["train"], num) for table in ("synthetic", "real")
    }


def _pairs(
    inputs: MetricInputs,
    extractor: SpacedExtractor,
    near: Neighbours,
    alike: Neighbours,
    places: NDArray[np.int64],
    most: int,
) -> Iterator[Pair]:
    corpus = extractor.places(inputs, "train")
    train, made = inputs.tables["train"], inputs.tables["synthetic"]
    for i in np.argsort(-near.similarity[:, 0], kind="stable")[:most]:
        own, by_image, by_layout = (
            int(v) for v in (places[i], corpus[near.place[i, 0]], corpus[alike.place[i, 0]])
        )
        yield Pair(
            synthetic=made[own].image_id,
            synthetic_index=own,
            train=train[by_image].image_id,
            train_index=by_image,
            similarity=float(near.similarity[i, 0]),
            layout_train=train[by_layout].image_id,
            layout_train_index=by_layout,
            layout_similarity=float(alike.similarity[i, 0]),
        )


def _means(near: Neighbours, alike: Neighbours) -> dict[str, float | None]:
    return {
        "similarity": float(near.similarity.mean()),
        "layout_similarity": float(alike.similarity.mean()),
    }


def _space(config: Config) -> str:
    return (
        "of pool5"
        if config.features == "alexnet"
        else "of features standardised on the training images"
    )


def _network(inputs: MetricInputs, config: Config) -> dict[str, Any]:
    if config.features == "alexnet":
        return entries(inputs, "alexnet")
    return {
        "network": "backbone of the detector that judges",
        "network_sha256": inputs.resources.detector_sha256,
        "resize": "as the detector does it",
        "versions": versions("torch", "torchvision", "numpy"),
    }


def _count(inputs: MetricInputs, extractor: SpacedExtractor) -> int:
    return len(extractor.places(inputs, "train"))

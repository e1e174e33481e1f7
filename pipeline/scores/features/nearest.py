"""Nearest training images of synthetic ones: does the generator copy?

LostGAN-V2, section 3.1.3. Two kinds of neighbours, as in the paper: of the image, by cosine
similarity of features (AlexNet's pool5, or the backbone of the user's detector), and of the layout,
by which classes it has and where. How near real validation images, which nobody could copy, are to
training images is the yardstick: a synthetic image nearer than nearly all of these may be a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.scores.base import Extractor, MetricInputs, missing_input
from synthaug.pipeline.scores.card import Metric, metric_of, versions
from synthaug.pipeline.scores.features.convolutions import find_convolutions
from synthaug.pipeline.scores.features.extractors import (
    LAYOUT,
    AlexNetExtractor,
    DetectorFeatureExtractor,
    LayoutMapExtractor,
    SpacedExtractor,
    num_selected,
    rows,
)
from synthaug.pipeline.scores.features.fid import moments
from synthaug.pipeline.scores.features.nearest_sheet import picture_sheet
from synthaug.pipeline.scores.features.neighbours import (
    ImagePair,
    Neighbours,
    Standardization,
    nearest,
    similar_layouts,
)
from synthaug.pipeline.scores.features.published import (
    check_at_least,
    convolution_entries,
    missing_convolutions,
)
from synthaug.pipeline.scores.features.streams import Features, on_disk, spans, thinned

QUANTILE = 0.99  # of the yardstick: a synthetic image nearer than that is suspicious
FEW_REAL = 100  # with fewer real images there is no telling what 1 % of them is


@dataclass(frozen=True)
class Config:
    """Features that tell neighbours, and the number of images compared."""

    # detector (the reference one) | alexnet (pool5, as published; weights in docs/weights.md)
    features: Literal["detector", "alexnet"] = "detector"
    train_images: int = 10_000  # searched, at most, evenly spaced; 0 = all
    # synthetic and real ones whose neighbours are looked for, at most; 0 = all
    max_images: int = 2000
    layout_side: int = 32  # cells per side in which layouts are compared
    pairs: int = 12  # listed and pictured, the nearest first

    def __post_init__(self) -> None:
        check_at_least(1, "nearest", self, "layout_side")
        check_at_least(0, "nearest", self, "train_images", "max_images", "pairs")


def extractors(config: Config) -> tuple[Extractor, ...]:
    """Return the extractors of features and layouts of all tables."""
    return _extractors(config)


def available(inputs: MetricInputs, config: Config) -> str | None:
    """Return None where the score can be measured.

    It needs training images, and a detector or AlexNet's published weights.
    """
    tables = ("train", "real", "synthetic")
    if config.features == "alexnet":
        return missing_convolutions(inputs, "alexnet", tables)
    return missing_input(inputs, tables, detector=True)


def unsupported(folder: Path | None, config: Config) -> str | None:
    """Return why this machine cannot use AlexNet's published weights.

    Only where they are asked for.
    """
    if config.features == "alexnet":
        return find_convolutions(folder, "alexnet").reason
    return None


def score(inputs: MetricInputs, config: Config) -> Metric:
    """Return `near_copies`: the share of synthetic images that are too near.

    Nearer to a training image than 99 % of the real ones are. A generator that copies nothing has
    about 0.01, one whose images are unlike all real ones 0. `similarity` and `layout_similarity`
    are means over the synthetic images; control `real` has those of the real ones.
    """
    extractor, layouts = _extractors(config)
    by_features = _by_features(inputs, extractor, config.max_images)
    by_layout = _by_layout(inputs, layouts)
    synthetic = by_features["synthetic"].similarity[:, 0]  # [synthetic]
    real = by_features["real"].similarity[:, 0]  # [real]
    limit = float(np.quantile(real, QUANTILE))
    values = {
        "near_copies": float((synthetic > limit).mean()),
        **_means(by_features["synthetic"], by_layout["synthetic"]),
    }
    real_values = {
        "near_copies": float((real > limit).mean()),
        **_means(by_features["real"], by_layout["real"]),
    }
    selected = layouts.selected(inputs, "synthetic")
    listed = _nearest_pairs(
        inputs,
        extractor,
        by_features["synthetic"],
        by_layout["synthetic"],
        selected,
        config.pairs,
    )
    num_train = len(extractor.selected(inputs, "train"))
    warnings = []
    if len(real) < FEW_REAL:
        warnings.append(
            f"{len(real)} real images: below {FEW_REAL} the yardstick is one or two images"
        )
    return metric_of(
        inputs,
        extractor,
        name="nearest",
        headline="near_copies",
        values=values,
        controls={"real": real_values},
        **_network_entries(inputs, config),
        protocol=f"cosine similarity {_space(config)} to the nearest training image; near copies "
        "are above the"
        f" {QUANTILE:.0%} quantile of real validation images, {limit:.4f}",
        selection=f"evenly spaced: {len(selected)} synthetic, {len(real)} real, {num_train} "
        "training images",
        layout_similarity="mean of the share of equal cells and of the intersection of class "
        "histograms, in"
        f" {config.layout_side} x {config.layout_side} cells (the paper names GSC and gives no "
        "formula)",
        yardstick=limit,
        pairs=[vars(pair) for pair in listed],
        warnings=warnings,
    )


def listed_pairs(metric: Mapping[str, Any]) -> list[ImagePair]:
    """Return the listed pairs of a metric (as JSON), the nearest first."""
    return [ImagePair(**entry) for entry in metric["card"].get("pairs", [])]


def pictures(inputs: MetricInputs, metric: Mapping[str, Any]) -> dict[str, bytes]:
    """Return, by file name, the picture sheet of a metric's listed pairs.

    The metric is given as JSON.
    """
    tables = inputs.tables
    sheet = picture_sheet(listed_pairs(metric), tables["synthetic"], tables["train"])
    if sheet is None:
        return {}
    return {"nearest.jpg": sheet}


def _extractors(config: Config) -> tuple[SpacedExtractor, LayoutMapExtractor]:
    train = config.train_images
    other = config.max_images
    layouts = LayoutMapExtractor(train_images=train, other_images=other, side=config.layout_side)
    if config.features == "alexnet":
        return AlexNetExtractor(train_images=train, other_images=other), layouts
    # equal to that of detector_features, so it runs once; its rows are thinned when they are read
    return DetectorFeatureExtractor(train_images=train), layouts


def _by_features(
    inputs: MetricInputs, extractor: SpacedExtractor, most: int
) -> dict[str, Neighbours]:
    """Return the nearest training images by features.

    Of the synthetic and of the real images.
    """
    neighbours = {}
    with on_disk(rows(inputs, extractor, "train")) as train:
        standardization = None  # the paper compares pool5 as it is
        if not isinstance(extractor, AlexNetExtractor):
            standardization = _standardization(train)
        for table in ("synthetic", "real"):
            count = num_selected(inputs, extractor, table)
            some = thinned(rows(inputs, extractor, table), count, most)
            with on_disk(some) as queries:
                neighbours[table] = nearest(queries, train, standardization=standardization)
    return neighbours


def _standardization(train: Features) -> Standardization:
    statistics = moments(train[span] for span in spans(len(train)))
    assert statistics
    variance = np.diag(statistics.covariance)
    return Standardization(statistics.mean, np.sqrt(variance))


def _by_layout(inputs: MetricInputs, extractor: LayoutMapExtractor) -> dict[str, Neighbours]:
    """Return the nearest training images by layout.

    Of the synthetic and of the real images.
    """
    maps = {}
    for table in ("train", "synthetic", "real"):
        of_table = rows(inputs, extractor, table, LAYOUT)
        maps[table] = np.concatenate(list(of_table))
    num_classes = len(inputs.categories)
    neighbours = {}
    for table in ("synthetic", "real"):
        neighbours[table] = similar_layouts(maps[table], maps["train"], num_classes)
    return neighbours


def _nearest_pairs(
    inputs: MetricInputs,
    extractor: SpacedExtractor,
    by_features: Neighbours,
    by_layout: Neighbours,
    selected: Ints,
    most: int,
) -> list[ImagePair]:
    """Return the pairs of selected synthetic images, nearest first, at most `most`.

    `selected` [N] has their indices.
    """
    corpus = extractor.selected(inputs, "train")
    train = inputs.tables["train"]
    synthetic = inputs.tables["synthetic"]
    pairs = []
    most_similar = np.argsort(-by_features.similarity[:, 0], kind="stable")
    for i in most_similar[:most]:
        index = int(selected[i])
        feature_index = int(corpus[by_features.index[i, 0]])
        layout_index = int(corpus[by_layout.index[i, 0]])
        pair = ImagePair(
            synthetic=synthetic[index].image_id,
            synthetic_index=index,
            train=train[feature_index].image_id,
            train_index=feature_index,
            similarity=float(by_features.similarity[i, 0]),
            layout_train=train[layout_index].image_id,
            layout_train_index=layout_index,
            layout_similarity=float(by_layout.similarity[i, 0]),
        )
        pairs.append(pair)
    return pairs


def _means(by_features: Neighbours, by_layout: Neighbours) -> dict[str, float]:
    return {
        "similarity": float(by_features.similarity.mean()),
        "layout_similarity": float(by_layout.similarity.mean()),
    }


def _space(config: Config) -> str:
    if config.features == "alexnet":
        return "of pool5"
    return "of features standardised on the training images"


def _network_entries(inputs: MetricInputs, config: Config) -> Json:
    if config.features == "alexnet":
        return convolution_entries(inputs, "alexnet")
    return {
        "network": "backbone of the reference detector",
        "network_sha256": inputs.resources.detector_sha256,
        "resize": "as the detector does it",
        "versions": versions("torch", "torchvision", "numpy"),
    }

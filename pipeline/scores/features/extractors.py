"""Looks that leave one feature vector of each image: by published networks, and by the detector of the user's own data.

Training images are looked at too where they are there: their distance from the real validation images is what no generator
can be expected to beat, and they are what synthetic images may be copies of.

Legend: D features, S side of a layout's label map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    layout_objects,
)
from synthaug.pipeline.scores.features import networks, weights
from synthaug.pipeline.scores.features.streams import Features, spaced

FEATURES, LOGITS, LAYOUT = "features", "logits", "layout"


@dataclass(frozen=True)
class SpacedExtractor(Extractor):
    """A look at some of the images of a table, evenly spaced; of the others it keeps empty arrays."""

    arrays: ClassVar[tuple[str, ...]] = (FEATURES,)  # the names of what it keeps
    tables: tuple[str, ...] = ("train", "real", "synthetic")
    train_images: int = 0  # at most; 0 = all
    other_images: int = 0  # of each other table, at most; 0 = all

    def places(self, inputs: MetricInputs, table: str) -> NDArray[np.int64]:
        """Return which images of a table are looked at, rising."""
        shown = [i for i in range(len(inputs.tables[table])) if inputs.uses(self, table, i)]
        most = self.train_images if table == "train" else self.other_images
        return np.array(shown, np.int64)[spaced(len(shown), most)]

    def watch(
        self, inputs: MetricInputs, see: Callable[[list[TableImage]], list[Arrays]]
    ) -> ExtractFunction:
        """Return an observer that shows `see` the chosen views of a batch, and keeps nothing of the others."""
        nothing: Arrays = {name: np.zeros(0, np.float32) for name in self.arrays}
        wanted = {
            name: set(self.places(inputs, name).tolist())
            for name in self.tables
            if name in inputs.tables
        }

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            kept = [image for image in images if image.index in wanted[image.table]]
            found = iter(see(kept)) if kept else iter(())
            return [
                next(found) if image.index in wanted[image.table] else nothing for image in images
            ]

        return extract


@dataclass(frozen=True)
class InceptionExtractor(SpacedExtractor):
    """Pool features [2048] and logits [1008] of the published Inception network."""

    name: ClassVar[str] = "inception"
    arrays: ClassVar[tuple[str, ...]] = (FEATURES, LOGITS)

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""
        state, _ = weights.read(inputs.resources.weights, "inception")
        network = networks.Inception(state, inputs.resources.device)

        def see(images: list[TableImage]) -> list[Arrays]:
            pool, logits = network([image.pixels() for image in images])
            return [{FEATURES: p, LOGITS: q} for p, q in zip(pool, logits, strict=True)]

        return self.watch(inputs, see)


@dataclass(frozen=True)
class Vgg16Extractor(SpacedExtractor):
    """fc2 features [4096] of the published VGG-16."""

    name: ClassVar[str] = "vgg16"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""
        state, _ = weights.read(inputs.resources.weights, "vgg16")
        return self.watch(inputs, _features(networks.Vgg16(state, inputs.resources.device)))


@dataclass(frozen=True)
class AlexNetExtractor(SpacedExtractor):
    """pool5 features [12544] of the published AlexNet."""

    name: ClassVar[str] = "alexnet_pool5"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""
        state, _ = weights.read(inputs.resources.weights, "alexnet")
        return self.watch(inputs, _features(networks.AlexNetPool5(state, inputs.resources.device)))


@dataclass(frozen=True)
class DetectorFeatureExtractor(SpacedExtractor):
    """Features [D] of the backbone of the detector that judges: it was trained on the user's real images."""

    name: ClassVar[str] = "detector_features"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class."""
        from synthaug.detectors import load

        assert inputs.resources.detector is not None
        return self.watch(
            inputs,
            _features(load(inputs.resources.detector, device=inputs.resources.device).features),
        )


@dataclass(frozen=True)
class LayoutMapExtractor(SpacedExtractor):
    """A coarse map [S, S] of which class lies where in the layout; -1 where there is no box."""

    name: ClassVar[str] = "layout_map"
    arrays: ClassVar[tuple[str, ...]] = (LAYOUT,)
    side: int = 32

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class; no pixel is decoded."""

        def see(images: list[TableImage]) -> list[Arrays]:
            return [{LAYOUT: label_map(image, self.side).reshape(-1)} for image in images]

        return self.watch(inputs, see)


def label_map(image: TableImage, side: int) -> NDArray[np.int16]:
    """Paint a layout's boxes into [side, side], the largest first; a box covers the cells it touches."""
    objects = layout_objects(image.scene)
    boxes, labels = objects.boxes, objects.category
    scale = np.array([side / image.scene.width, side / image.scene.height] * 2)
    cells = boxes.astype(np.float64) * scale
    areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    found = np.full((side, side), -1, np.int16)
    for i in np.argsort(-areas, kind="stable"):
        x1, y1 = np.floor(np.clip(cells[i, :2], 0, side)).astype(int)
        x2, y2 = np.ceil(np.clip(cells[i, 2:], 0, side)).astype(int)
        found[y1:y2, x1:x2] = labels[i]
    return found


def counted(inputs: MetricInputs, extractor: SpacedExtractor, table: str) -> int:
    """Return how many images of a table a look keeps."""
    return len(extractor.places(inputs, table)) if table in inputs.tables else 0


def rows(
    inputs: MetricInputs, extractor: SpacedExtractor, table: str, name: str = FEATURES
) -> Iterator[Features]:
    """Yield what a finished look kept of a table, one row [1, D] per image it looked at, in the table's order."""
    if table in inputs.tables:
        for record in inputs.extracted(extractor, table):
            if record.arrays[name].size:
                yield record.arrays[name][None]


def _features(
    run: Callable[[list[NDArray[np.uint8]]], Any],
) -> Callable[[list[TableImage]], list[Arrays]]:
    def see(images: list[TableImage]) -> list[Arrays]:
        return [{FEATURES: row} for row in run([image.pixels() for image in images])]

    return see

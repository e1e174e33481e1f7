"""Extractors of one feature vector per image.

By published networks, and by the detector of the user's own data. Training images are measured too
where they are there: their distance from the real validation images is what no generator can be
expected to beat, and they are what synthetic images may be copies of.

Legend: D features, S side of a layout's label map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes, Ints
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    layout_objects,
)
from synthaug.pipeline.scores.features import convolutions, networks, weights
from synthaug.pipeline.scores.features.streams import Features, spaced

FEATURES, LOGITS, LAYOUT = "features", "logits", "layout"

Images = list[Bytes]


@dataclass(frozen=True)
class SpacedExtractor(Extractor):
    """Measures some images of each table, evenly spaced.

    Of the others it records empty arrays.
    """

    array_names: ClassVar[tuple[str, ...]] = (FEATURES,)
    tables: tuple[str, ...] = ("train", "real", "synthetic")
    train_images: int = 0  # at most; 0 = all
    other_images: int = 0  # of each other table, at most; 0 = all

    def selected(self, inputs: MetricInputs, table: str) -> Ints:
        """Return the indices of the images of a table that are measured, rising."""
        most = self.train_images if table == "train" else self.other_images
        indices = range(len(inputs.tables[table]))
        used = [index for index in indices if inputs.uses(self, table, index)]
        chosen = spaced(len(used), most)
        return np.array(used, np.int64)[chosen]

    def on_selected(
        self, inputs: MetricInputs, measure: Callable[[list[TableImage]], list[Arrays]]
    ) -> ExtractFunction:
        """Return the extract function that measures the selected images of a batch."""
        nothing: Arrays = {name: np.zeros(0, np.float32) for name in self.array_names}
        selected: dict[str, set[int]] = {}
        for table in self.tables:
            if table in inputs.tables:
                selected[table] = set(self.selected(inputs, table).tolist())

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            chosen = []
            for image in images:
                if image.index in selected[image.table]:
                    chosen.append(image)
            arrays: list[Arrays] = []
            if chosen:
                arrays = measure(chosen)
            pairs = zip(chosen, arrays, strict=True)
            by_index = {image.index: one for image, one in pairs}
            return [by_index.get(image.index, nothing) for image in images]

        return extract


@dataclass(frozen=True)
class InceptionExtractor(SpacedExtractor):
    """Pool features [2048] and logits [1008] of the published Inception network."""

    name: ClassVar[str] = "inception"
    array_names: ClassVar[tuple[str, ...]] = (FEATURES, LOGITS)

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the network; see the base class."""
        state, _ = weights.read(inputs.resources.weights, "inception")
        network = networks.Inception(state, inputs.resources.device)

        def measure(images: list[TableImage]) -> list[Arrays]:
            features, logits = network([image.pixels() for image in images])
            pairs = zip(features, logits, strict=True)
            return [{FEATURES: row, LOGITS: of_row} for row, of_row in pairs]

        return self.on_selected(inputs, measure)


@dataclass(frozen=True)
class Vgg16Extractor(SpacedExtractor):
    """fc2 features [4096] of the published VGG-16."""

    name: ClassVar[str] = "vgg16"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the network; see the base class."""
        state, _ = weights.read(inputs.resources.weights, "vgg16")
        network = networks.Vgg16(state, inputs.resources.device)
        return self.on_selected(inputs, _feature_arrays(network))


@dataclass(frozen=True)
class AlexNetExtractor(SpacedExtractor):
    """pool5 features [12544] of the published AlexNet."""

    name: ClassVar[str] = "alexnet_pool5"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the network; see the base class."""
        layers = convolutions.read_convolutions(inputs.resources.weights, "alexnet")
        network = networks.AlexNetPool5(layers, inputs.resources.device)
        return self.on_selected(inputs, _feature_arrays(network))


@dataclass(frozen=True)
class DetectorFeatureExtractor(SpacedExtractor):
    """Features [D] of the reference detector's backbone.

    It was trained on the user's real images.
    """

    name: ClassVar[str] = "detector_features"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the detector; see the base class."""
        from synthaug.detectors import load

        checkpoint = inputs.resources.detector
        assert checkpoint is not None
        detector = load(checkpoint, device=inputs.resources.device)
        return self.on_selected(inputs, _feature_arrays(detector.features))


@dataclass(frozen=True)
class LayoutMapExtractor(SpacedExtractor):
    """A coarse map [S * S] of the classes of a layout; -1 where there is no box."""

    name: ClassVar[str] = "layout_map"
    array_names: ClassVar[tuple[str, ...]] = (LAYOUT,)
    side: int = 32

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """See the base class; no pixel is decoded."""

        def measure(images: list[TableImage]) -> list[Arrays]:
            return [{LAYOUT: label_map(image, self.side).reshape(-1)} for image in images]

        return self.on_selected(inputs, measure)


def label_map(image: TableImage, side: int) -> NDArray[np.int16]:
    """Paint a layout's boxes into [side, side], the largest first.

    A box covers the cells it touches.
    """
    scene = image.scene
    objects = layout_objects(scene)
    scale = np.array([side / scene.width, side / scene.height] * 2)
    cells = objects.boxes.astype(np.float64) * scale  # [N, 4] xyxy, in cells
    widths = cells[:, 2] - cells[:, 0]
    heights = cells[:, 3] - cells[:, 1]
    areas = widths * heights
    canvas = np.full((side, side), -1, np.int16)
    for i in np.argsort(-areas, kind="stable"):
        low = np.clip(cells[i, :2], 0, side)
        high = np.clip(cells[i, 2:], 0, side)
        x1, y1 = np.floor(low).astype(int)
        x2, y2 = np.ceil(high).astype(int)
        canvas[y1:y2, x1:x2] = objects.category[i]
    return canvas


def num_selected(inputs: MetricInputs, extractor: SpacedExtractor, table: str) -> int:
    """Return the number of images of a table that an extractor measures.

    0 without the table.
    """
    if table not in inputs.tables:
        return 0
    return len(extractor.selected(inputs, table))


def rows(
    inputs: MetricInputs, extractor: SpacedExtractor, table: str, name: str = FEATURES
) -> Iterator[Features]:
    """Yield an array of the records of a table, one row [1, D] per measured image.

    In the table's order.
    """
    if table not in inputs.tables:
        return
    for record in inputs.extracted(extractor, table):
        array = record.arrays[name]
        if array.size:
            yield array[None]


def _feature_arrays(
    features: Callable[[Images], Any],
) -> Callable[[list[TableImage]], list[Arrays]]:
    """Return a function of images that records the rows of `features`."""

    def measure(images: list[TableImage]) -> list[Arrays]:
        pixels = [image.pixels() for image in images]
        return [{FEATURES: row} for row in features(pixels)]

    return measure

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

from synthaug.pipeline.scores.base import Arrays, Look, Material, Observer, View, truth
from synthaug.pipeline.scores.features import networks, weights
from synthaug.pipeline.scores.features.streams import Features, spaced

FEATURES, LOGITS, LAYOUT = "features", "logits", "layout"


@dataclass(frozen=True)
class Sparse(Look):
    """A look at some of the images of a table, evenly spaced; of the others it keeps empty arrays."""

    arrays: ClassVar[tuple[str, ...]] = (FEATURES,)  # the names of what it keeps
    tables: tuple[str, ...] = ("train", "real", "synthetic")
    train_images: int = 0  # at most; 0 = all
    other_images: int = 0  # of each other table, at most; 0 = all

    def places(self, material: Material, table: str) -> NDArray[np.int64]:
        """Return which images of a table are looked at, rising."""
        shown = [i for i in range(len(material.tables[table])) if material.shows(self, table, i)]
        most = self.train_images if table == "train" else self.other_images
        return np.array(shown, np.int64)[spaced(len(shown), most)]

    def watch(self, material: Material, see: Callable[[list[View]], list[Arrays]]) -> Observer:
        """Return an observer that shows `see` the chosen views of a batch, and keeps nothing of the others."""
        nothing: Arrays = {name: np.zeros(0, np.float32) for name in self.arrays}
        wanted = {
            name: set(self.places(material, name).tolist())
            for name in self.tables
            if name in material.tables
        }

        def observe(views: Sequence[View]) -> list[Arrays]:
            kept = [view for view in views if view.index in wanted[view.table]]
            found = iter(see(kept)) if kept else iter(())
            return [next(found) if view.index in wanted[view.table] else nothing for view in views]

        return observe


@dataclass(frozen=True)
class InceptionLook(Sparse):
    """Pool features [2048] and logits [1008] of the published Inception network."""

    arrays: ClassVar[tuple[str, ...]] = (FEATURES, LOGITS)

    def observer(self, material: Material) -> Observer:
        """See the base class."""
        state, _ = weights.read(material.weights, "inception")
        network = networks.Inception(state, material.device)

        def see(views: list[View]) -> list[Arrays]:
            pool, logits = network([view.pixels() for view in views])
            return [{FEATURES: p, LOGITS: q} for p, q in zip(pool, logits, strict=True)]

        return self.watch(material, see)


@dataclass(frozen=True)
class Vgg16Look(Sparse):
    """fc2 features [4096] of the published VGG-16."""

    def observer(self, material: Material) -> Observer:
        """See the base class."""
        state, _ = weights.read(material.weights, "vgg16")
        return self.watch(material, _features(networks.Vgg16(state, material.device)))


@dataclass(frozen=True)
class Pool5Look(Sparse):
    """pool5 features [12544] of the published AlexNet."""

    def observer(self, material: Material) -> Observer:
        """See the base class."""
        state, _ = weights.read(material.weights, "alexnet")
        return self.watch(material, _features(networks.AlexNetPool5(state, material.device)))


@dataclass(frozen=True)
class DetectorLook(Sparse):
    """Features [D] of the backbone of the detector that judges: it was trained on the user's real images."""

    def observer(self, material: Material) -> Observer:
        """See the base class."""
        from synthaug.detectors import load

        assert material.judge is not None
        return self.watch(
            material, _features(load(material.judge, device=material.device).features)
        )


@dataclass(frozen=True)
class LayoutLook(Sparse):
    """A coarse map [S, S] of which class lies where in the layout; -1 where there is no box."""

    arrays: ClassVar[tuple[str, ...]] = (LAYOUT,)
    side: int = 32

    def observer(self, material: Material) -> Observer:
        """See the base class; no pixel is decoded."""

        def see(views: list[View]) -> list[Arrays]:
            return [{LAYOUT: label_map(view, self.side).reshape(-1)} for view in views]

        return self.watch(material, see)


def label_map(view: View, side: int) -> NDArray[np.int16]:
    """Paint a layout's boxes into [side, side], the largest first; a box covers the cells it touches."""
    _, boxes, labels = truth(view.scene)
    scale = np.array([side / view.scene.width, side / view.scene.height] * 2)
    cells = boxes.astype(np.float64) * scale
    areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    found = np.full((side, side), -1, np.int16)
    for i in np.argsort(-areas, kind="stable"):
        x1, y1 = np.floor(np.clip(cells[i, :2], 0, side)).astype(int)
        x2, y2 = np.ceil(np.clip(cells[i, 2:], 0, side)).astype(int)
        found[y1:y2, x1:x2] = labels[i]
    return found


def counted(material: Material, look: Sparse, table: str) -> int:
    """Return how many images of a table a look keeps."""
    return len(look.places(material, table)) if table in material.tables else 0


def rows(material: Material, look: Sparse, table: str, name: str = FEATURES) -> Iterator[Features]:
    """Yield what a finished look kept of a table, one row [1, D] per image it looked at, in the table's order."""
    if table in material.tables:
        for record in material.seen(look, table):
            if record.arrays[name].size:
                yield record.arrays[name][None]


def _features(
    run: Callable[[list[NDArray[np.uint8]]], Any],
) -> Callable[[list[View]], list[Arrays]]:
    def see(views: list[View]) -> list[Arrays]:
        return [{FEATURES: row} for row in run([view.pixels() for view in views])]

    return see

"""The real images of a run: to take layouts from, and to paint into."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.studio.map_layers import ellipse, shape_of
from synthaug.pipeline.studio.sketch import Shape

REMEMBERED = 64  # decoded photos
LOOKED_AT = 2000  # images searched for outlines
MIN_AREA = 16  # pixels of a thing whose outline is taken


@dataclass(frozen=True)
class Split:
    """One table of real images, with and without pixels."""

    table: Dataset
    bare: Dataset

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Return the position of each image by its id."""
        return {scene.image_id: index for index, scene in enumerate(self.bare)}


class RealPhotos:
    """Photos by their names, split/id."""

    def __init__(self, splits: Mapping[str, Split]) -> None:
        self.splits = splits
        self._decoded: OrderedDict[str, tuple[Scene, Bytes]] = OrderedDict()

    def name_at(self, split: str, index: int) -> str:
        """Return the name of the photo at a position; ValueError where there is none."""
        if split not in self.splits:
            raise ValueError(f"there are no '{split}' images; there are {', '.join(self.splits)}")
        table = self.splits[split].bare
        if not 0 <= index < len(table):
            raise ValueError(f"{split} has {len(table)} images, counted from 0; none is {index}")
        return f"{split}/{table[index].image_id}"

    def __call__(self, name: str) -> tuple[Scene, Bytes]:
        """Return the scene and the pixels of a photo; ValueError where there is none."""
        if name not in self._decoded:
            split, _, image_id = name.partition("/")
            if split not in self.splits or image_id not in self.splits[split].index_of:
                raise ValueError(f"this run has no image '{name}'")
            found = self.splits[split]
            scene = found.table[found.index_of[image_id]]
            self._decoded[name] = (scene, decode(scene))
            if len(self._decoded) > REMEMBERED:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(name)
        return self._decoded[name]


class Outlines:
    """The outlines of real things, one of which an object added to a map gets."""

    def __init__(self, table: Dataset) -> None:
        self._table = table

    @cached_property
    def _places(self) -> dict[str, list[tuple[int, int]]]:
        """Return where things of each class are: image and object."""
        places: dict[str, list[tuple[int, int]]] = {}
        for index in range(min(len(self._table), LOOKED_AT)):
            objects = self._table[index].objects
            chosen = objects.isthing & ~objects.iscrowd & (objects.area >= MIN_AREA)
            for position in np.flatnonzero(chosen).tolist():
                if objects.rle[position] is not None:
                    label = self._table.categories[int(objects.category[position])].name
                    places.setdefault(label, []).append((index, position))
        return places

    def draw(self, label: str, seed: int) -> Shape:
        """Return the outline of a thing of a class; an ellipse where none has one."""
        places = self._places.get(label, [])
        if not places:
            return ellipse()
        rng = rng_for(seed, "outline")
        index, position = places[int(rng.integers(len(places)))]
        scene = self._table[index]
        rle = scene.objects.rle[position]
        assert rle is not None
        mask = masks.decode(rle, scene.size)
        rows = np.flatnonzero(mask.any(1))
        columns = np.flatnonzero(mask.any(0))
        return shape_of(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])

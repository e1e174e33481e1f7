"""Decoded scenes of some tables laid end to end.

They are kept in memory up to a budget of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.datasets import Concatenation
from synthaug.pipeline.core.images import decode, resize
from synthaug.pipeline.core.scene import Dataset, Scene

CACHE_BYTES = 2 * 2**30  # kept in memory; items beyond it are made again when they are drawn

Item = TypeVar("Item")


class SceneCache(Generic[Item]):
    """Items made of the scenes of some tables of the same classes laid end to end."""

    def __init__(
        self,
        tables: Sequence[Dataset],
        load: Callable[[Scene], Item],
        num_bytes: Callable[[Item], int],
        budget: int = CACHE_BYTES,
    ) -> None:
        self.categories = tables[0].categories
        assert all(table.categories == self.categories for table in tables)
        self._scenes = Concatenation(tables)
        self._load = load
        self._num_bytes = num_bytes
        self._budget = budget
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Item:
        """Return the item of scene `index`."""
        if index in self._items:
            return self._items[index]
        _, scene = self._scenes.locate(index)
        item = self._load(scene)
        size = self._num_bytes(item)
        if size <= self._budget:
            self._items[index] = item
            self._budget -= size
        return item


ScenePixels = tuple[Scene, Bytes]  # a scene and its pixels [H, W, 3]


class Pixels(SceneCache[ScenePixels]):
    """Scenes with their pixels, which are resized to (H, W) where a size is given."""

    def __init__(
        self, tables: Sequence[Dataset], size: Size | None = None, budget: int = CACHE_BYTES
    ) -> None:
        load = partial(_with_pixels, size)
        super().__init__(tables, load, _num_bytes, budget)


def _with_pixels(size: Size | None, scene: Scene) -> ScenePixels:
    pixels = decode(scene)
    if size is not None:
        pixels = resize(pixels, size)
    return scene, pixels


def _num_bytes(item: ScenePixels) -> int:
    return item[1].nbytes

"""Scene tables to batches of images with class and instance maps. Every batch is a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.images_and_layouts import CACHE_BYTES, Draw
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.panoptic_maps import (
    Maps,
    map_of,
    maps_from,
    replace_ids,
    resize_map,
    segment_ids,
)
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import rng_for

MODES = ("fixed", "resize_and_crop")
_MARGIN = (
    286 / 256
)  # how much larger than the crop images are stretched (SPADE's COCO-Stuff settings)


@dataclass(frozen=True)
class View:
    """How images become (H, W): stretched to it (`fixed`), or stretched to `load` and cut at random (`resize_and_crop`).

    These are SPADE's modes for Cityscapes and for COCO-Stuff; without training the crop mode stretches, too.
    """

    size: Size
    mode: str = "fixed"
    load: Size = (0, 0)  # of resize_and_crop; (0, 0) = 286 / 256 of the size

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is '{self.mode}'; use one of {', '.join(MODES)}")
        if (
            self.mode == "resize_and_crop"
            and self.load != (0, 0)
            and any(whole < cut for whole, cut in zip(self.load, self.size, strict=True))
        ):
            raise ValueError(
                f"load size {self.load} is smaller than the crop {self.size}; enlarge it"
            )

    def stretched(self, training: bool = True) -> Size:
        """Return the size (H, W) images are stretched to."""
        if self.mode == "fixed" or not training:
            return self.size
        return (
            self.load
            if self.load != (0, 0)
            else (round(self.size[0] * _MARGIN), round(self.size[1] * _MARGIN))
        )


@dataclass(frozen=True)
class MapArrays:
    """A batch: images in [-1, 1] [B, 3, H, W], class indices and instances [B, H, W] as in `panoptic.Maps`."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    instances: NDArray[np.int64]
    weights: NDArray[np.float32] | None  # [B, H, W] how sure each label is; None = all are


@dataclass(frozen=True)
class Entry:
    """One image, stretched: pixels uint8 [H, W, 3], maps int32 [H, W], scores of the labels float32 [H, W]."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    instances: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Return how much memory it takes; weights that are all 1 are one number."""
        own = self.weights.nbytes if self.weights.strides[0] else 0
        return self.image.nbytes + self.labels.nbytes + self.instances.nbytes + own


def stretch(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resize uint8 RGB [h, w, 3] to (H, W), bicubic and antialiased, as SPADE's training data is."""
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def entry_of(scene: Scene, num_classes: int, size: Size) -> Entry:
    """Return a scene stretched to (H, W); DatasetError when its image or its map is missing or broken."""
    ids = resize_map(map_of(scene), size)
    maps: Maps = maps_from(ids, scene, num_classes)
    pixels = stretch(decode(scene), size)
    return Entry(
        pixels,
        maps.labels.astype(np.int32),
        maps.instances.astype(np.int32),
        _weights(ids, scene.objects),
    )


def _weights(ids: NDArray[np.int64], objects: Objects) -> NDArray[np.float32]:
    """Return the score of each pixel's object [H, W]; 1 where nothing is labelled, which nobody can be wrong about."""
    if (objects.score == 1).all():
        return np.broadcast_to(np.float32(1), ids.shape)
    place = replace_ids(ids, segment_ids(objects), np.arange(len(objects)), len(objects))
    scores: NDArray[np.float32] = np.append(objects.score, 1).astype(np.float32)[place]
    return scores


class Entries:
    """The scenes of some tables laid end to end, stretched, kept in memory up to a budget of bytes."""

    def __init__(self, tables: Sequence[Dataset], size: Size, budget: int = CACHE_BYTES) -> None:
        assert all(table.categories == tables[0].categories for table in tables)
        self._tables, self._size, self._budget = tables, size, budget
        self._starts = np.cumsum([0, *(len(table) for table in tables)])
        self._kept: dict[int, Entry] = {}

    def __getitem__(self, index: int) -> Entry:
        if index in self._kept:
            return self._kept[index]
        table = int(np.searchsorted(self._starts, index, side="right")) - 1
        scene = self._tables[table][index - int(self._starts[table])]
        entry = entry_of(scene, len(self._tables[table].categories), self._size)
        if entry.nbytes <= self._budget:
            self._kept[index] = entry
            self._budget -= entry.nbytes
        return entry


def map_batches(
    tables: Sequence[Dataset], draw: Draw, view: View, flip: bool, rank: int = 0, world: int = 1
) -> Callable[[int], MapArrays]:
    """Return step -> real images with maps; crop and mirror are drawn for the place in the whole batch, not the worker."""
    entries = Entries(tables, view.stretched())
    (height, width), (H, W) = view.stretched(), view.size

    def batch(step: int) -> MapArrays:
        flips = rng_for(draw.seed, "flip", step).random(draw.batch) < (0.5 if flip else 0.0)
        corners = rng_for(draw.seed, "crop", step).integers(
            (height - H + 1, width - W + 1), size=(draw.batch, 2)
        )
        cut: list[list[NDArray[Any]]] = [[], [], [], []]
        for index, mirrored, (top, left) in list(
            zip(draw(step), flips, corners.tolist(), strict=True)
        )[rank::world]:
            entry = entries[index]
            arrays: tuple[NDArray[Any], ...] = (
                entry.image,
                entry.labels,
                entry.instances,
                entry.weights,
            )
            for found, whole in zip(cut, arrays, strict=True):
                part = whole[top : top + H, left : left + W]
                found.append(part[:, ::-1] if mirrored else part)
        images = np.stack(cut[0]).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(
            127.5
        ) - np.float32(1)
        sure = np.stack(cut[3])
        weights = None if (sure == 1).all() else sure
        return MapArrays(
            images, np.stack(cut[1]).astype(np.int64), np.stack(cut[2]).astype(np.int64), weights
        )

    return batch

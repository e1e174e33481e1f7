"""Tables of scenes to batches of images with class and instance maps.

Every batch is a pure function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.pixels import CACHE_BYTES, SceneCache
from synthaug.pipeline.core.arrays import Bytes, Floats32, Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.panoptic_maps import (
    map_of,
    maps_from,
    replace_ids,
    resize_map,
    segment_ids,
)
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import rng_for

if TYPE_CHECKING:
    from synthaug.generators.base import MapBatch

MODES = ("fixed", "resize_and_crop")
_MARGIN = 286 / 256  # scale of images before the crop (SPADE's COCO-Stuff settings)


@dataclass(frozen=True)
class View:
    """The way in which images become (H, W).

    Stretched to it (`fixed`), or stretched to `load` and cut at random (`resize_and_crop`).

    These are SPADE's modes for Cityscapes and for COCO-Stuff; without training the crop mode
    stretches, too.
    """

    size: Size
    mode: str = "fixed"
    load: Size = (0, 0)  # of resize_and_crop; (0, 0) = 286 / 256 of the size

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is '{self.mode}'; use one of {', '.join(MODES)}")
        if self.mode == "fixed" or self.load == (0, 0):
            return
        if self.load[0] < self.size[0] or self.load[1] < self.size[1]:
            raise ValueError(
                f"load size {self.load} is smaller than the crop {self.size}; enlarge it"
            )

    def stretched(self, training: bool = True) -> Size:
        """Return the size (H, W) images are stretched to."""
        if self.mode == "fixed" or not training:
            return self.size
        if self.load != (0, 0):
            return self.load
        height, width = self.size
        return round(height * _MARGIN), round(width * _MARGIN)


@dataclass(frozen=True)
class MapArrays:
    """A batch of images with maps, in the convention of `core.panoptic_maps.Maps`."""

    images: Floats32  # [B, 3, H, W] in [-1, 1]
    labels: Ints  # [B, H, W] class indices
    instances: Ints  # [B, H, W]
    weights: Floats32 | None  # [B, H, W] how sure each label is; None = all are
    sources: tuple[int, ...] = ()  # [B] number of each image in the tables laid end to end

    def tensors(self, num_classes: int) -> MapBatch:
        """Return the batch as tensors, without a copy."""
        import torch

        from synthaug.generators.base import MapBatch, Maps

        labels = torch.from_numpy(self.labels)
        maps = Maps(labels, torch.from_numpy(self.instances), num_classes)
        weights = None
        if self.weights is not None:
            weights = torch.from_numpy(self.weights)
        sources = None
        if self.sources:
            sources = torch.tensor(self.sources)
        return MapBatch(torch.from_numpy(self.images), maps, weights, sources)


@dataclass(frozen=True)
class Entry:
    """One image with its maps, stretched or cut."""

    image: Bytes  # [H, W, 3]
    labels: NDArray[np.int32]  # [H, W]
    instances: NDArray[np.int32]  # [H, W]
    weights: Floats32  # [H, W] scores of the labels

    @property
    def nbytes(self) -> int:
        """Return how much memory it takes; weights that are all 1 are one number."""
        weights = 0
        if self.weights.strides[0]:
            weights = self.weights.nbytes
        maps = self.labels.nbytes + self.instances.nbytes
        return self.image.nbytes + maps + weights

    def crop(self, top: int, left: int, size: Size, mirror: bool) -> Entry:
        """Return the part of size (H, W) at a corner, mirrored or not."""
        height, width = size
        window = np.s_[top : top + height, left : left + width]
        flip: tuple[slice, slice] = np.s_[:, :]
        if mirror:
            flip = np.s_[:, ::-1]
        return Entry(
            self.image[window][flip],
            self.labels[window][flip],
            self.instances[window][flip],
            self.weights[window][flip],
        )


def stretch(pixels: Bytes, size: Size) -> Bytes:
    """Resize uint8 RGB [h, w, 3] to (H, W), bicubic and antialiased.

    As SPADE's training data is.
    """
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    image = Image.fromarray(pixels)
    stretched = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(stretched)


def entry_of(scene: Scene, num_classes: int, size: Size) -> Entry:
    """Return a scene stretched to (H, W).

    DatasetError when its image or its map is missing or broken.
    """
    ids = resize_map(map_of(scene), size)
    maps = maps_from(ids, scene, num_classes)
    pixels = stretch(decode(scene), size)
    labels = maps.labels.astype(np.int32)
    instances = maps.instances.astype(np.int32)
    return Entry(pixels, labels, instances, _weights(ids, scene.objects))


def _weights(ids: Ints, objects: Objects) -> Floats32:
    """Return the score of each pixel's object [H, W].

    1 where nothing is labelled, which nobody can be wrong about.
    """
    if (objects.score == 1).all():
        return np.broadcast_to(np.float32(1), ids.shape)
    unlabelled = len(objects)
    positions = np.arange(len(objects))
    index = replace_ids(ids, segment_ids(objects), positions, unlabelled)
    scores = np.append(objects.score, 1)
    scores = scores.astype(np.float32)  # [N + 1]
    return scores[index]


class Entries(SceneCache[Entry]):
    """The scenes of some tables with their maps, stretched to (H, W)."""

    def __init__(self, tables: Sequence[Dataset], size: Size, budget: int = CACHE_BYTES) -> None:
        num_classes = len(tables[0].categories)
        load = partial(entry_of, num_classes=num_classes, size=size)
        super().__init__(tables, load, _num_bytes, budget)


def _num_bytes(entry: Entry) -> int:
    return entry.nbytes


def map_batches(
    tables: Sequence[Dataset], draw: Draw, view: View, flip: bool, rank: int = 0, world: int = 1
) -> Callable[[int], MapArrays]:
    """Return step -> real images with maps.

    Process `rank` of `world` gets every world-th.

    Crop and mirror are drawn for the position in the whole batch, so they do not depend on `world`.
    """
    stretched = view.stretched()
    entries = Entries(tables, stretched)
    height, width = view.size
    corners = (stretched[0] - height + 1, stretched[1] - width + 1)

    def batch(step: int) -> MapArrays:
        mirrored = draw.mirrored(step, flip)[rank::world].tolist()
        rng = rng_for(draw.seed, "crop", step)
        drawn_corners = rng.integers(corners, size=(draw.batch, 2))
        own_corners = drawn_corners[rank::world].tolist()
        indices = draw(step)[rank::world]
        crops = zip(indices, mirrored, own_corners, strict=True)
        parts = []
        for index, mirror, (top, left) in crops:
            parts.append(entries[index].crop(top, left, view.size, mirror))
        return _stack(parts, tuple(indices))

    return batch


def single_maps(table: Dataset, size: Size) -> Iterator[MapArrays]:
    """Yield each image of a table with its map, stretched to (H, W), in order."""
    num_classes = len(table.categories)
    for number, scene in enumerate(table):
        yield _stack([entry_of(scene, num_classes, size)], (number,))


def _stack(entries: Sequence[Entry], sources: tuple[int, ...] = ()) -> MapArrays:
    """Stack images and maps of one size into a batch."""
    stacked = np.stack([entry.image for entry in entries])
    pixels = stacked.transpose(0, 3, 1, 2).astype(np.float32)
    images = pixels / np.float32(127.5) - np.float32(1)
    label_maps = np.stack([entry.labels for entry in entries])
    id_maps = np.stack([entry.instances for entry in entries])
    labels = label_maps.astype(np.int64)
    instances = id_maps.astype(np.int64)
    weights = np.stack([entry.weights for entry in entries])
    if (weights == 1).all():
        return MapArrays(images, labels, instances, None, sources)
    return MapArrays(images, labels, instances, weights, sources)

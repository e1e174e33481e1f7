"""Scene tables to training batches. Every batch is a pure function of (seed, step): no loader state to save or restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.images import decode, resize
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for

if TYPE_CHECKING:
    from synthaug.detectors.base import Sample
    from synthaug.generators.base import Layouts, TrainingBatch

CACHE_BYTES = (
    2 * 2**30
)  # decoded pixels kept in memory; images beyond it are decoded again when drawn


class Pixels:
    """Decoded images of some data sets laid end to end, kept in memory up to a budget; optionally resized to (H, W)."""

    def __init__(
        self, tables: Sequence[Dataset], size: tuple[int, int] | None, budget: int = CACHE_BYTES
    ) -> None:
        self._tables, self._size, self._budget = tables, size, budget
        self.categories = tables[0].categories
        self._kept: dict[int, tuple[Scene, NDArray[np.uint8]]] = {}
        self._used = 0
        self._starts = np.cumsum([0, *(len(t) for t in tables)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[Scene, NDArray[np.uint8]]:
        """Return scene `index` and its pixels uint8 [H, W, 3]."""
        if index in self._kept:
            return self._kept[index]
        table = int(np.searchsorted(self._starts, index, side="right")) - 1
        scene = self._tables[table][index - int(self._starts[table])]
        pixels = decode(scene)
        pixels = resize(pixels, self._size) if self._size else pixels
        entry = (scene, pixels)
        if self._used + pixels.nbytes <= self._budget:
            self._kept[index] = entry
            self._used += pixels.nbytes
        return entry


def repeat_factors(present: NDArray[np.bool_], threshold: float) -> NDArray[np.float64]:
    """How often each image is drawn relative to the others (LVIS, Gupta et al. 2019, section 4.3).

    present [N, C] says which classes an image holds; factor = max over its classes of max(1, sqrt(threshold / frequency)).
    """
    frequency = present.mean(0).clip(1e-9)
    per_class = np.maximum(1.0, np.sqrt(threshold / frequency))  # [C]
    factors: NDArray[np.float64] = np.where(present, per_class, 1.0).max(1, initial=1.0)
    return factors


@dataclass(frozen=True)
class Draw:
    """Which images make batch `step`: uniform epochs, drawn with weights, or drawn by class."""

    size: int  # images there are
    batch: int
    seed: int
    weights: NDArray[np.float64] | None = None  # [size]
    members: tuple[NDArray[np.int64], ...] = ()  # per class that is there: the images that show it

    def __call__(self, step: int) -> list[int]:
        """Return `batch` image indices."""
        if self.members:
            points = rng_for(self.seed, "batch", step).random((self.batch, 2))
            drawn = [self.members[int(a * len(self.members))] for a in points[:, 0]]
            return [
                int(images[int(b * len(images))])
                for images, b in zip(drawn, points[:, 1], strict=True)
            ]
        if self.weights is None:
            first = step * self.batch
            places = range(first, first + self.batch)
            # another permutation each epoch
            return [
                permuted(k % self.size, self.size, seed_for(self.seed, "epoch", k // self.size))
                for k in places
            ]
        edges = np.cumsum(self.weights)
        points = rng_for(self.seed, "batch", step).random(self.batch) * edges[-1]
        return [int(i) for i in np.searchsorted(edges, points, side="right").clip(0, self.size - 1)]


def draw_for(
    tables: Sequence[Dataset],
    batch: int,
    seed: int,
    sampling: str,
    threshold: float,
    keep: LayoutFilter | None = None,
) -> Draw:
    """Return the draw a job asks for.

    `uniform`: every image once an epoch; `repeat_factor`: see `repeat_factors`; `class_balanced`: a class of those present
    uniformly, then one of its images uniformly (class-aware sampling, Shen et al. 2016), so images without objects never
    come. Crowds, and what the filter `keep` leaves out, do not count as present.
    """
    size = sum(len(table) for table in tables)
    if sampling == "uniform":
        return Draw(size, batch, seed)
    num_classes = len(tables[0].categories)
    present = np.zeros((size, num_classes), bool)
    row = 0
    for table in tables:
        for i in range(len(table)):
            scene = table[i]
            objects = scene.objects.select(~scene.objects.iscrowd)
            objects = keep.select(objects, (scene.height, scene.width)) if keep else objects
            present[row, objects.category] = True
            row += 1
    if sampling == "class_balanced" and present.any():
        return Draw(
            size,
            batch,
            seed,
            members=tuple(np.flatnonzero(column) for column in present.T if column.any()),
        )
    return Draw(size, batch, seed, repeat_factors(present, threshold))


def detector_batches(
    table: Dataset, draw: Draw, rank: int = 0, world: int = 1, masks: bool = False
) -> Callable[[int], list[Sample]]:
    """Return step -> samples for a detector; crowds are no objects to learn but regions to ignore.

    With `masks` an image whose objects all have masks brings them along; with one missing it brings none.
    """
    from synthaug.detectors.base import Sample

    pixels = Pixels([table], None)

    def sample(index: int) -> Sample:
        scene, image = pixels[index]
        objects = scene.objects.select(~scene.objects.iscrowd)
        whole = masks and None not in objects.rle
        decoded = decode_all(objects, (scene.height, scene.width)) if whole else None
        return Sample(
            image, objects.boxes, objects.category.astype(np.int64), decoded, crowds(scene.objects)
        )

    return lambda step: [sample(i) for i in draw(step)[rank::world]]


def crowds(objects: Objects) -> NDArray[np.float32] | None:
    """Return the boxes [K, 4] of crowds, which a detector must learn neither as objects nor as background; None: none."""
    return objects.boxes[objects.iscrowd] if objects.iscrowd.any() else None


@dataclass(frozen=True)
class LayoutFilter:
    """Which objects and images a generator sees (LostGAN-V2 section 3: objects over 2 % of the image, 3 to 8 of them)."""

    min_area: float = 0.0  # share of the image area, of the box
    min_objects: int = 1
    max_objects: int = 32

    def select(self, objects: Objects, size: tuple[int, int]) -> Objects:
        """Keep objects whose box covers more than `min_area` of the image and that are no crowd."""
        extent = objects.boxes[:, 2:] - objects.boxes[:, :2]
        share = extent.prod(1) / (size[0] * size[1])
        return objects.select(~objects.iscrowd & (share > self.min_area))

    def accepts(self, scene: Scene) -> bool:
        """Whether the scene keeps as many objects as are wanted."""
        kept = len(self.select(scene.objects, (scene.height, scene.width)))
        return self.min_objects <= kept <= self.max_objects


def layout_arrays(
    objects: Objects, size: tuple[int, int], flip: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Labels [n] (class + 1), boxes [n, 4] xyxy in [0, 1], scores [n] of one image of size (H, W)."""
    height, width = size
    boxes = objects.boxes / np.array([width, height, width, height], np.float32)
    if flip:
        boxes = boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32) + np.array(
            [1, 0, 1, 0], np.float32
        )
    return objects.category.astype(np.int64) + 1, boxes.astype(np.float32), objects.score


def collate_layouts(items: Sequence[tuple[Objects, tuple[int, int]]]) -> Layouts:
    """Pad the layouts of some images into one batch."""
    from synthaug.generators.base import Layouts

    labels, boxes, scores = zip(
        *(layout_arrays(objects, size) for objects, size in items), strict=True
    )
    return Layouts.collate(labels, boxes, scores)


def generator_batches(
    tables: Sequence[Dataset],
    draw: Draw,
    resolution: tuple[int, int],
    keep: LayoutFilter,
    flip: bool,
    rank: int = 0,
    world: int = 1,
) -> Callable[[int], TrainingBatch]:
    """Return step -> real images with layouts; images are resized without keeping the aspect, as in the paper."""
    import torch

    from synthaug.generators.base import Layouts, TrainingBatch

    pixels = Pixels(tables, resolution)

    def batch(step: int) -> TrainingBatch:
        flips = rng_for(draw.seed, "flip", step).random(draw.batch) < (0.5 if flip else 0.0)
        images, layouts = [], []
        for index, mirrored in list(zip(draw(step), flips, strict=True))[rank::world]:
            scene, image = pixels[index]
            size = (scene.height, scene.width)
            layouts.append(layout_arrays(keep.select(scene.objects, size), size, bool(mirrored)))
            images.append(image[:, ::-1] if mirrored else image)
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # [B, 3, H, W] uint8
        labels, boxes, scores = zip(*layouts, strict=True)
        return TrainingBatch(stacked.float() / 127.5 - 1, Layouts.collate(labels, boxes, scores))

    return batch


def accepted(table: Dataset, keep: LayoutFilter) -> Subset:
    """Return the scenes a generator may learn from or draw layouts from."""
    return Subset(table, [i for i, scene in enumerate(table) if keep.accepts(scene)])

"""Tables of scenes to batches of images with layouts.

Every batch is a pure function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.arrays import Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import Size, mirror_boxes, relative_boxes
from synthaug.pipeline.core.scene import Dataset, Objects, Scene

if TYPE_CHECKING:
    from synthaug.generators.base import Layouts, TrainingBatch


@dataclass(frozen=True)
class LayoutFilter:
    """Objects and images that a generator sees.

    LostGAN-V2, section 3: objects over 2 % of the image, 3 to 8 of them.
    """

    min_area: float = 0.0  # share of the image area, of the box
    min_objects: int = 1
    max_objects: int = 32

    def counts(self, scene: Scene) -> Flags:
        """Return which objects [N] are no crowd and larger than `min_area`.

        A share of the image, of their boxes.
        """
        objects = scene.objects
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        share = sides.prod(1) / (scene.height * scene.width)
        return np.asarray(~objects.iscrowd & (share > self.min_area))

    def select(self, scene: Scene) -> Objects:
        """Return the objects that count."""
        return scene.objects.select(self.counts(scene))

    def accepts(self, scene: Scene) -> bool:
        """Return whether as many objects are selected as are asked for."""
        return self.min_objects <= len(self.select(scene)) <= self.max_objects


def layout_arrays(
    objects: Objects, size: Size, flip: bool = False
) -> tuple[Ints, Floats32, Floats32]:
    """Return labels, boxes and scores of one image of size (H, W).

    Labels [n] are class + 1, boxes [n, 4] xyxy in [0, 1].
    """
    boxes = relative_boxes(objects.boxes, size)
    if flip:
        boxes = mirror_boxes(boxes, 1)
    rows = objects.category.astype(np.int64) + 1
    return rows, boxes, objects.score


def collate_layouts(scenes: Iterable[Scene]) -> Layouts:
    """Pad the layouts of some scenes into one batch."""
    from synthaug.generators.base import Layouts

    arrays = [layout_arrays(scene.objects, scene.size) for scene in scenes]
    labels, boxes, scores = zip(*arrays, strict=True)
    return Layouts.collate(labels, boxes, scores)


def layout_batches(
    tables: Sequence[Dataset],
    draw: Draw,
    size: Size,
    layout_filter: LayoutFilter,
    flip: bool,
    rank: int = 0,
    world: int = 1,
) -> Callable[[int], TrainingBatch]:
    """Return step -> real images with layouts.

    Process `rank` of `world` gets every world-th.

    Images are resized to (H, W) without keeping the aspect, as in the paper.
    """
    import torch

    from synthaug.generators.base import Layouts, TrainingBatch

    pixels = Pixels(tables, size)

    def batch(step: int) -> TrainingBatch:
        indices = draw(step)[rank::world]
        of_step = draw.mirrored(step, flip)
        mirrored = of_step[rank::world].tolist()
        images, layouts = [], []
        for index, mirror in zip(indices, mirrored, strict=True):
            scene, image = pixels[index]
            selected = layout_filter.select(scene)
            layouts.append(layout_arrays(selected, scene.size, mirror))
            if mirror:
                image = image[:, ::-1]
            images.append(image)
        stacked = torch.from_numpy(np.stack(images))
        stacked = stacked.permute(0, 3, 1, 2)  # [B, 3, H, W] uint8
        labels, boxes, scores = zip(*layouts, strict=True)
        values = stacked.float() / 127.5 - 1
        return TrainingBatch(values, Layouts.collate(labels, boxes, scores))

    return batch

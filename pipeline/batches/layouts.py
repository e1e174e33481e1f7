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
from synthaug.pipeline.core.boxes import Size, box_areas, mirror_boxes, relative_boxes, whole_pixels
from synthaug.pipeline.core.images import resize_maps
from synthaug.pipeline.core.masks import decode
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
        share = box_areas(objects.boxes) / (scene.height * scene.width)
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


def box_masks(objects: Objects, size: Size, side: int, flip: bool = False) -> Floats32:
    """Return what each mask fills of its box: [n, side, side], 0 or 1.

    NaN for an object without a mask. As sg2im's published loader does it: cut at whole pixels,
    resized bilinearly, more than half.
    """
    shapes = np.full((len(objects), side, side), np.nan, np.float32)
    corners = whole_pixels(objects.boxes, *size)
    for shape, rle, (x0, y0, x1, y1) in zip(shapes, objects.rle, corners, strict=True):
        if rle is not None:
            cut = decode(rle, size)[y0:y1, x0:x1]
            (resized,) = resize_maps(cut[None].astype(np.float32), (side, side))
            shape[:] = resized > 128 / 255
    if flip:
        shapes = np.ascontiguousarray(shapes[:, :, ::-1])
    return shapes


def relation_rows(scene: Scene, objects: Objects, names: Sequence[str]) -> Ints:
    """Return relations [t, 3] between some objects of a scene, by their positions.

    Subject, number of the predicate among the names, object. Predicates without a name, and the
    first of the names, that of the relation to the image, are left out.
    """
    number_of = {name: number for number, name in enumerate(names)}
    place_of = {int(key): place for place, key in enumerate(objects.id)}
    rows = []
    for relation in scene.relations:
        number = number_of.get(relation.predicate, 0)
        subject = place_of.get(relation.subject)
        other = place_of.get(relation.object)
        if number and subject is not None and other is not None:
            rows.append([subject, number, other])
    return np.array(rows, np.int64).reshape(-1, 3)


def collate_layouts(
    scenes: Iterable[Scene], mask_side: int = 0, names: Sequence[str] = ()
) -> Layouts:
    """Pad the layouts of some scenes into one batch.

    With masks if a side is given, with relations if names of them are.
    """
    from synthaug.generators.base import Layouts

    rows = list(scenes)
    arrays = [layout_arrays(scene.objects, scene.size) for scene in rows]
    labels, boxes, scores = zip(*arrays, strict=True)
    masks = None
    if mask_side:
        masks = [box_masks(scene.objects, scene.size, mask_side) for scene in rows]
    relations = None
    if names:
        relations = [relation_rows(scene, scene.objects, names) for scene in rows]
    return Layouts.collate(labels, boxes, scores, masks, relations)


def layout_batches(
    tables: Sequence[Dataset],
    draw: Draw,
    size: Size,
    layout_filter: LayoutFilter,
    flip: bool,
    rank: int = 0,
    world: int = 1,
    mask_side: int = 0,
    names: Sequence[str] = (),
) -> Callable[[int], TrainingBatch]:
    """Return step -> real images with layouts.

    With masks if a side is given, with relations if names of them are. Process `rank` of `world`
    gets every world-th.

    Images are resized to (H, W) without keeping the aspect, as in the paper.
    """
    import torch

    from synthaug.generators.base import Layouts, TrainingBatch

    pixels = Pixels(tables, size)

    def batch(step: int) -> TrainingBatch:
        indices = draw(step)[rank::world]
        of_step = draw.mirrored(step, flip)
        mirrored = of_step[rank::world].tolist()
        images = []
        layouts = []
        masks = []
        relations = []
        for index, mirror in zip(indices, mirrored, strict=True):
            scene, image = pixels[index]
            selected = layout_filter.select(scene)
            layouts.append(layout_arrays(selected, scene.size, mirror))
            if mask_side:
                masks.append(box_masks(selected, scene.size, mask_side, mirror))
            if names:
                relations.append(relation_rows(scene, selected, names))
            if mirror:
                image = image[:, ::-1]
            images.append(image)
        stacked = torch.from_numpy(np.stack(images))
        stacked = stacked.permute(0, 3, 1, 2)  # [B, 3, H, W] uint8
        labels, boxes, scores = zip(*layouts, strict=True)
        values = stacked.float() / 127.5 - 1
        collated = Layouts.collate(labels, boxes, scores, masks or None, relations or None)
        return TrainingBatch(values, collated)

    return batch

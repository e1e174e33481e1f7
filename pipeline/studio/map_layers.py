"""Panoptic maps as layers: stuff below, things on it, each a shape in its box.

So that a thing can be moved and what it leaves is known: the nearest stuff goes on behind it.

Legend: C classes. A ground map has class + 1 of the stuff at each pixel, 0 = not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Flags, Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.panoptic_maps import ids_of, map_of, resize_map, segment_ids
from synthaug.pipeline.core.scene import Category, ImageRef, Scene
from synthaug.pipeline.planning.map_canvas import complete
from synthaug.pipeline.studio.sketch import Item, Shape, Sketch, blank, style_of

MOST_POINTS = 2000  # of one stroke


@dataclass(frozen=True)
class Stroke:
    """A line drawn with a round brush, pixels."""

    points: Sequence[tuple[float, float]]  # x, y
    radius: float

    def pixels(self, size: Size) -> Flags:
        """Return what it covers of an image (H, W)."""
        import cv2

        canvas = np.zeros(size, np.uint8)
        rounded = np.array(self.points, np.float64).round().astype(np.int32)
        width = max(1, round(2 * self.radius))
        cv2.polylines(canvas, [rounded.reshape(-1, 1, 2)], isClosed=False, color=1, thickness=width)
        covered: Flags = canvas > 0
        return covered


def stroke_of(points: Sequence[Sequence[float]], radius: float, size: Size) -> Stroke:
    """Return a stroke; ValueError for what is none, or far outside an image (H, W)."""
    if not 1 <= len(points) <= MOST_POINTS:
        raise ValueError(f"a stroke has 1 to {MOST_POINTS} points, not {len(points)}")
    longer = max(size)
    pairs = []
    for point in points:
        if len(point) != 2 or not all(abs(value) <= 2 * longer for value in point):
            raise ValueError("a point of a stroke is x, y in pixels of the image")
        x, y = point
        pairs.append((float(x), float(y)))
    if not 0.5 <= radius <= longer:
        raise ValueError(f"radius {radius:g} of the brush is not from 0.5 to {longer} pixels")
    return Stroke(pairs, radius)


# ---- from and to maps ----


def of_map(scene: Scene, categories: Sequence[Category], seed: int) -> Sketch:
    """Return the sketch of a scene's panoptic map."""
    ids = map_of(scene)
    objects = scene.objects
    is_thing = objects.isthing & ~objects.iscrowd
    known = segment_ids(objects)
    ground = np.zeros(ids.shape, np.int64)
    items: list[Item] = []
    of_things = np.zeros(ids.shape, bool)
    for position in range(len(objects)):
        mask = ids == known[position]
        if not mask.any():
            continue
        label = int(objects.category[position])
        if not is_thing[position]:
            ground[mask] = label + 1
            continue
        of_things |= mask
        number = len(items)
        item = Item(number, categories[label].name, (0, 0, 1, 1), style_of(seed))
        items.append(with_mask(item, mask))
    ground = complete(ground, of_things, ground > 0)
    items.sort(key=lambda item: item.box[3])  # what stands lower is in front
    sketch = blank(scene.size, seed)
    return replace(sketch, items=tuple(items), born=len(items), ground=masks.panoptic_png(ground))


def with_mask(item: Item, mask: Flags) -> Item:
    """Return an object with a mask [H, W] that has a pixel at least."""
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    box = (float(x0), float(y0), float(x1), float(y1))
    return replace(item, box=box, shape=shape_of(mask[y0:y1, x0:x1]))


def shape_of(mask: Flags) -> Shape:
    """Return the shape of a mask [h, w] that fills its box."""
    (rle,) = masks.encode(mask[None])
    return Shape(rle, (mask.shape[0], mask.shape[1]))


def ellipse() -> Shape:
    """Return a round shape, for an object of which nothing else is known."""
    axis = (np.arange(64) + 0.5) / 32 - 1
    return shape_of(axis[:, None] ** 2 + axis**2 <= 1)


def mask_of(item: Item, size: Size) -> Flags:
    """Return the mask [H, W] of an object of a map, its shape stretched to its box."""
    height, width = size
    x0, y0, x1, y1 = (round(value) for value in item.box)
    x1 = max(x1, x0 + 1)
    y1 = max(y1, y0 + 1)
    shape = item.shape or ellipse()
    own = masks.decode(shape.rle, shape.size)
    stretched = resize_map(own, (y1 - y0, x1 - x0))
    mask = np.zeros(size, bool)
    place = mask[y0:y1, x0:x1]  # a view, cut at the far edges
    place[:] = stretched[: place.shape[0], : place.shape[1]]
    assert mask.shape == (height, width)
    return mask


def visible_masks(sketch: Sketch) -> Flags:
    """Return what is seen of each object [N, H, W]; the later ones are in front."""
    shown = np.zeros((len(sketch.items), *sketch.size), bool)
    covered = np.zeros(sketch.size, bool)
    for place in reversed(range(len(sketch.items))):
        mask = mask_of(sketch.items[place], sketch.size)
        shown[place] = mask & ~covered
        covered |= mask
    return shown


def ground_of(sketch: Sketch) -> Ints:
    """Return the ground map [H, W]; all 0 where there is none."""
    if not sketch.ground:
        return np.zeros(sketch.size, np.int64)
    return ids_of(ImageRef(sketch.ground), sketch.size, "the ground map")


def check_ground(data: bytes, size: Size) -> None:
    """Raise ValueError for bytes that are no ground map (H, W)."""
    try:
        ids_of(ImageRef(data), size, "the map")
    except DatasetError as err:
        raise ValueError(str(err)) from err


# ---- the brush ----


def brush_stuff(sketch: Sketch, category: int, stroke: Stroke) -> Sketch:
    """Paint stuff of a class along a stroke.

    Objects that are not locked lose what it covers.
    """
    covered = stroke.pixels(sketch.size)
    ground = ground_of(sketch)
    ground[covered] = category + 1
    changed = replace(sketch, ground=masks.panoptic_png(ground))
    for item in sketch.items:
        if not item.locked:
            changed = _without(changed, item, covered)
    return changed


def _without(sketch: Sketch, item: Item, covered: Flags) -> Sketch:
    mask = mask_of(item, sketch.size)
    left = mask & ~covered
    if not left.any():
        return sketch.remove(item.number)
    if (left == mask).all():
        return sketch
    return sketch.with_item(with_mask(item, left))


def brush_object(sketch: Sketch, number: int, stroke: Stroke, erases: bool) -> Sketch:
    """Add what a stroke covers to an object, or take it away from it."""
    item = sketch[number]
    if item.locked:
        raise ValueError(f"{item.name} is locked; unlock it first")
    covered = stroke.pixels(sketch.size)
    if erases:
        return _without(sketch, item, covered)
    mask = mask_of(item, sketch.size) | covered
    return sketch.with_item(with_mask(item, mask))


def brush_new(sketch: Sketch, label: str, stroke: Stroke) -> Sketch:
    """Add an object of the shape of a stroke."""
    covered = stroke.pixels(sketch.size)
    if not covered.any():
        raise ValueError("the stroke lies outside the image")
    added = sketch.add(label, (0, 0, sketch.size[1], sketch.size[0]))
    return added.with_item(with_mask(added.items[-1], covered))


def segments(sketch: Sketch, label_of: Mapping[str, int], num_classes: int) -> tuple[Ints, Ints]:
    """Return the segment ids [H, W] of a sketch's map and the class of each id [M].

    Ids 1 .. N are its objects in their order, N + 1 + c is stuff of class c; 0 is not known.
    """
    ground = ground_of(sketch)
    num_items = len(sketch.items)
    ids = np.where(ground > 0, ground + num_items, 0)
    for place, mask in enumerate(visible_masks(sketch)):
        ids[mask] = place + 1
    of_items = [label_of[item.label] for item in sketch.items]
    classes = np.array([-1, *of_items, *range(num_classes)], np.int64)
    return ids, classes

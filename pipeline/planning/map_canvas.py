"""Composing panoptic maps: things taken out of a real map and put into another.

Stuff completed behind them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.panoptic_maps import map_of, replace_ids, resize_map, segment_ids
from synthaug.pipeline.core.scene import Scene

MAX_HIDDEN = 0.5  # share of an earlier thing that an addition may hide
MIN_VISIBLE = 0.5  # share of an addition that must be visible
RING = 0.05  # width of the surroundings that are compared, share of a thing's longer side


@dataclass(frozen=True)
class RealMap:
    """A real map at planning size; its ids are 1 .. n, 0 = unlabelled."""

    ids: Ints  # [H, W]
    category: Ints  # [n + 1] by id; num_classes for 0
    things: Flags  # [n + 1] by id: one countable thing, large enough
    crowd: Flags  # [n + 1]
    foot: Ints  # [n + 1] lowest row, exclusive; 0 for what is no thing

    @property
    def stuff(self) -> Flags:
        """Return which ids [n + 1] are neither things nor crowds nor unlabelled."""
        stuff = ~self.things & ~self.crowd
        stuff[0] = False
        return stuff


def real_map(scene: Scene, num_classes: int, size: Size | None, min_area: int) -> RealMap:
    """Return the map of a scene.

    Things below `min_area` pixels give way to the nearest stuff.
    """
    ids = map_of(scene)
    if size:
        ids = resize_map(ids, size)
    n = len(scene.objects)
    numbers = np.arange(1, n + 1)
    ids = replace_ids(ids, segment_ids(scene.objects), numbers, 0)
    classes = scene.objects.category.astype(np.int64)
    category = np.append(num_classes, classes)
    crowd = np.append(False, scene.objects.iscrowd)
    countable = np.append(False, scene.objects.isthing) & ~crowd
    area = np.bincount(ids.ravel(), minlength=n + 1)
    specks = countable & (area < min_area)
    stuff = ~countable & ~crowd
    stuff[0] = False
    ids = complete(ids, specks[ids], stuff[ids])
    things = countable & ~specks
    return RealMap(ids, category, things, crowd, _feet(ids, things))


def _feet(ids: Ints, things: Flags) -> Ints:
    """Return the lowest row, exclusive, of each thing [n + 1]."""
    feet = np.zeros(len(things), np.int64)
    for row in range(ids.shape[0]):
        feet[ids[row]] = row + 1
    return np.where(things, feet, 0)


def complete(ids: Ints, holes: Flags, stuff: Flags) -> Ints:
    """Give every hole [H, W] the id of the nearest pixel of stuff [H, W].

    0 where the map has no stuff.

    Distances are Euclidean, as exact as OpenCV's 5 x 5 mask makes them.
    """
    import cv2

    if not holes.any():
        return ids
    sources = stuff & ~holes
    if not sources.any():
        return np.where(holes, 0, ids)
    # the distance is to the nearest zero
    background = np.where(sources, 0, 1).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        background, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    num_labels = int(nearest.max()) + 1
    id_of_label = np.zeros(num_labels, np.int64)
    id_of_label[nearest[sources]] = ids[sources]
    return np.where(holes, id_of_label[nearest], ids)


def _enclosed(ids: Ints, removed: Flags) -> Flags:
    """Return the unlabelled patches [H, W] that border on removed things alone.

    Those are `removed` [n + 1].

    Such patches are parts of the things, number plates for example.
    """
    import cv2

    unclaimed = (ids == 0).astype(np.uint8)
    count, patch = cv2.connectedComponents(unclaimed, connectivity=4)
    touches_removed = np.zeros(count, bool)
    touches_others = np.zeros(count, bool)
    below = np.s_[1:]
    above = np.s_[:-1]
    right = np.s_[:, 1:]
    left = np.s_[:, :-1]
    neighbours = ((below, above), (above, below), (right, left), (left, right))
    for here, there in neighbours:
        other = ids[there]
        of_removed = removed[other]
        of_others = (other != 0) & ~of_removed
        touches_removed[patch[here][of_removed]] = True
        touches_others[patch[here][of_others]] = True
    inside = touches_removed & ~touches_others
    enclosed: Flags = inside[patch] & (ids == 0)
    return enclosed


@dataclass(frozen=True)
class Cutout:
    """A thing cut out of a real map, to be put into another of size (H, W)."""

    mask: Flags  # [h, w]
    top: int
    left: int
    around: Floats  # [C + 1] share of each class of stuff in a ring around it
    unoccluded: float  # share of the ring where nothing is in front of it

    def moved(self, mirrored: bool, shift: float, width: int) -> Cutout:
        """Return it at `shift` in [0, 1) of its possible columns.

        A thing cut by the border stays at the border.
        """
        w = self.mask.shape[1]
        at_left = self.left == 0
        at_right = self.left + w == width
        left = int(shift * (width - w + 1))
        if at_left or at_right:
            now_at_left = at_left != mirrored
            left = 0 if now_at_left else width - w
        mask = self.mask
        if mirrored:
            mask = mask[:, ::-1]
        return replace(self, mask=mask, left=left)


@dataclass(frozen=True)
class Fit:
    """The fit of a cutout into a map, in [0, 1].

    And the part of its mask that is visible there.
    """

    score: float
    visible: Flags  # [h, w]


def cutout(source: RealMap, thing: int, size: Size, num_classes: int) -> Cutout | None:
    """Cut thing `thing` out of a map, stretched to (H, W).

    None when nothing of it is left.
    """
    ids = resize_map(source.ids, size)
    mask = ids == thing
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    top = int(rows[0])
    left = int(columns[0])
    bottom = rows[-1] + 1
    right = columns[-1] + 1
    mask = mask[top:bottom, left:right]
    ring = _ring(ids, mask, top, left)  # [P] ids
    is_no_stuff = source.things | source.crowd
    class_of_stuff = np.where(is_no_stuff, num_classes, source.category)
    around = _shares(class_of_stuff[ring], num_classes)
    unoccluded = 1.0
    if len(ring):
        in_front = source.foot[ring] > source.foot[thing]
        unoccluded = 1 - float(in_front.mean())
    return Cutout(mask, top, left, around, unoccluded)


def _ring(values: Ints, mask: Flags, top: int, left: int) -> Ints:
    """Return the values of a map [H, W] in a ring around a mask [h, w] placed in it.

    Shape [P].
    """
    import cv2

    reach = max(1, round(RING * max(mask.shape)))
    H, W = values.shape
    h, w = mask.shape
    padded = np.pad(mask, reach).astype(np.uint8)
    side = 2 * reach + 1
    kernel = np.ones((side, side), np.uint8)
    is_near = cv2.dilate(padded, kernel) > 0
    ring = is_near & (padded == 0)
    # the part of the padded mask that lies inside the map
    y0 = max(0, reach - top)
    x0 = max(0, reach - left)
    y1 = min(h + 2 * reach, H - top + reach)
    x1 = min(w + 2 * reach, W - left + reach)
    first_row = top - reach
    first_column = left - reach
    rows = np.s_[first_row + y0 : first_row + y1]
    columns = np.s_[first_column + x0 : first_column + x1]
    window = values[rows, columns]
    around: Ints = window[ring[y0:y1, x0:x1]]
    return around


def _shares(labels: Ints, num_classes: int) -> Floats:
    """Return the share of each class [C + 1] among labels [P].

    num_classes, which says nothing of a position, has none.
    """
    counted = np.bincount(labels, minlength=num_classes + 1)
    counts = counted.astype(np.float64)
    counts[num_classes] = 0
    shares: Floats = counts / max(1.0, counts.sum())
    return shares


class Canvas:
    """A map being composed; ids grow, things in front take pixels of those behind."""

    def __init__(self, base: RealMap, removed: Flags, num_classes: int) -> None:
        """Start from a real map without the things `removed` [n + 1]."""
        self._num_classes = num_classes
        is_stuff = base.stuff[base.ids]  # [H, W]
        holes = removed[base.ids] | _enclosed(base.ids, removed)
        self.ids = complete(base.ids, holes, is_stuff)
        self.category: list[int] = base.category.tolist()
        stays = base.things & ~removed
        self.things: list[bool] = stays.tolist()
        self.crowd: list[bool] = base.crowd.tolist()
        self.foot: list[int] = base.foot.tolist()
        # [n + 2] by id, the last for every addition: whether its pixels may close a hole
        self._closes_holes = np.append(base.stuff, False)
        in_front = (base.things | base.crowd)[base.ids]
        behind = complete(base.ids, in_front, is_stuff)
        self._stuff = base.category[behind]  # [H, W] class of the stuff behind all things
        self._area = self._areas()

    def _areas(self) -> Ints:
        """Count the pixels of each id."""
        return np.bincount(self.ids.ravel(), minlength=len(self.category))

    @property
    def num_things(self) -> int:
        """Return how many things there are."""
        return sum(self.things)

    def try_place(self, item: Cutout, min_area: int) -> Fit | None:
        """Return how well a cutout fits at its position; None where it cannot be.

        It cannot be where too little of it is visible, or where it hides too much of a thing.
        """
        h, w = item.mask.shape
        things = np.array(self.things)
        bottom = item.top + h
        under = self.ids[item.top : bottom, item.left : item.left + w]  # [h, w]
        nearer = things & (np.array(self.foot) > bottom)
        visible = item.mask & ~nearer[under]
        least = MIN_VISIBLE * item.mask.sum()
        if visible.sum() < max(min_area, least):
            return None
        hidden = np.bincount(under[visible], minlength=len(self.things))
        remaining = self._area - hidden
        limit = np.maximum(min_area, (1 - MAX_HIDDEN) * self._area)
        too_hidden = things & (hidden > 0) & (remaining < limit)
        if too_hidden.any():
            return None
        ring = _ring(self._stuff, item.mask, item.top, item.left)
        around = _shares(ring, self._num_classes)
        shared = np.minimum(around, item.around)
        similarity = float(shared.sum())
        return Fit(item.unoccluded * similarity, visible)

    def without(self, thing: int) -> Canvas:
        """Return the map with the nearest stuff in place of one thing.

        This one stays as it is.
        """
        last = len(self._closes_holes) - 1
        is_stuff = self._closes_holes[np.minimum(self.ids, last)]  # [H, W]
        removed = np.arange(len(self.things)) == thing
        holes = removed[self.ids] | _enclosed(self.ids, removed)
        other = copy.copy(self)
        other.ids = complete(self.ids, holes, is_stuff)
        other.category = self.category.copy()
        other.crowd = self.crowd.copy()
        other.things = self.things.copy()
        other.foot = self.foot.copy()
        other.things[thing] = False
        other.foot[thing] = 0
        other._area = other._areas()
        return other

    def place(self, item: Cutout, visible: Flags, category: int) -> None:
        """Put the visible part [h, w] of a cutout in."""
        h, w = item.mask.shape
        window = self.ids[item.top : item.top + h, item.left : item.left + w]
        window[visible] = len(self.category)
        self.category.append(category)
        self.things.append(True)
        self.crowd.append(False)
        self.foot.append(item.top + h)
        self._area = self._areas()

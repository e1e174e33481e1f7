"""Composing panoptic maps: things taken out of a real map and put into another; stuff completed behind them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.panoptic_maps import map_of, replace_ids, resize_map, segment_ids
from synthaug.pipeline.core.scene import Scene

HIDDEN = 0.5  # share of an earlier thing that an addition may hide
SHOWN = 0.5  # share of an addition that must be seen


@dataclass(frozen=True)
class RealMap:
    """A real map at planning size; its ids are 1 .. n, 0 = unlabelled."""

    ids: NDArray[np.int64]  # [H, W]
    category: NDArray[np.int64]  # [n + 1] by id; num_classes for 0
    things: NDArray[np.bool_]  # [n + 1] by id: one countable thing, large enough
    crowd: NDArray[np.bool_]  # [n + 1]
    foot: NDArray[np.int64]  # [n + 1] lowest row, exclusive; 0 for what is no thing


def real_map(scene: Scene, num_classes: int, size: Size | None, min_area: int) -> RealMap:
    """Return the map of a scene; things below `min_area` pixels give their place to the nearest stuff."""
    ids = map_of(scene)
    ids = resize_map(ids, size) if size else ids
    n = len(scene.objects)
    ids = replace_ids(ids, segment_ids(scene.objects), np.arange(1, n + 1), 0)
    category = np.append(num_classes, scene.objects.category.astype(np.int64))
    crowd = np.append(False, scene.objects.iscrowd)
    alone = np.append(False, scene.objects.isthing) & ~crowd
    area = np.bincount(ids.ravel(), minlength=n + 1)
    specks = alone & (area < min_area)
    stuff = ~alone & ~crowd
    stuff[0] = False
    ids = complete(ids, specks[ids], stuff[ids])
    return RealMap(ids, category, alone & ~specks, crowd, _feet(ids, alone & ~specks))


def _feet(ids: NDArray[np.int64], things: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lowest row, exclusive, of each thing [n + 1]."""
    feet = np.zeros(len(things), np.int64)
    for row in range(ids.shape[0]):
        feet[ids[row]] = row + 1
    return np.where(things, feet, 0)


def complete(
    ids: NDArray[np.int64], holes: NDArray[np.bool_], stuff: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Give every hole [H, W] the id of the nearest pixel of stuff [H, W]; 0 where the map has no stuff.

    Distances are Euclidean, as exact as OpenCV's 5 x 5 mask makes them.
    """
    import cv2

    if not holes.any():
        return ids
    if not (stuff & ~holes).any():
        return np.where(holes, 0, ids)
    source = np.where(stuff & ~holes, 0, 1).astype(np.uint8)  # the distance is to the nearest zero
    _, nearest = cv2.distanceTransformWithLabels(
        source, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(nearest.max()) + 1, np.int64)
    at = source == 0
    of_label[nearest[at]] = ids[at]
    return np.where(holes, of_label[nearest], ids)


def _enclosed(ids: NDArray[np.int64], gone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the unlabelled patches [H, W] that border on nothing but the things `gone` [n + 1], such as number plates."""
    import cv2

    count, patch = cv2.connectedComponents((ids == 0).astype(np.uint8), connectivity=4)
    beside, open_ = np.zeros(count, bool), np.zeros(count, bool)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        for here, there in ((a, b), (b, a)):
            other = ids[there]
            beside[patch[here][gone[other]]] = True
            open_[patch[here][(other != 0) & ~gone[other]]] = True
    enclosed: NDArray[np.bool_] = (beside & ~open_)[patch] & (ids == 0)
    return enclosed


@dataclass(frozen=True)
class Cutout:
    """A thing cut out of a real map, to be put into another of size (H, W)."""

    mask: NDArray[np.bool_]  # [h, w]
    top: int
    left: int
    around: NDArray[np.float64]  # [C + 1] share of each class of stuff in a ring around it
    whole: float  # share of the ring where nothing is in front of it

    def moved(self, mirrored: bool, shift: float, width: int) -> Cutout:
        """Return it mirrored or not, at `shift` in [0, 1) of where it can be; what the border cuts stays at the border."""
        w = self.mask.shape[1]
        at_left, at_right = self.left == 0, self.left + w == width
        left = int(shift * (width - w + 1))
        if at_left or at_right:
            left = 0 if at_left != mirrored else width - w
        return replace(self, mask=self.mask[:, ::-1] if mirrored else self.mask, left=left)


def cutout(source: RealMap, thing: int, size: Size, num_classes: int) -> Cutout | None:
    """Cut thing `thing` out of a map, stretched to (H, W); None when nothing of it is left."""
    ids = resize_map(source.ids, size)
    mask = ids == thing
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    small = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    ring = _ring(ids, small, top, left)
    nearer = source.foot[ring] > source.foot[thing]
    stuff = np.where(source.things | source.crowd, num_classes, source.category)[ring]
    return Cutout(
        small,
        top,
        left,
        _shares(stuff, num_classes),
        1 - float(nearer.mean()) if len(ring) else 1.0,
    )


def _ring(
    values: NDArray[np.int64], mask: NDArray[np.bool_], top: int, left: int
) -> NDArray[np.int64]:
    """Return the values of a map [H, W] in a ring around a mask [h, w] placed in it: [P]."""
    import cv2

    reach = max(1, round(0.05 * max(mask.shape)))
    (H, W), (h, w) = values.shape, mask.shape
    wide = np.pad(mask, reach).astype(np.uint8)
    ring = (cv2.dilate(wide, np.ones((2 * reach + 1,) * 2, np.uint8)) > 0) & (wide == 0)
    y0, x0 = max(0, reach - top), max(0, reach - left)
    y1, x1 = min(h + 2 * reach, H - top + reach), min(w + 2 * reach, W - left + reach)
    under = values[top - reach + y0 : top - reach + y1, left - reach + x0 : left - reach + x1]
    found: NDArray[np.int64] = under[ring[y0:y1, x0:x1]]
    return found


def _shares(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Return the share of each class [C + 1] among labels [P]; num_classes, of what says nothing of a place, has none."""
    counts = np.bincount(labels, minlength=num_classes + 1).astype(np.float64)
    counts[num_classes] = 0
    shares: NDArray[np.float64] = counts / max(1.0, counts.sum())
    return shares


class Canvas:
    """A map being composed; ids grow, things in front take pixels of those behind."""

    def __init__(self, base: RealMap, gone: NDArray[np.bool_], num_classes: int) -> None:
        """Start from a real map without the things `gone` [n + 1]."""
        self._num_classes = num_classes
        stuff = ~base.things & ~base.crowd
        stuff[0] = False
        holes = gone[base.ids] | _enclosed(base.ids, gone)
        self._backdrop = np.append(
            stuff, False
        )  # [n + 2] by id: what closes holes; the last is for every addition
        self.ids = complete(base.ids, holes, stuff[base.ids])
        self.category = base.category.tolist()
        self.things = (base.things & ~gone).tolist()
        self.crowd = base.crowd.tolist()
        self.foot = base.foot.tolist()
        behind = complete(base.ids, (base.things | base.crowd)[base.ids], stuff[base.ids])
        self._stuff = base.category[behind]  # [H, W] class of the stuff behind all things
        self._area = np.bincount(self.ids.ravel(), minlength=len(self.category))

    @property
    def num_things(self) -> int:
        """Return how many things there are."""
        return sum(self.things)

    def try_place(self, item: Cutout, min_area: int) -> tuple[float, NDArray[np.bool_]] | None:
        """Return how well a cutout fits where it is, in [0, 1], and its visible part [h, w]; None where it cannot be."""
        h, w = item.mask.shape
        under = self.ids[item.top : item.top + h, item.left : item.left + w]
        in_front = (np.array(self.things) & (np.array(self.foot) > item.top + h))[under]
        seen = item.mask & ~in_front
        if seen.sum() < max(min_area, SHOWN * item.mask.sum()):
            return None
        hidden = np.bincount(under[seen], minlength=len(self.things))
        left = self._area - hidden
        limit = np.maximum(min_area, (1 - HIDDEN) * self._area)
        if (np.array(self.things) & (hidden > 0) & (left < limit)).any():
            return None
        around = _shares(_ring(self._stuff, item.mask, item.top, item.left), self._num_classes)
        return item.whole * float(np.minimum(around, item.around).sum()), seen

    def without(self, thing: int) -> Canvas:
        """Return the map without one thing, the nearest stuff in its place; this one stays as it is."""
        other = copy.copy(self)
        last = len(self._backdrop) - 1
        backdrop = self._backdrop[np.minimum(self.ids, last)]
        gone = np.arange(len(self.things)) == thing
        other.ids = complete(self.ids, gone[self.ids] | _enclosed(self.ids, gone), backdrop)
        other.category, other.crowd = self.category.copy(), self.crowd.copy()
        other.things, other.foot = self.things.copy(), self.foot.copy()
        other.things[thing], other.foot[thing] = False, 0
        other._area = np.bincount(other.ids.ravel(), minlength=len(self.category))
        return other

    def place(self, item: Cutout, seen: NDArray[np.bool_], category: int) -> None:
        """Put a cutout in, as far as it is seen."""
        h, w = item.mask.shape
        self.ids[item.top : item.top + h, item.left : item.left + w][seen] = len(self.category)
        self.category.append(category)
        self.things.append(True)
        self.crowd.append(False)
        self.foot.append(item.top + h)
        self._area = np.bincount(self.ids.ravel(), minlength=len(self.category))

"""Surfaces that objects stand on, learned from images whose stuff has masks.

The foot of a box is a band along its lower edge, most of it inside. Its surface is the stuff that
most of the foot shows: grass under a cow, water under a boat, sky under a balloon. A class belongs
on the surfaces that real objects of it were seen on, and nowhere else; one in twenty is not enough,
since boxes of what stands at a shore reach over the water. Where nothing is known (no stuff has a
mask there, or no real object of the class was seen on any) every place is as good as another.

Legend: C classes, N objects; a stuff map [H, W] has the class of the stuff at every pixel, UNKNOWN
where there is a thing or no label.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.masks import decode
from synthaug.pipeline.core.scene import Dataset, Objects, Scene

UNKNOWN = -1
# shares of the height of a box by which its foot reaches above and below its edge: below may be
# what lies before the object, not under it
ABOVE, BELOW = 0.1, 0.02
LEAST_SHARE = 0.05  # of the objects of a class on a surface, more of which make it one of the class
STEPS = 10  # that a box moves up or down, at most, each of a tenth of its height
OBJECTS = 200  # real objects of a class that are looked at, evenly spaced in the table
CACHED_MAPS = 64

StuffMap = NDArray[np.int32]
Box = NDArray[np.float32]


def has_stuff(objects: Objects) -> bool:
    """Return whether any stuff has a mask."""
    return any(True for _ in _stuff(objects))


def _stuff(objects: Objects) -> Iterator[tuple[int, str]]:
    """Yield position and mask of the stuff that has one."""
    for number in np.flatnonzero(~objects.isthing).tolist():
        rle = objects.rle[number]
        if rle is not None:
            yield number, rle


def stuff_map(objects: Objects, size: Size) -> StuffMap:
    """Return the stuff map [H, W] of an image of a size (H, W)."""
    shown = np.full(size, UNKNOWN, np.int32)
    for number, rle in _stuff(objects):
        shown[decode(rle, size)] = objects.category[number]
    return shown


def surface_of(stuff: StuffMap, box: Box) -> int:
    """Return the surface of an xyxy box [4] in pixels of a stuff map.

    UNKNOWN where its foot shows no stuff.
    """
    height, width = stuff.shape
    x0, y0, x1, y1 = box.tolist()
    tall = y1 - y0
    left = min(max(0, math.floor(x0)), width - 1)
    right = min(max(left + 1, math.ceil(x1)), width)
    top = min(max(0, math.floor(y1 - ABOVE * tall)), height - 1)
    bottom = min(max(top + 1, math.ceil(y1 + BELOW * tall)), height)
    foot = stuff[top:bottom, left:right]
    known = foot[foot != UNKNOWN]
    if not len(known):
        return UNKNOWN
    return int(np.bincount(known).argmax())


def belongs(seen: Flags, label: int, surface: int) -> bool:
    """Return whether a class may stand on a surface; `seen` [C, C] has its own."""
    if surface == UNKNOWN or not seen[label].any():
        return True
    return bool(seen[label, surface])


def seen_surfaces(table: Dataset) -> Flags:
    """Return which classes were seen on which stuff, [C, C].

    Some objects of each class are looked at; pixels are not needed.
    """
    num_classes = len(table.categories)
    counts = np.zeros((num_classes, num_classes), np.int64)
    if all(category.isthing for category in table.categories):
        return counts > 0
    rows: list[tuple[int, int, int]] = []  # class, index of the scene, position of the object
    for index, scene in enumerate(table):
        if has_stuff(scene.objects):
            rows += [(label, index, position) for label, position in _things(scene)]
    for index, looked_at in _some_of_each(rows).items():
        scene = table[index]
        stuff = stuff_map(scene.objects, scene.size)
        for position in looked_at:
            surface = surface_of(stuff, scene.objects.boxes[position])
            if surface != UNKNOWN:
                counts[scene.objects.category[position], surface] += 1
    seen: Flags = counts > LEAST_SHARE * counts.sum(1, keepdims=True)
    return seen


def surface_lines(table: Dataset) -> list[str]:
    """Return lines on which classes come to which stuff; pixels are not needed."""
    seen = seen_surfaces(table)
    names = [category.name for category in table.categories]
    if not seen.any():
        return ["no stuff has a mask here: objects come to any place (plan.surface)"]
    lines = []
    for label, own in enumerate(seen):
        if own.any():
            surfaces = [names[surface] for surface in np.flatnonzero(own)]
            lines.append(f"{names[label]} comes to {', '.join(surfaces)} (plan.surface)")
    return lines


def stuff_shown(table: Dataset) -> Flags:
    """Return which stuff has a mask in which image, [S, C]; pixels are not needed."""
    shown = np.zeros((len(table), len(table.categories)), bool)
    for index, scene in enumerate(table):
        for position, _ in _stuff(scene.objects):
            shown[index, scene.objects.category[position]] = True
    return shown


def _things(scene: Scene) -> Iterator[tuple[int, int]]:
    """Yield class and position of the things that a person labelled, but for crowds."""
    objects = scene.objects
    for position in np.flatnonzero(objects.isthing & ~objects.iscrowd).tolist():
        if objects.source[position] == "human":
            yield int(objects.category[position]), position


def _some_of_each(rows: list[tuple[int, int, int]]) -> dict[int, list[int]]:
    """Return at most OBJECTS objects of each class, evenly spaced.

    As index of the scene -> positions.
    """
    of_class: dict[int, list[tuple[int, int]]] = {}
    for label, index, position in rows:
        of_class.setdefault(label, []).append((index, position))
    chosen: dict[int, list[int]] = {}
    for places in of_class.values():
        count = min(OBJECTS, len(places))
        for k in range(count):
            index, position = places[k * len(places) // count]
            chosen.setdefault(index, []).append(position)
    return chosen


class Surfaces:
    """The surfaces that classes were seen on, and the stuff of every image of a table."""

    def __init__(self, table: Dataset) -> None:
        """Take a table; pixels are not needed."""
        self.seen = seen_surfaces(table)  # [C, C]
        self._shown = stuff_shown(table)  # [S, C]
        self._table = table
        self._stuff = lru_cache(CACHED_MAPS)(self._read)

    def _read(self, index: int) -> StuffMap:
        scene = self._table[index]
        return stuff_map(scene.objects, scene.size)

    def possible(self) -> Flags:
        """Return which classes have a surface of theirs in which image, [S, C].

        Where no stuff is known, and of classes never seen on any, nothing is ruled out.
        """
        counts = self._shown.astype(np.int64) @ self.seen.T.astype(np.int64)  # of own surfaces
        knows_nothing = np.asarray(~self._shown.any(1))
        is_anywhere = ~self.seen.any(1)
        allowed: Flags = (counts > 0) | knows_nothing[:, None] | is_anywhere
        return allowed

    def allow(self, index: int, label: int, box: Box) -> bool:
        """Return whether a class may come to a box [4] in [0, 1] of image `index`."""
        if not self.seen[label].any():
            return True
        stuff = self._stuff(index)
        height, width = stuff.shape
        pixels = box * np.array([width, height, width, height], np.float32)
        return belongs(self.seen, label, surface_of(stuff, pixels))

    def nearest(self, index: int, label: int, box: Box) -> Box | None:
        """Return the box [4] in [0, 1] where the class may stand in image `index`.

        It stays, or moves up or down as little as is needed and by its own height at most: further
        away objects have other sizes. None where there is no such place inside the image.
        """
        if self.allow(index, label, box):
            return box
        step = (box[3] - box[1]) / STEPS
        for number in range(1, STEPS + 1):
            for shift in (number * step, -number * step):
                moved = box + np.array([0, shift, 0, shift], np.float32)
                is_inside = moved[1] >= 0 and moved[3] <= 1
                if is_inside and self.allow(index, label, moved):
                    return moved
        return None

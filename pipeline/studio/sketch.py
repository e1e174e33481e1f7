"""A layout being edited by hand: objects, their styles, and what they lie on.

A sketch never changes; an edit returns a new one in which all else is equal. Every edit raises
ValueError, in one sentence, for what cannot be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.seeding import seed_for

Box = tuple[float, float, float, float]  # xyxy, pixels
Style = tuple[tuple[int, float], ...]  # (seed, weight): a weighted sum of the draws of seeds

SEEDS = 1 << 32  # below it, so that JavaScript keeps every digit
MIN_SIDE = 1.0  # pixels of a box
MOST_ITEMS = 100


def style_of(seed: int) -> Style:
    """Return the style of one seed."""
    return ((seed, 1.0),)


def seed_of(style: Style) -> int:
    """Return the seed of a style, the heaviest of several."""
    seed, _ = max(style, key=lambda part: part[1])
    return seed


def next_seed(seed: int, *identity: int | str) -> int:
    """Return another seed, always the same for the same seed and identity."""
    return seed_for(seed, "studio", *identity) % SEEDS


@dataclass(frozen=True)
class Shape:
    """What an object of a map fills of its box, as run lengths of a mask (H, W)."""

    rle: str
    size: Size


@dataclass(frozen=True)
class Item:
    """One object; its number is its identity and stays when others come and go."""

    number: int
    label: str
    box: Box
    style: Style
    locked: bool = False
    origin: int = -1  # position among the objects of the photo; -1 = it is none of them
    real: bool = False  # it is still the photo's own pixels
    shape: Shape | None = None  # of maps

    @property
    def name(self) -> str:
        """Return number and class, as messages name an object."""
        return f"object {self.number} ({self.label})"


@dataclass(frozen=True)
class Sketch:
    """Objects on a canvas, the later in front, and the seeds of all that is drawn."""

    size: Size  # (H, W), pixels
    items: tuple[Item, ...]
    seed: int  # draws the styles of new objects, and samples
    style: Style  # of the image
    born: int  # the number the next added object gets
    photo: str = ""  # split and id of the real image that is painted into; "" = none
    ground: bytes = b""  # PNG [H, W] of maps: class + 1 of the stuff at each pixel, 0 = none

    def __getitem__(self, number: int) -> Item:
        """Return the object with this number."""
        for item in self.items:
            if item.number == number:
                return item
        known = ", ".join(str(item.number) for item in self.items) or "none"
        raise ValueError(f"there is no object {number}; the layout has {known}")

    def move(self, number: int, box: Sequence[float]) -> Sketch:
        """Give an object another box.

        An object of a photo leaves its place, which is painted over, and is painted anew.
        """
        item = self._unlocked(number)
        placed = self._inside(box)
        if placed == item.box:
            return self
        return self.with_item(replace(item, box=placed, origin=-1, real=False))

    def relabel(self, number: int, label: str) -> Sketch:
        """Give an object another class; an object of a photo is painted over in its place."""
        item = self._unlocked(number)
        if label == item.label:
            return self
        return self.with_item(replace(item, label=label, real=False))

    def add(self, label: str, box: Sequence[float], shape: Shape | None = None) -> Sketch:
        """Add an object in front of all others, its style drawn by the sketch's seed."""
        if len(self.items) >= MOST_ITEMS:
            raise ValueError(f"a layout has at most {MOST_ITEMS} objects; remove one first")
        item = Item(self.born, label, self._inside(box), style_of(self.seed), shape=shape)
        return replace(self, items=(*self.items, item), born=self.born + 1)

    def remove(self, number: int) -> Sketch:
        """Take an object away; the others keep their numbers."""
        removed = self._unlocked(number)
        kept = [item for item in self.items if item is not removed]
        return replace(self, items=tuple(kept))

    def lock(self, number: int, locked: bool) -> Sketch:
        """Lock an object, or unlock it: a locked one keeps its box, class and style."""
        return self.with_item(replace(self[number], locked=locked))

    def raised(self, number: int) -> Sketch:
        """Bring an object in front of all others."""
        item = self._unlocked(number)
        others = [other for other in self.items if other is not item]
        return replace(self, items=(*others, item))

    def restyle(self, number: int, seed: int | None = None) -> Sketch:
        """Draw another style for one object; one of a photo is painted anew."""
        item = self._unlocked(number)
        if seed is None:
            seed = next_seed(seed_of(item.style), "object", number)
        restyled = replace(item, style=style_of(_checked_seed(seed)), real=False)
        return self.with_item(restyled)

    def restyle_image(self, seed: int | None = None) -> Sketch:
        """Draw another style for the image; every object keeps its own."""
        if seed is None:
            seed = next_seed(seed_of(self.style), "image")
        return replace(self, style=style_of(_checked_seed(seed)))

    def resample(self, seed: int) -> Sketch:
        """Draw every style anew, but those of locked objects and of a photo's own."""
        style = style_of(_checked_seed(seed))
        items = []
        for item in self.items:
            if not (item.locked or item.real):
                item = replace(item, style=style)
            items.append(item)
        return replace(self, items=tuple(items), style=style)

    def samples(self, count: int) -> list[Sketch]:
        """Return samples of the layout, each of a seed that derives from the sketch's."""
        seeds = [next_seed(self.seed, "sample", place) for place in range(count)]
        return [self.resample(seed) for seed in seeds]

    def interpolate(self, number: int | None, seed: int, t: float) -> Sketch:
        """Take a style the share t of the way to that of a seed (LostGAN-V2, Fig. 12).

        Of one object, or of the image where `number` is None.
        """
        if not 0 <= t <= 1:
            raise ValueError(f"t is {t}; interpolate from 0 to 1")
        if number is None:
            return replace(self, style=between(self.style, seed, t))
        item = self._unlocked(number)
        return self.with_item(replace(item, style=between(item.style, seed, t)))

    def with_item(self, changed: Item) -> Sketch:
        """Return the sketch with an object in the place of the one that has its number."""
        items = []
        for item in self.items:
            if item.number == changed.number:
                item = changed
            items.append(item)
        return replace(self, items=tuple(items))

    def _unlocked(self, number: int) -> Item:
        item = self[number]
        if item.locked:
            raise ValueError(f"{item.name} is locked; unlock it first")
        return item

    def _inside(self, box: Sequence[float]) -> Box:
        return inside(box, self.size)


def between(style: Style, seed: int, t: float) -> Style:
    """Return a style the share t of the way to that of a seed."""
    weights = {old: weight * (1 - t) for old, weight in style}
    weights[seed] = weights.get(seed, 0.0) + t
    return tuple((key, weight) for key, weight in weights.items() if weight)


def inside(box: Sequence[float], size: Size) -> Box:
    """Return the part of a box that lies in an image (H, W).

    Coordinates are rounded so that they are written and read without change.
    """
    values = [float(value) for value in box]
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise ValueError("a box is four finite numbers x0, y0, x1, y1")
    height, width = size
    x0, x1 = (min(max(value, 0.0), float(width)) for value in values[0::2])
    y0, y1 = (min(max(value, 0.0), float(height)) for value in values[1::2])
    if x1 - x0 < MIN_SIDE or y1 - y0 < MIN_SIDE:
        raise ValueError(
            f"a box of {x1 - x0:.3g} x {y1 - y0:.3g} pixels in an image of {width} x {height} is "
            "too small; its sides need a pixel"
        )
    return round(x0, 3), round(y0, 3), round(x1, 3), round(y1, 3)


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed {seed} is not a whole number from 0 to {SEEDS - 1}")
    return seed


def blank(size: Size, seed: int) -> Sketch:
    """Return a canvas (H, W) without objects."""
    return Sketch(size, (), seed, style_of(seed), 0)


def of_objects(size: Size, objects: Iterable[tuple[str, Sequence[float]]], seed: int) -> Sketch:
    """Return the sketch of classes and boxes [4] in pixels of an image (H, W).

    Boxes of which less than a pixel is in the image are left out.
    """
    sketch = blank(size, seed)
    for label, box in objects:
        try:
            sketch = sketch.add(label, box)
        except ValueError:
            if len(sketch.items) >= MOST_ITEMS:
                break
    return sketch

"""What is in a toy scene and where: the hour, the lie of the land, and things that stand where such things stand.

Everything is in fractions of the image side and is decided on a fixed grid of GRID x GRID cells, so a scene's content
does not depend on the size it is painted at, and sampling scenes without painting them is quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.formats.toy.draw import DRAWERS, STYLE, Part

Line = NDArray[np.float64]  # [P, 2] x, y as fractions of the image side, y downwards

GRID = 64
HEAD_TO_TAIL = 50.0
NUMBER_ODDS = (0.05, 0.14, 0.22, 0.24, 0.19, 0.10, 0.06)  # of 1..7 things
STUFF = ("sky", "grass", "water", "road")
SKY, GRASS, WATER, ROAD = range(4)
_SHIFT = 4  # cv2 takes polygon corners in 1/16 pixel
_TRIES = 40
_MIN_STUFF = 0.015  # of the image; what is there must be worth a label
_MIN_AREA, _MIN_SIDE, _MIN_SEEN = 0.006, 0.118, 0.45  # of image, of side, of the silhouette


@dataclass(frozen=True)
class Hour:
    """Light of one time of day; colours 0..255, `light` multiplies."""

    zenith: tuple[float, float, float]
    low: tuple[float, float, float]
    light: tuple[float, float, float]
    glow: float


HOURS = (
    Hour((66, 126, 212), (186, 218, 240), (1.03, 1.02, 0.99), 0.25),  # noon
    Hour((112, 160, 216), (252, 226, 188), (1.06, 0.99, 0.90), 0.6),  # morning
    Hour((142, 153, 168), (204, 210, 216), (0.87, 0.90, 0.94), 0.0),  # overcast
    Hour((92, 108, 172), (255, 178, 108), (1.08, 0.91, 0.74), 0.9),  # evening
    Hour((58, 58, 118), (226, 124, 132), (0.80, 0.70, 0.82), 0.7),  # dusk
)


@dataclass(frozen=True)
class Kind:
    """Size near the viewer (fractions of the side), what is left of it far away, nearest it comes to the horizon."""

    height: float
    width: float
    far: float
    start: float  # least depth: what is slim would be lost farther away
    ground: tuple[int, ...]  # where it stands, the usual place first


KINDS = {
    "tree": Kind(0.60, 0.42, 0.45, 0.04, (GRASS,)),
    "car": Kind(0.21, 0.42, 0.64, 0.12, (ROAD, GRASS)),
    "house": Kind(0.44, 0.58, 0.45, 0.06, (GRASS,)),
    "person": Kind(0.38, 0.17, 0.76, 0.30, (GRASS, ROAD)),
    "cow": Kind(0.26, 0.40, 0.60, 0.16, (GRASS,)),
    "boat": Kind(0.46, 0.42, 0.60, 0.04, (WATER,)),
    "balloon": Kind(0.37, 0.26, 0.66, 0.0, (SKY,)),
    "bus": Kind(0.27, 0.58, 0.60, 0.12, (ROAD, GRASS)),
    "windmill": Kind(0.62, 0.46, 0.52, 0.04, (GRASS,)),
}
THINGS = tuple(DRAWERS)


@dataclass(frozen=True)
class Thing:
    """One thing in its place; `foot` is the middle of its base, `parts` are drawn from there."""

    category: int
    foot: tuple[float, float]
    height: float
    reach: float  # half its width
    mirror: int
    depth: float  # 0 at the horizon, 1 at the lower border; below 0 for what hangs in the sky
    parts: list[Part]


@dataclass(frozen=True)
class World:
    """A scene before it has pixels: `regions` cover each other in order, `things` go from back to front."""

    hour: Hour
    sun: float  # x of the sun
    lit: int  # the side it is on: -1 left, 1 right
    horizon: float
    regions: tuple[tuple[int, Line], ...]
    marks: tuple[Line, ...]  # dashes on the road
    things: tuple[Thing, ...]
    identity: tuple[int | str, ...]  # seeds the textures


def sample_world(identity: tuple[int | str, ...], min_things: int, max_things: int) -> World:
    """Draw the scene that belongs to an identity such as ("toy", seed, split, index)."""
    rng = rng_for(*identity, "world")
    odds = np.array(NUMBER_ODDS[min_things - 1 : max_things])
    number = int(rng.choice(len(odds), p=odds / odds.sum())) + min_things
    share = HEAD_TO_TAIL ** (-np.arange(len(THINGS)) / (len(THINGS) - 1))
    wanted = rng.choice(len(THINGS), size=number, p=share / share.sum())
    world = _lay_land(
        rng, {ground for k in wanted for ground in KINDS[THINGS[k]].ground[:1]}, identity
    )
    return replace(world, things=_Stage(world).fill(rng, wanted))


def _lay_land(rng: np.random.Generator, needed: set[int], identity: tuple[int | str, ...]) -> World:
    horizon, hills = rng.uniform(0.30, 0.44), rng.uniform(0.02, 0.11)
    regions: list[tuple[int, Line]] = [
        (SKY, _below(np.zeros(2))),
        (GRASS, _below(horizon - hills * _wave(rng))),
    ]
    chance = rng.random(2)
    lake, road = WATER in needed or chance[0] < 0.3, ROAD in needed or chance[1] < 0.3
    shape = int(rng.integers(3)) if lake else -1
    depth = 1.0 - horizon
    if shape == 0:  # a sea up to the horizon
        shore = horizon + depth * (rng.uniform(0.24, 0.36) + 0.09 * _wave(rng))
        regions.append((WATER, np.concatenate([[(0, horizon), (1, horizon)], _edge(shore)[::-1]])))
    elif shape == 1:  # the viewer stands at the shore
        regions.append(
            (WATER, _below(horizon + depth * (rng.uniform(0.52, 0.6) + 0.1 * _wave(rng))))
        )
    elif shape == 2:  # a lake
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        reach = (
            1
            + 0.1 * np.sin(2 * turn + rng.uniform(0, 6))
            + 0.06 * np.sin(3 * turn + rng.uniform(0, 6))
        )
        middle = rng.uniform(0.2, 0.8), horizon + depth * rng.uniform(0.36, 0.42)
        radii = rng.uniform(0.36, 0.5), depth * rng.uniform(0.17, 0.22)
        regions.append(
            (WATER, np.stack([np.cos(turn) * reach, np.sin(turn) * reach], 1) * radii + middle)
        )
    marks: tuple[Line, ...] = ()
    if road:
        low, high = {-1: (0.35, 0.72), 0: (0.62, 0.74), 1: (0.2, 0.3), 2: (0.8, 0.84)}[shape]
        way = _lay_way(rng, horizon) if shape == -1 and rng.random() < 0.35 else None
        polygon, marks = way or _lay_band(rng, horizon, rng.uniform(low, high))
        regions.append((ROAD, polygon))
    hour = HOURS[max(0, int(rng.integers(-1, len(HOURS))))]  # noon counts twice
    lit = 1 if rng.random() < 0.5 else -1
    return World(
        hour, 0.5 + lit * rng.uniform(0.1, 0.45), lit, horizon, tuple(regions), marks, (), identity
    )


def _wave(rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth curve in [0, 1] over the width: [40]."""
    x = np.linspace(0, 1, 40)
    phase = rng.uniform(0, 2 * np.pi, 3)
    wave = (
        np.sin(4 * x + phase[0]) + 0.5 * np.sin(9 * x + phase[1]) + 0.2 * np.sin(21 * x + phase[2])
    )
    return np.asarray((wave + 1.7) / 3.4, np.float64)


def _edge(y: NDArray[np.float64]) -> Line:
    return np.stack([np.linspace(0, 1, len(y)), y], 1)


def _below(y: NDArray[np.float64]) -> Line:
    return np.concatenate([_edge(y), [(1.0, 1.0), (0.0, 1.0)]])


def _ribbon(line: Line, side: NDArray[np.float64]) -> Line:
    return np.concatenate([line - side, (line + side)[::-1]])


def _lay_band(
    rng: np.random.Generator, horizon: float, depth: float
) -> tuple[Line, tuple[Line, ...]]:
    """A road that crosses the picture."""
    middle = (
        horizon
        + (1 - horizon) * depth
        + 0.05 * (_wave(rng) - 0.5)
        + np.linspace(0, rng.uniform(-0.05, 0.05), 40)
    )
    line, side = _edge(middle), np.array([0.0, 0.045 + 0.05 * depth])
    return _ribbon(line, side), tuple(_ribbon(line[k : k + 3], 0.1 * side) for k in range(0, 38, 5))


def _lay_way(rng: np.random.Generator, horizon: float) -> tuple[Line, tuple[Line, ...]]:
    """A road that runs from the viewer to the horizon."""
    near = np.linspace(0, 1, 40)
    start, goal, bend = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.7), rng.uniform(-0.16, 0.16)
    middle = start * near + goal * (1 - near) + bend * np.sin(2 * np.pi * near**0.6)
    line = np.stack([middle, horizon + (1 - horizon) * near], 1)
    side = np.stack([0.012 + 0.25 * near, np.zeros(40)], 1)
    spans = (slice(k, k + 2 + k // 8) for k in (8, 13, 19, 26, 34))
    return _ribbon(line, side), tuple(_ribbon(line[span], 0.05 * side[span]) for span in spans)


def rasterise(
    parts: list[Part], foot: tuple[float, float], scale: tuple[float, float], pixels: int
) -> tuple[NDArray[np.uint8], int, int]:
    """Paint parts on their own patch of a square canvas; returns RGBA [h, w, 4] (alpha 0 or 255), top, left.

    `foot`, inside the canvas, is where the origin goes and `scale` the length of a unit to the right and upwards
    (negative mirrors), in fractions of the canvas side.
    """
    import cv2

    corners = np.concatenate([polygon for polygon, _ in parts])
    corners = corners * (scale[0] * pixels, -scale[1] * pixels) + (
        foot[0] * pixels - 0.5,
        foot[1] * pixels - 0.5,
    )
    left, top = (max(0, math.floor(low) - 1) for low in corners.min(0))
    right, bottom = (min(pixels, math.ceil(high) + 2) for high in corners.max(0))
    patch = np.zeros((bottom - top, right - left, 4), np.uint8)
    fixed = np.rint((corners - (left, top)) * (1 << _SHIFT)).astype(np.int32)
    start = 0
    for polygon, colour in parts:
        cv2.fillPoly(patch, [fixed[start : start + len(polygon)]], (*colour, 255), shift=_SHIFT)
        start += len(polygon)
    return patch, top, left


def fill(canvas: NDArray[np.uint8], line: Line, value: int) -> None:
    """Fill a polygon [P, 2] in fractions of the side with one value, in place."""
    import cv2

    fixed = np.rint((line * len(canvas) - 0.5) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], value, shift=_SHIFT)


@dataclass
class _Seen:
    """A placed thing's silhouette on the grid, and how many of its cells would show if nothing stood before it."""

    thing: Thing
    alpha: NDArray[np.bool_]
    top: int
    left: int
    whole: int


class _Stage:
    """The grid on which things are placed one by one so that all that is placed stays well visible."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stuff = np.zeros((GRID, GRID), np.uint8)
        for label, line in world.regions:
            fill(self.stuff, line, label)
        self.present = np.bincount(self.stuff.ravel(), minlength=4) > 0
        self.seen: list[_Seen] = []

    def fill(self, rng: np.random.Generator, wanted: NDArray[np.int64]) -> tuple[Thing, ...]:
        """Place one thing of each wanted category; one that finds no room in _TRIES tries is left out."""
        for category in wanted:
            for _ in range(_TRIES):
                placed = self._try(rng, int(category))
                if placed is not None:
                    self.seen = placed
                    break
        return tuple(seen.thing for seen in self.seen)

    def _try(self, rng: np.random.Generator, category: int) -> list[_Seen] | None:
        kind, horizon = KINDS[THINGS[category]], self.world.horizon
        x, y, grow, turn, choice = rng.random(5).tolist()
        x, grow = 0.05 + 0.9 * x, 0.9 + 0.22 * grow
        ground = kind.ground[0] if choice < 0.85 else kind.ground[-1]
        if ground == SKY:
            height = min(kind.height * (kind.far + (1 - kind.far) * y) * grow, 0.94 * horizon)
            depth, foot = height - 1.0, (x, height + 0.01 + turn * (horizon - height - 0.015))
        else:
            depth = kind.start + (0.98 - kind.start) * y
            foot = x, horizon + (1 - horizon) * depth
            height = kind.height * (kind.far + (1 - kind.far) * depth) * grow
        reach = 0.5 * kind.width / kind.height * height
        if foot[1] - height < -0.05 or not self._fits(foot, reach, depth, ground):
            return None
        mirror = 1 if turn < 0.5 else -1
        parts = DRAWERS[THINGS[category]](rng.random(STYLE), self.world.lit * mirror)
        return self._insert(Thing(category, foot, height, reach, mirror, depth, parts))

    def _fits(self, foot: tuple[float, float], reach: float, depth: float, ground: int) -> bool:
        """Whether it is mostly in the picture, all on its ground and not inside another thing."""
        if foot[0] < 0.5 * reach or foot[0] > 1 - 0.5 * reach:
            return False
        row = int(foot[1] * GRID)
        columns = (
            min(GRID - 1, max(0, int((foot[0] + step * reach) * GRID))) for step in (-0.7, 0.0, 0.7)
        )
        if any(self.stuff[row, column] != ground for column in columns):
            return False
        near = [seen.thing for seen in self.seen if abs(depth - seen.thing.depth) < 0.1]
        return all(abs(foot[0] - other.foot[0]) >= 0.8 * (reach + other.reach) for other in near)

    def _insert(self, thing: Thing) -> list[_Seen] | None:
        """Return what would stand there with the thing added, or None if anything would be too hidden."""
        patch, top, left = rasterise(
            thing.parts, thing.foot, (thing.mirror * thing.height, thing.height), GRID
        )
        alpha = patch[..., 3] > 0
        new = _Seen(thing, alpha, top, left, int(alpha.sum()))
        seen = sorted([*self.seen, new], key=lambda one: one.thing.depth)
        owner = self.stuff.copy()
        for k, one in enumerate(seen):
            h, w = one.alpha.shape
            owner[one.top : one.top + h, one.left : one.left + w][one.alpha] = 4 + k
        count = np.bincount(owner.ravel(), minlength=4 + len(seen))
        if (count[:4][self.present] < _MIN_STUFF * GRID**2).any():
            return None
        doubtful = [k for k, one in enumerate(seen) if one is new or count[4 + k] < one.whole]
        return (
            seen
            if all(_shows(owner, seen[k], 4 + k, int(count[4 + k])) for k in doubtful)
            else None
        )


def _shows(owner: NDArray[np.uint8], one: _Seen, label: int, count: int) -> bool:
    if count < max(_MIN_AREA * GRID**2, _MIN_SEEN * one.whole):
        return False
    h, w = one.alpha.shape
    mine = owner[one.top : one.top + h, one.left : one.left + w] == label
    sides = (np.ptp(np.flatnonzero(mine.any(axis))) + 1 for axis in (0, 1))
    return all(side >= _MIN_SIDE * GRID for side in sides)

"""Toy scenes before they have pixels: the hour, the land, things in place.

Everything is in fractions of the image side and is decided on a fixed grid of GRID x GRID cells, so
a scene's content does not depend on the size it is painted at, and sampling scenes without painting
them is quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes, Flags, Floats, Ints
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.formats.toy.draw import DRAWERS, STYLE, Part

Line = NDArray[np.float64]  # [P, 2] x, y as fractions of the image side, y downwards

GRID = 64
HEAD_TO_TAIL = 50.0
NUMBER_ODDS = (0.05, 0.14, 0.22, 0.24, 0.19, 0.10, 0.06)  # of 1..7 things
STUFF = ("sky", "grass", "water", "road")
SKY, GRASS, WATER, ROAD = range(4)
NO_WATER, SEA, SHORE, LAKE = -1, 0, 1, 2  # shapes of water
ROAD_DEPTHS = {NO_WATER: (0.35, 0.72), SEA: (0.62, 0.74), SHORE: (0.2, 0.3), LAKE: (0.8, 0.84)}
_SHIFT = 4  # cv2 takes polygon corners in 1/16 pixel
_TRIES = 40
_MIN_STUFF = 0.015  # of the image; what is there must be worth a label
_MIN_AREA, _MIN_SIDE, _MIN_SEEN = 0.006, 0.118, 0.45  # of image, of side, of the silhouette


@dataclass(frozen=True)
class Hour:
    """Light of one time of day; colors 0..255, `light` multiplies."""

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
    """Size of a thing near the viewer, what is left of it far away, its ground.

    Sizes are fractions of the side.
    """

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
    """One thing in its place.

    `foot` is the middle of its base, `parts` are drawn from there.
    """

    category: int
    foot: tuple[float, float]
    height: float
    reach: float  # half its width
    mirror: int
    depth: float  # 0 at the horizon, 1 at the lower border; below 0 for what hangs in the sky
    parts: list[Part]


@dataclass(frozen=True)
class World:
    """A scene before it has pixels.

    `regions` cover each other in order, `things` go from back to front.
    """

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
    drawn = rng.choice(len(odds), p=odds / odds.sum())
    number = min_things + int(drawn)
    rank = np.arange(len(THINGS)) / (len(THINGS) - 1)
    frequency = HEAD_TO_TAIL ** (-rank)
    shares = frequency / frequency.sum()
    categories = rng.choice(len(THINGS), size=number, p=shares)
    kinds = [KINDS[THINGS[category]] for category in categories]
    usual_grounds = {kind.ground[0] for kind in kinds}
    world = _lay_land(rng, usual_grounds, identity)
    return replace(world, things=_Stage(world).fill(rng, categories))


def _lay_land(
    rng: np.random.Generator, grounds: set[int], identity: tuple[int | str, ...]
) -> World:
    """Draw sky, hills, water and road, and the light.

    What things need to stand on is there.
    """
    horizon = rng.uniform(0.30, 0.44)
    hills = rng.uniform(0.02, 0.11)
    skyline = horizon - hills * _wave(rng)
    sky = _below(np.zeros(2))
    grass = _below(skyline)
    regions: list[tuple[int, Line]] = [(SKY, sky), (GRASS, grass)]
    chance = rng.random(2)
    has_water = WATER in grounds or chance[0] < 0.3
    has_road = ROAD in grounds or chance[1] < 0.3

    shape = NO_WATER
    if has_water:
        shape = int(rng.integers(3))
        water = _lay_water(rng, horizon, shape)
        regions.append((WATER, water))
    marks: tuple[Line, ...] = ()
    if has_road:
        if shape == NO_WATER and rng.random() < 0.35:
            road, marks = _lay_way(rng, horizon)
        else:
            depth = rng.uniform(*ROAD_DEPTHS[shape])
            road, marks = _lay_band(rng, horizon, depth)
        regions.append((ROAD, road))

    drawn_hour = int(rng.integers(-1, len(HOURS)))
    hour = HOURS[max(0, drawn_hour)]  # noon counts twice
    lit = 1 if rng.random() < 0.5 else -1
    sun = 0.5 + lit * rng.uniform(0.1, 0.45)
    return World(hour, sun, lit, horizon, tuple(regions), marks, (), identity)


def _lay_water(rng: np.random.Generator, horizon: float, shape: int) -> Line:
    """Draw a sea up to the horizon, the water before a viewer on the shore, or a lake."""
    depth = 1.0 - horizon
    if shape == SEA:
        level = rng.uniform(0.24, 0.36)
        near_shore = horizon + depth * (level + 0.09 * _wave(rng))
        far_edge: list[tuple[float, float]] = [(0, horizon), (1, horizon)]
        near_edge = _edge(near_shore)[::-1]
        return np.concatenate([far_edge, near_edge])
    if shape == SHORE:
        level = rng.uniform(0.52, 0.6)
        shore = horizon + depth * (level + 0.1 * _wave(rng))
        return _below(shore)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    bays_at = 2 * turn + rng.uniform(0, 6)
    bays = 0.1 * np.sin(bays_at)
    small_bays_at = 3 * turn + rng.uniform(0, 6)
    small_bays = 0.06 * np.sin(small_bays_at)
    reach = 1 + bays + small_bays
    middle_x = rng.uniform(0.2, 0.8)
    middle_y = horizon + depth * rng.uniform(0.36, 0.42)
    middle = (middle_x, middle_y)
    width = rng.uniform(0.36, 0.5)
    height = depth * rng.uniform(0.17, 0.22)
    radii = (width, height)
    across = np.cos(turn) * reach
    down = np.sin(turn) * reach
    circle = np.stack([across, down], 1)
    return circle * radii + middle


def _wave(rng: np.random.Generator) -> Floats:
    """Return a smooth curve in [0, 1] over the width [40]."""
    x = np.linspace(0, 1, 40)
    phase = rng.uniform(0, 2 * np.pi, 3)
    slow = np.sin(4 * x + phase[0])
    medium = 0.5 * np.sin(9 * x + phase[1])
    fast = 0.2 * np.sin(21 * x + phase[2])
    curve = (slow + medium + fast + 1.7) / 3.4
    return np.asarray(curve, np.float64)


def _edge(y: Floats) -> Line:
    """Return the points of a curve over the whole width."""
    x = np.linspace(0, 1, len(y))
    return np.stack([x, y], 1)


def _below(y: Floats) -> Line:
    """Return the region from a curve down to the lower border."""
    lower_border = [(1.0, 1.0), (0.0, 1.0)]
    return np.concatenate([_edge(y), lower_border])


def _ribbon(line: Line, side: Floats) -> Line:
    """Return the region within `side` of a line, on both sides of it."""
    back = (line + side)[::-1]
    return np.concatenate([line - side, back])


def _lay_band(
    rng: np.random.Generator, horizon: float, depth: float
) -> tuple[Line, tuple[Line, ...]]:
    """Draw a road that crosses the picture, and its dashes."""
    level = horizon + (1 - horizon) * depth
    bends = 0.05 * (_wave(rng) - 0.5)
    climb = rng.uniform(-0.05, 0.05)
    slope = np.linspace(0, climb, 40)
    line = _edge(level + bends + slope)
    half_width = 0.045 + 0.05 * depth
    side = np.array([0.0, half_width])
    dashes = []
    for start in range(0, 38, 5):
        part = line[start : start + 3]
        dashes.append(_ribbon(part, 0.1 * side))
    return _ribbon(line, side), tuple(dashes)


def _lay_way(rng: np.random.Generator, horizon: float) -> tuple[Line, tuple[Line, ...]]:
    """Draw a road that runs from the viewer to the horizon, and its dashes."""
    near = np.linspace(0, 1, 40)  # 1 at the viewer
    start = rng.uniform(0.25, 0.75)
    goal = rng.uniform(0.3, 0.7)
    bend = rng.uniform(-0.16, 0.16)
    straight = start * near + goal * (1 - near)
    x = straight + bend * np.sin(2 * np.pi * near**0.6)
    y = horizon + (1 - horizon) * near
    line = np.stack([x, y], 1)
    half_width = 0.012 + 0.25 * near
    side = np.stack([half_width, np.zeros(40)], 1)
    dashes = []
    for first in (8, 13, 19, 26, 34):
        last = first + 2 + first // 8
        span = slice(first, last)
        dash = _ribbon(line[span], 0.05 * side[span])
        dashes.append(dash)
    return _ribbon(line, side), tuple(dashes)


def rasterize(
    parts: list[Part], foot: tuple[float, float], scale: tuple[float, float], pixels: int
) -> tuple[Bytes, int, int]:
    """Paint parts on their own patch of a square canvas.

    Returns RGBA [h, w, 4] (alpha 0 or 255), top, left. `foot`, inside the canvas, is where the
    origin goes and `scale` the length of a unit to the right and upwards (negative mirrors), in
    fractions of the canvas side.
    """
    import cv2

    corners = np.concatenate([polygon for polygon, _ in parts])
    scale_x, scale_y = scale
    foot_x, foot_y = foot
    unit = (scale_x * pixels, -scale_y * pixels)
    origin = (foot_x * pixels - 0.5, foot_y * pixels - 0.5)
    corners = corners * unit + origin
    low_x, low_y = corners.min(0)
    high_x, high_y = corners.max(0)
    left = max(0, math.floor(low_x) - 1)
    top = max(0, math.floor(low_y) - 1)
    right = min(pixels, math.ceil(high_x) + 2)
    bottom = min(pixels, math.ceil(high_y) + 2)
    patch = np.zeros((bottom - top, right - left, 4), np.uint8)
    on_patch = corners - (left, top)
    fixed = np.rint(on_patch * (1 << _SHIFT)).astype(np.int32)
    start = 0
    for polygon, color in parts:
        end = start + len(polygon)
        rgba = (*color, 255)
        cv2.fillPoly(patch, [fixed[start:end]], rgba, shift=_SHIFT)
        start = end
    return patch, top, left


def fill(canvas: Bytes, line: Line, value: int) -> None:
    """Fill a polygon [P, 2] in fractions of the side with one value, in place."""
    import cv2

    on_canvas = line * len(canvas) - 0.5
    fixed = np.rint(on_canvas * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], value, shift=_SHIFT)


@dataclass
class _Placed:
    """A thing with its silhouette on the grid."""

    thing: Thing
    silhouette: Flags  # [h, w]
    top: int
    left: int
    num_cells: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The part of the grid that the silhouette lies on."""
        height, width = self.silhouette.shape
        rows = slice(self.top, self.top + height)
        columns = slice(self.left, self.left + width)
        return rows, columns


class _Stage:
    """The grid on which things are placed one by one, all staying well visible."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stuff = np.zeros((GRID, GRID), np.uint8)
        for label, outline in world.regions:
            fill(self.stuff, outline, label)
        counts = np.bincount(self.stuff.ravel(), minlength=4)
        self.present = counts > 0
        self.placed: list[_Placed] = []  # from back to front

    def fill(self, rng: np.random.Generator, categories: Ints) -> tuple[Thing, ...]:
        """Place one thing of each category.

        One that finds no room in _TRIES tries is left out.
        """
        for category in categories:
            for _ in range(_TRIES):
                thing = self._propose(rng, int(category))
                if thing is not None and self._insert(thing):
                    break
        return tuple(placed.thing for placed in self.placed)

    def _propose(self, rng: np.random.Generator, category: int) -> Thing | None:
        """Draw a place and a look for a thing; None where it would not stand well."""
        kind = KINDS[THINGS[category]]
        horizon = self.world.horizon
        x, y, grow, turn, choice = rng.random(5).tolist()
        x = 0.05 + 0.9 * x
        grow = 0.9 + 0.22 * grow
        ground = kind.ground[0] if choice < 0.85 else kind.ground[-1]
        if ground == SKY:
            size_there = kind.far + (1 - kind.far) * y
            height = kind.height * size_there * grow
            height = min(height, 0.94 * horizon)
            depth = height - 1.0
            room = horizon - height - 0.015
            foot = (x, height + 0.01 + turn * room)
        else:
            depth = kind.start + (0.98 - kind.start) * y
            foot = (x, horizon + (1 - horizon) * depth)
            size_there = kind.far + (1 - kind.far) * depth
            height = kind.height * size_there * grow
        reach = 0.5 * kind.width / kind.height * height
        is_cut_off = foot[1] - height < -0.05
        if is_cut_off or not self._fits(foot, reach, depth, ground):
            return None
        mirror = 1 if turn < 0.5 else -1
        draw = DRAWERS[THINGS[category]]
        style = rng.random(STYLE)
        parts = draw(style, self.world.lit * mirror)
        return Thing(category, foot, height, reach, mirror, depth, parts)

    def _fits(self, foot: tuple[float, float], reach: float, depth: float, ground: int) -> bool:
        """Return whether a thing is in the picture, on its ground and in no other one."""
        x, y = foot
        if x < 0.5 * reach or x > 1 - 0.5 * reach:
            return False
        row = int(y * GRID)
        for step in (-0.7, 0.0, 0.7):
            position = x + step * reach
            column = int(position * GRID)
            column = min(GRID - 1, max(0, column))
            if self.stuff[row, column] != ground:
                return False
        for placed in self.placed:
            other = placed.thing
            gap = abs(x - other.foot[0])
            touches = gap < 0.8 * (reach + other.reach)
            if abs(depth - other.depth) < 0.1 and touches:
                return False
        return True

    def _insert(self, thing: Thing) -> bool:
        """Place a thing unless it, or anything else, would be too hidden.

        Return whether it was placed.
        """
        scale = (thing.mirror * thing.height, thing.height)
        patch, top, left = rasterize(thing.parts, thing.foot, scale, GRID)
        silhouette = patch[..., 3] > 0
        num_cells = int(silhouette.sum())
        new = _Placed(thing, silhouette, top, left, num_cells)
        placed = [*self.placed, new]
        placed.sort(key=lambda one: one.thing.depth)
        owner = self.stuff.copy()
        for label, one in enumerate(placed, start=len(STUFF)):
            owner[one.window][one.silhouette] = label
        num_labels = len(STUFF) + len(placed)
        count = np.bincount(owner.ravel(), minlength=num_labels)
        stuff_left = count[: len(STUFF)][self.present]
        if (stuff_left < _MIN_STUFF * GRID**2).any():
            return False
        for label, one in enumerate(placed, start=len(STUFF)):
            is_affected = one is new or count[label] < one.num_cells
            if is_affected and not _is_visible(owner, one, label, int(count[label])):
                return False
        self.placed = placed
        return True


def _is_visible(owner: Bytes, one: _Placed, label: int, count: int) -> bool:
    """Return whether `count` cells of a thing are enough to be labelled.

    `owner` is a map [GRID, GRID].
    """
    least_area = _MIN_AREA * GRID**2
    least_seen = _MIN_SEEN * one.num_cells
    if count < max(least_area, least_seen):
        return False
    visible = owner[one.window] == label
    for axis in (0, 1):
        cells = np.flatnonzero(visible.any(axis))
        if np.ptp(cells) + 1 < _MIN_SIDE * GRID:
            return False
    return True

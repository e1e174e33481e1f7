"""Toy worlds to pixels: sky, ground and things with light, haze and shadows.

Cells are half a pixel wide. Legend: S pixels per side, F = 2 S cells per side; colors are 0..255.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthaug.pipeline.core.arrays import Bytes, Flags
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.formats.toy.draw import disc, hsv
from synthaug.pipeline.formats.toy.world import (
    GRASS,
    ROAD,
    STUFF,
    THINGS,
    WATER,
    Thing,
    World,
    fill,
    rasterize,
)

Image = NDArray[np.float32]  # [S, S, 3], or one channel of it
Owners = NDArray[np.uint8]  # [F, F] or [S, S]: kind of stuff 0..3, or 4 + position of the thing

_TILE = 128  # side of the noise
_OCTAVES = ((6, 0.9), (14, 0.7), (32, 0.6), (64, 0.6), (_TILE, 0.5))  # (cells per side, weight)


def paint(world: World, size: int) -> tuple[Bytes, Owners]:
    """Return the image [S, S, 3] and the owner of each pixel [S, S]."""
    import cv2

    fine = size * 2
    owner = np.zeros((fine, fine), np.uint8)
    for label, outline in world.regions:
        fill(owner, outline, label)
    noise = _noise_tile(rng_for(*world.identity, "texture"))
    land = _paint_land(world, owner, noise, size)
    enlarged = cv2.resize(land, (fine, fine), interpolation=cv2.INTER_NEAREST)
    canvas = np.asarray(enlarged, np.float32)
    for position, thing in enumerate(world.things):
        _paint_thing(canvas, owner, world, thing, len(STUFF) + position, noise)
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    rounded = np.clip(np.rint(image), 0, 255)
    pixels = rounded.astype(np.uint8)
    return pixels, _majority(owner, size)


def _coverage(cells: Flags, size: int) -> Bytes:
    """Return how much of each pixel some cells [F, F] cover: [S, S], 0..255."""
    import cv2

    full = cells * np.uint8(255)
    shrunk = cv2.resize(full, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def _majority(owner: Owners, size: int) -> Owners:
    """Return the owner of most of each pixel's cells [S, S]."""
    counts = np.bincount(owner.ravel())
    present = np.flatnonzero(counts)
    labels = present[::-1]  # a tie goes to what is nearest
    coverage = [_coverage(owner == label, size) for label in labels]
    most = np.argmax(coverage, 0)
    return np.asarray(labels[most], np.uint8)


def _noise_tile(rng: np.random.Generator) -> Image:
    """Return fractal noise [_TILE, _TILE] of mean 0 and deviation about 1."""
    import cv2

    tile = np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in _OCTAVES:
        uniform = rng.random((cells, cells), np.float32)
        centered = uniform - np.float32(0.5)
        octave = centered * np.float32(3.5 * weight)
        tile += cv2.resize(octave, tile.shape, interpolation=cv2.INTER_LINEAR)
    return tile


def _sample_noise(tile: Image, u: Image, v: Image) -> Image:
    """Return the noise at places u, v that broadcast to [S, S].

    They count from the tile's middle; it repeats mirrored.
    """
    import cv2

    middle = _TILE / 2
    columns, rows = np.broadcast_arrays(u + middle, v + middle)
    border = cv2.BORDER_REFLECT_101
    sampled = cv2.remap(tile, columns, rows, cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(sampled, np.float32)


def _blend(low: Image, high: ArrayLike, share: NDArray[Any]) -> Image:
    """Mix two colors (or images) by share [H, W] in [0, 1]: [H, W, 3]."""
    difference = np.asarray(high, np.float32) - low
    mixed = low + difference * share[..., None]
    return np.asarray(mixed, np.float32)


def _paint_land(world: World, owner: Owners, noise: Image, size: int) -> Image:
    """Return sky, grass, water and road with shadows [S, S, 3].

    Only borders need cells finer than a pixel, so colors are made per pixel and mixed by how much
    each stuff covers.
    """
    centers = (np.arange(size) + 0.5) / size
    x = centers.astype(np.float32)[None, :]
    y = centers.astype(np.float32)[:, None]
    below = (y - world.horizon) / (1 - world.horizon)
    depth = np.clip(below, 0, 1)  # [S, 1], 1 is nearest
    above = np.maximum(world.horizon - y, 0)
    far = 1 / (depth + 0.14) + 3 * above  # texture shrinks with it
    light = np.array(world.hour.light, np.float32)
    tint = rng_for(*world.identity, "tint").random(4)

    def add_haze(color: Image) -> Image:
        share = 0.42 * (1 - depth) ** 3
        return _blend(color, world.hour.low, share)

    def cover(canvas: Image, color: Image, cells: Flags) -> Image:
        share = _coverage(cells, size) * np.float32(1 / 255)
        return _blend(canvas, color, share)

    canvas = _paint_sky(world, x, y, noise)

    aside = x - 0.5
    ground_noise = _sample_noise(noise, 64 * aside * np.minimum(far, 5), 46 * far)
    hue = 0.19 + 0.09 * tint[0]
    saturation = 0.5 + 0.2 * tint[1]
    green = hsv(hue, saturation, 0.52 + 0.16 * tint[2])
    grass = np.array(green, np.float32) * light
    contrast = 0.4 + 0.6 * depth
    texture = 1 + 0.13 * ground_noise * contrast
    meadow = add_haze(grass * texture[..., None])
    canvas = cover(canvas, meadow, owner == GRASS)

    if (owner == WATER).any():
        ripples = _sample_noise(noise, 20 * aside * far, 150 * far)
        mirrored_sky = np.array(world.hour.low, np.float32) * 0.86
        deep = np.array((38, 92, 138), np.float32) * light
        depth_share = np.clip(0.35 + 0.6 * depth + 0.09 * ripples, 0, 1)
        water = _blend(mirrored_sky, deep, depth_share)
        canvas = cover(canvas, water, owner == WATER)

    if (owner == ROAD).any():
        tar = np.float32(118 + 20 * tint[3]) * light
        texture = 1 + 0.07 * ground_noise
        road = add_haze(tar * texture[..., None])
        canvas = cover(canvas, road, owner == ROAD)
        dashes = np.zeros_like(owner)
        for outline in world.marks:
            fill(dashes, outline, 1)
        white = np.array((236, 232, 214), np.float32) * light
        canvas = cover(canvas, white, dashes > 0)

    brightness = 1 - 0.5 * _shadows(world, size)
    return canvas * brightness[..., None]


def _paint_sky(world: World, x: Image, y: Image, noise: Image) -> Image:
    """Return the sky [S, S, 3] with clouds and a glow around the sun."""
    hour = world.hour
    low = np.array(hour.low, np.float32)
    no_color = np.zeros((1, 1, 3), np.float32)
    zenith = np.array(hour.zenith, np.float32) + no_color
    descent = np.clip(y / (world.horizon + 0.02), 0, 1)  # 1 at the horizon
    sky = _blend(zenith, hour.low, descent**1.3)
    clouds = _sample_noise(noise, 58 * (x - 0.5), 150 * (y - 0.2))
    cloud_color = 0.35 * low + 0.65 * 255
    cloudiness = np.clip(0.34 * clouds - 0.06, 0, 0.75)
    sky = _blend(sky, cloud_color, cloudiness)
    aside = ((x - world.sun) / 0.3) ** 2
    above = ((y - 0.8 * world.horizon) / 0.16) ** 2
    glow = np.exp(-aside - above)
    return _blend(sky, (255.0, 236.0, 190.0), hour.glow * glow)


def _shadows(world: World, size: int) -> Image:
    """Return how dark the ground is for want of sun [S, S], in [0, 1]."""
    import cv2

    dark = np.zeros((2 * size, 2 * size), np.uint8)
    for thing in world.things:
        if thing.depth > 0:
            foot_x, foot_y = thing.foot
            x = foot_x - 0.35 * world.lit * thing.reach
            ellipse = disc(x, foot_y, 1.15 * thing.reach, 0.05 * thing.height)
            fill(dark, ellipse, 255)
    width = size // 12 | 1
    kernel = (width, width)
    once = cv2.blur(dark, kernel)
    soft = cv2.blur(once, kernel)
    shrunk = cv2.resize(soft, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk / 255, np.float32)


def _paint_thing(
    canvas: Image, owner: Owners, world: World, thing: Thing, label: int, noise: Image
) -> None:
    """Paint one thing over what is behind it, in place."""
    import cv2

    if THINGS[thing.category] == "boat":
        _reflect(canvas, owner, thing)
    scale = (thing.mirror * thing.height, thing.height)
    patch, top, left = rasterize(thing.parts, thing.foot, scale, len(canvas))
    height, width = patch.shape[:2]

    start = int(thing.foot[0] * 80)
    sample = noise[start : start + 40, :40]
    grain = cv2.resize(sample, (width, height), interpolation=cv2.INTER_LINEAR)
    across = np.linspace(-1, 1, width, dtype=np.float32)
    across = across[None, :] * world.lit
    down = np.linspace(1, -1, height, dtype=np.float32)
    down = down[:, None]
    shading = 1 + 0.10 * across + 0.08 * down + 0.055 * grain

    nearness = max(thing.depth, 0.45)
    haze = np.float32(0.26 * (1 - nearness) ** 1.5)
    color = patch[..., :3] * shading[..., None]
    light = np.array(world.hour.light, np.float32)
    color *= light * (1 - haze)
    color += np.array(world.hour.low, np.float32) * haze

    window = slice(top, top + height), slice(left, left + width)
    alpha = patch[..., 3:]
    np.copyto(canvas[window], color, where=alpha > 0)
    owner[window][alpha[..., 0] > 0] = label


def _reflect(canvas: Image, owner: Owners, thing: Thing) -> None:
    """Mirror a boat in the water below it."""
    scale = (thing.mirror * thing.height, -0.6 * thing.height)
    patch, top, left = rasterize(thing.parts, thing.foot, scale, len(canvas))
    height, width = patch.shape[:2]
    window = slice(top, top + height), slice(left, left + width)
    on_water = owner[window] == WATER
    wet = (patch[..., 3] > 0) & on_water
    difference = patch[..., :3] - canvas[window]
    canvas[window] += difference * np.float32(0.35) * wet[..., None]

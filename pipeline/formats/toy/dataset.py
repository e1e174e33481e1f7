"""The built-in data set: small procedural landscapes with a long tail of things, made on demand.

Reference: `toy:train?size=64&count=2000&seed=0`. A scene depends on (seed, split, index) alone; `size` changes its
resolution and nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
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
    rasterise,
    sample_world,
)

Image = NDArray[np.float32]

SPLITS = {"train": 1600, "unlabelled": 1600, "val": 300, "test": 300}  # default number of scenes
CONTENT_VERSION = "1"  # raise when the same index would show something else
_FIRST_STUFF = len(THINGS)
_TILE = 128
_IDS_PER_SCENE = 16  # at most 7 things and 4 kinds of stuff
_MAX_COUNT = 1_000_000  # so that ids fit the 24 bits of a panoptic PNG
_KINDS_OF = {
    "tree": "plant",
    "person": "person",
    "cow": "animal",
    "house": "building",
    "windmill": "building",
}


@dataclass(frozen=True)
class Config:
    """Options of a toy reference; `path` is the split, `count` 0 means the split's default, `size` is in pixels."""

    path: str = "train"
    count: int = 0
    size: int = 64
    seed: int = 0
    labels: bool = True  # False: the same pictures without objects and panoptic, as unlabelled data
    min_objects: int = 1  # things, not stuff
    max_objects: int = 7

    def __post_init__(self) -> None:
        if self.path not in SPLITS:
            raise ValueError(
                f"toy split '{self.path}' does not exist; use one of {', '.join(SPLITS)}"
            )
        if not 0 <= self.count <= _MAX_COUNT:
            raise ValueError(
                f"toy count is {self.count}; use 1 to {_MAX_COUNT}, or 0 for the split's default"
            )
        if not 48 <= self.size <= 512:
            raise ValueError(f"toy size is {self.size}; use 48 to 512 pixels")
        if not 1 <= self.min_objects <= self.max_objects <= 7:
            raise ValueError(
                f"toy min_objects={self.min_objects}, max_objects={self.max_objects}; "
                "use 1 <= min_objects <= max_objects <= 7"
            )


CATEGORIES = tuple(
    Category(
        k + 1, name, "" if k >= _FIRST_STUFF else _KINDS_OF.get(name, "vehicle"), k < _FIRST_STUFF
    )
    for k, name in enumerate((*THINGS, *STUFF))
)


class ToyDataset(Dataset):
    """A Dataset of toy scenes; nothing is stored, every access paints."""

    categories = CATEGORIES

    def __init__(self, config: Config) -> None:
        self.config = config
        self.skipped: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.config.count or SPLITS[self.config.path]

    def world(self, index: int) -> World:
        """What scene `index` shows, without painting it; quick."""
        if not 0 <= index < len(self):
            raise IndexError(f"toy:{self.config.path} has scenes 0..{len(self) - 1}, not {index}")
        config = self.config
        return sample_world(
            ("toy", config.seed, config.path, index), config.min_objects, config.max_objects
        )

    def __getitem__(self, index: int) -> Scene:
        world, size = self.world(index), self.config.size
        name = f"toy-{self.config.path}-{index:08d}"
        image, owner = paint(world, size)
        picture = ImageRef(_encode_png(image), f"{name}.png")
        if not self.config.labels:
            return Scene(name, size, size, picture, Objects.build([], []))
        objects, ids = _annotate(world, owner, index)
        panoptic = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], 2).astype(np.uint8)
        return Scene(
            name,
            size,
            size,
            picture,
            objects,
            ImageRef(_encode_png(panoptic), f"{name}_panoptic.png"),
        )

    def fingerprint(self) -> str:
        """Digest of the options and of the content's version."""
        config = self.config
        parts = (CONTENT_VERSION, config.path, len(self), config.size, config.seed, config.labels)
        return hashlib.sha256(
            repr((*parts, config.min_objects, config.max_objects)).encode()
        ).hexdigest()


def read(config: Config, root: Path) -> ToyDataset:  # noqa: ARG001 - every format takes the data root; this one needs none
    """Open the set; nothing is read from `root`."""
    return ToyDataset(config)


def _encode_png(rgb: NDArray[np.uint8]) -> bytes:
    import cv2

    done, buffer = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    assert done
    return bytes(buffer)


def _annotate(
    world: World, owner: NDArray[np.uint8], index: int
) -> tuple[Objects, NDArray[np.int32]]:
    """Objects of an owner map [H, W] (stuff label, or 4 + position of the thing), and the map of their ids [H, W]."""
    from pycocotools import mask as coco_mask

    count = np.bincount(owner.ravel(), minlength=len(STUFF) + len(world.things))
    labels = [*range(len(STUFF), len(count)), *(k for k in range(len(STUFF)) if count[k])]
    assert all(count[labels] > 0)
    category = [
        world.things[k - len(STUFF)].category if k >= len(STUFF) else _FIRST_STUFF + k
        for k in labels
    ]
    identity = index * _IDS_PER_SCENE + 1 + np.arange(len(labels))
    masks = np.asfortranarray(owner[..., None] == np.array(labels, np.uint8), np.uint8)  # [H, W, N]
    codes = coco_mask.encode(masks)
    boxes = coco_mask.toBbox(codes)  # [N, 4] xywh
    boxes[:, 2:] += boxes[:, :2]
    objects = Objects.build(
        category,
        boxes,
        id=identity,
        rle=(code["counts"].decode() for code in codes),
        area=count[labels],
        isthing=np.array(category) < _FIRST_STUFF,
    )
    table = np.zeros(len(count), np.int32)
    table[labels] = identity
    return objects, table[owner]


def paint(world: World, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the image [size, size, 3] and, per pixel, who owns it: stuff label, or 4 + position of the thing."""
    import cv2

    fine = size * 2
    owner = np.zeros((fine, fine), np.uint8)
    for label, line in world.regions:
        fill(owner, line, label)
    tile = _noise_tile(rng_for(*world.identity, "texture"))
    land = _paint_land(world, owner, tile, size)
    canvas = np.asarray(cv2.resize(land, (fine, fine), interpolation=cv2.INTER_NEAREST), np.float32)
    for k, thing in enumerate(world.things):
        _paint_thing(canvas, owner, world, thing, len(STUFF) + k, tile)
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), _majority(owner, size)


def _cover(where: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """How much of each pixel of a coarser grid is covered: [size, size], 0..255."""
    import cv2

    return np.asarray(
        cv2.resize(where * np.uint8(255), (size, size), interpolation=cv2.INTER_AREA), np.uint8
    )


def _majority(owner: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Who owns most of each pixel's cells: [size, size]."""
    labels = np.flatnonzero(np.bincount(owner.ravel()))[::-1]  # a tie goes to what is nearest
    most = np.argmax([_cover(owner == k, size) for k in labels], 0)
    return np.asarray(labels[most], np.uint8)


def _noise_tile(rng: np.random.Generator) -> Image:
    """Fractal noise [_TILE, _TILE] of mean 0 and deviation about 1."""
    import cv2

    tile = np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in ((6, 0.9), (14, 0.7), (32, 0.6), (64, 0.6), (_TILE, 0.5)):
        coarse = (rng.random((cells, cells), np.float32) - np.float32(0.5)) * np.float32(
            3.5 * weight
        )
        tile += cv2.resize(coarse, (_TILE, _TILE), interpolation=cv2.INTER_LINEAR)
    return tile


def _look_up(tile: Image, u: Image, v: Image) -> Image:
    import cv2

    u, v = np.broadcast_arrays(u + _TILE / 2, v + _TILE / 2)
    return np.asarray(
        cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )


def _blend(low: Image, high: ArrayLike, share: NDArray[Any]) -> Image:
    """Mix two colours (or images) by share [H, W] in [0, 1]: [H, W, 3]."""
    mixed = low + (np.asarray(high, np.float32) - low) * share[..., None]
    return np.asarray(mixed, np.float32)


def _paint_land(world: World, owner: NDArray[np.uint8], tile: Image, size: int) -> Image:
    """Sky, grass, water and road with the shadows of what stands on them: [size, size, 3], 0..255.

    Only borders need cells finer than a pixel, so colours are made per pixel and mixed by how much each stuff covers.
    """
    cells = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = cells[None, :], cells[:, None]
    low, light = np.array(world.hour.low, np.float32), np.array(world.hour.light, np.float32)
    depth = np.clip((y - world.horizon) / (1 - world.horizon), 0, 1)  # [size, 1]
    far = 1 / (depth + 0.14) + 3 * np.maximum(world.horizon - y, 0)
    noise = _look_up(tile, 64 * (x - 0.5) * np.minimum(far, 5), 46 * far)
    tint = rng_for(*world.identity, "tint").random(4)
    canvas = _paint_sky(world, x, y, tile)

    def spread(colour: Image, where: NDArray[np.bool_]) -> None:
        nonlocal canvas
        canvas = _blend(canvas, colour, _cover(where, size) * np.float32(1 / 255))

    def hazy(colour: Image) -> Image:
        return _blend(colour, world.hour.low, 0.42 * (1 - depth) ** 3)

    grass = (
        np.array(hsv(0.19 + 0.09 * tint[0], 0.5 + 0.2 * tint[1], 0.52 + 0.16 * tint[2]), np.float32)
        * light
    )
    spread(hazy(grass * (1 + 0.13 * noise * (0.4 + 0.6 * depth))[..., None]), owner == GRASS)
    if (owner == WATER).any():
        ripple = _look_up(tile, 20 * (x - 0.5) * far, 150 * far)
        deep = np.array((38, 92, 138), np.float32) * light
        spread(
            _blend(low * 0.86, deep, np.clip(0.35 + 0.6 * depth + 0.09 * ripple, 0, 1)),
            owner == WATER,
        )
    if (owner == ROAD).any():
        tar = np.float32(118 + 20 * tint[3]) * light
        spread(hazy(tar * (1 + 0.07 * noise)[..., None]), owner == ROAD)
        dashes = np.zeros_like(owner)
        for line in world.marks:
            fill(dashes, line, 1)
        spread(np.array((236, 232, 214), np.float32) * light, dashes > 0)
    return canvas * (1 - 0.5 * _shadows(world, size))[..., None]


def _paint_sky(world: World, x: Image, y: Image, tile: Image) -> Image:
    hour = world.hour
    climb = np.clip(y / (world.horizon + 0.02), 0, 1)
    sky = _blend(
        np.array(hour.zenith, np.float32) + np.zeros((1, 1, 3), np.float32), hour.low, climb**1.3
    )
    clouds = _look_up(tile, 58 * (x - 0.5), 150 * (y - 0.2))
    sky = _blend(
        sky,
        0.35 * np.array(hour.low, np.float32) + 0.65 * 255,
        np.clip(0.34 * clouds - 0.06, 0, 0.75),
    )
    glow = np.exp(-(((x - world.sun) / 0.3) ** 2) - ((y - 0.8 * world.horizon) / 0.16) ** 2)
    return _blend(sky, (255.0, 236.0, 190.0), hour.glow * glow)


def _shadows(world: World, size: int) -> Image:
    """How dark the ground is for want of sun: [size, size] in [0, 1]."""
    import cv2

    dark = np.zeros((2 * size, 2 * size), np.uint8)
    for thing in world.things:
        if thing.depth > 0:
            x = thing.foot[0] - 0.35 * world.lit * thing.reach
            fill(dark, disc(x, thing.foot[1], 1.15 * thing.reach, 0.05 * thing.height), 255)
    width = size // 12 | 1
    soft = cv2.blur(cv2.blur(dark, (width, width)), (width, width))
    return np.asarray(
        cv2.resize(soft, (size, size), interpolation=cv2.INTER_AREA) / 255, np.float32
    )


def _paint_thing(
    canvas: Image, owner: NDArray[np.uint8], world: World, thing: Thing, label: int, tile: Image
) -> None:
    """Paint one thing over what is behind it, in place."""
    import cv2

    if THINGS[thing.category] == "boat":
        _reflect(canvas, owner, thing)
    patch, top, left = rasterise(
        thing.parts, thing.foot, (thing.mirror * thing.height, thing.height), len(canvas)
    )
    height, width = patch.shape[:2]
    start = int(thing.foot[0] * 80)
    grain = cv2.resize(
        tile[start : start + 40, :40], (width, height), interpolation=cv2.INTER_LINEAR
    )
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * world.lit
    down = np.linspace(1, -1, height, dtype=np.float32)[:, None]
    haze = np.float32(0.26 * (1 - max(thing.depth, 0.45)) ** 1.5)
    colour = patch[..., :3] * (1 + 0.10 * across + 0.08 * down + 0.055 * grain)[..., None]
    colour *= np.array(world.hour.light, np.float32) * (1 - haze)
    colour += np.array(world.hour.low, np.float32) * haze
    place = slice(top, top + height), slice(left, left + width)
    np.copyto(canvas[place], colour, where=patch[..., 3:] > 0)
    owner[place][patch[..., 3] > 0] = label


def _reflect(canvas: Image, owner: NDArray[np.uint8], thing: Thing) -> None:
    """Mirror a boat in the water below it."""
    scale = thing.mirror * thing.height, -0.6 * thing.height
    patch, top, left = rasterise(thing.parts, thing.foot, scale, len(canvas))
    place = slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1])
    wet = (patch[..., 3] > 0) & (owner[place] == WATER)
    canvas[place] += (patch[..., :3] - canvas[place]) * np.float32(0.35) * wet[..., None]

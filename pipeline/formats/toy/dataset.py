"""The built-in data set: procedural landscapes with a long tail of things.

Reference: `toy:train?size=64&count=2000&seed=0`. A scene depends on (seed, split, index) alone;
`size` changes its resolution and nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.masks import encode_with_boxes, panoptic_png
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.formats.toy.paint import paint
from synthaug.pipeline.formats.toy.world import STUFF, THINGS, World, sample_world

SPLITS = {"train": 1600, "unlabelled": 1600, "val": 300, "test": 300}  # default number of scenes
CONTENT_VERSION = "1"  # raise when the same index would show something else
_FIRST_STUFF = len(THINGS)
_IDS_PER_SCENE = 16  # at most 7 things and 4 kinds of stuff
_MAX_COUNT = 1_000_000  # so that ids fit the 24 bits of a panoptic PNG
_SUPERCATEGORIES = {
    "tree": "plant",
    "person": "person",
    "cow": "animal",
    "house": "building",
    "windmill": "building",
}  # of all other things "vehicle"


@dataclass(frozen=True)
class Config:
    """Options of a toy reference.

    `path` is the split, `count` 0 means the split's default, `size` is in pixels.
    """

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


def _categories() -> tuple[Category, ...]:
    """Return the things, then the stuff; ids count from 1."""
    categories: list[Category] = []
    for name in THINGS:
        supercategory = _SUPERCATEGORIES.get(name, "vehicle")
        categories.append(Category(len(categories) + 1, name, supercategory))
    for name in STUFF:
        categories.append(Category(len(categories) + 1, name, isthing=False))
    return tuple(categories)


CATEGORIES = _categories()


class ToyDataset(Dataset):
    """A table of toy scenes; nothing is stored, every access paints."""

    categories = CATEGORIES

    def __init__(self, config: Config) -> None:
        self.config = config
        self.skipped = Counter()

    def __len__(self) -> int:
        return self.config.count or SPLITS[self.config.path]

    def world(self, index: int) -> World:
        """Return scene `index` without painting it; quick."""
        if not 0 <= index < len(self):
            raise IndexError(f"toy:{self.config.path} has scenes 0..{len(self) - 1}, not {index}")
        config = self.config
        identity = ("toy", config.seed, config.path, index)
        return sample_world(identity, config.min_objects, config.max_objects)

    def __getitem__(self, index: int) -> Scene:
        world = self.world(index)
        size = self.config.size
        name = f"toy-{self.config.path}-{index:08d}"
        pixels, owner = paint(world, size)
        image = ImageRef(encode(pixels, "png"), f"{name}.png")
        if not self.config.labels:
            return Scene(name, size, size, image, Objects.build([], []))
        objects, ids = _annotate(world, owner, index)
        panoptic = ImageRef(panoptic_png(ids), f"{name}_panoptic.png")
        return Scene(name, size, size, image, objects, panoptic)

    def fingerprint(self) -> str:
        """Return the digest of the options and of the content's version."""
        config = self.config
        parts = (
            CONTENT_VERSION,
            config.path,
            len(self),
            config.size,
            config.seed,
            config.labels,
            config.min_objects,
            config.max_objects,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def read(config: Config, root: Path) -> ToyDataset:  # noqa: ARG001 - every format takes the data root; this one needs none
    """Open the set; nothing is read from `root`."""
    return ToyDataset(config)


def _annotate(world: World, owner: Bytes, index: int) -> tuple[Objects, NDArray[np.int32]]:
    """Return the objects of an owner map [H, W] and the map of their ids [H, W].

    The owner of a pixel is a kind of stuff (0..3), or 4 + the position of a thing. Objects are the
    things, then the stuff.
    """
    count = np.bincount(owner.ravel(), minlength=len(STUFF) + len(world.things))
    owners = []
    category = []
    for position, thing in enumerate(world.things):
        owners.append(len(STUFF) + position)
        category.append(thing.category)
    for stuff in range(len(STUFF)):
        if count[stuff]:
            owners.append(stuff)
            category.append(_FIRST_STUFF + stuff)
    assert all(count[owners] > 0)
    masks = owner == np.array(owners, np.uint8)[:, None, None]  # [N, H, W]
    rle, boxes = encode_with_boxes(masks)
    ids = index * _IDS_PER_SCENE + 1 + np.arange(len(owners))
    isthing = np.array(category) < _FIRST_STUFF
    area = count[owners]
    objects = Objects.build(category, boxes, id=ids, rle=rle, area=area, isthing=isthing)
    id_of_owner = np.zeros(len(count), np.int32)
    id_of_owner[owners] = ids
    return objects, id_of_owner[owner]

"""COCO-Stuff as SPADE uses it: pixel maps of classes, with the instances file to tell things apart, as panoptic scenes.

Reference: `coco_stuff_maps:annotations/instances_val2017.json?maps=stuffthingmaps/val2017&images=val2017`. A map is a grey
PNG whose pixels are category id - 1 (0 to 181), or 255 where nothing is labelled. The masks of the instances are laid over
it in file order, later ones in front, each taking only pixels of its own class; what no instance takes of a thing's pixels
is one crowd per class, and an instance without a pixel is no object. So a pixel's identity is the pair (class, instance),
and the class is always the map's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Scene
from synthaug.pipeline.core.storage import inside
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.coco.stuff_names import NAMES, NUM_THINGS
from synthaug.pipeline.formats.json_files import Checker, load_object, section
from synthaug.pipeline.formats.validation import RecordError

UNLABELLED = 255
_PER_CLASS = (
    1 << 16
)  # segment id = category id x _PER_CLASS + instance from 1, or 0 for stuff and crowds


@dataclass(frozen=True)
class Config:
    """Options of a reference; `path` is the instances file, `maps` the folder of the pixel maps."""

    path: str
    maps: str = ""
    images: str = ""  # as in coco
    on_bad: str = "stop"  # as in coco
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        self.instances()
        if not self.maps:
            raise ValueError(
                "option maps is missing; name the folder of the pixel maps with maps=FOLDER"
            )

    def instances(self) -> coco.Config:
        """Return the options under which the instances file is read."""
        return coco.Config(self.path, self.images, self.on_bad, self.max_pixels)


@dataclass(frozen=True)
class Row:
    """An image, its map and its instances, later ones in front."""

    image: coco.Image
    map: Path
    bytes: int  # of the map
    instances: tuple[coco.Label, ...]


class StuffMapsDataset(Dataset):
    """Panoptic scenes, each composed when it is asked for."""

    def __init__(
        self, digest: str, categories: tuple[Category, ...], rows: list[Row], skipped: Counter[str]
    ) -> None:
        self.categories, self.skipped = categories, skipped
        self._digest, self._rows = digest, rows
        self._isthing = np.array([category.isthing for category in categories])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Scene:
        """Return a scene; DatasetError when its map is broken or has a value that is no class."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = self._rows[index]
        size = (row.image.height, row.image.width)
        labels = panoptic.pixels_of(ImageRef(None, str(row.map)), size, row.image.image_id)
        if labels.ndim != 2:
            raise DatasetError(
                f"{row.map}: a class map is a grey PNG, this one has colours; replace the file"
            )
        if (wrong := labels[(labels >= len(NAMES)) & (labels != UNLABELLED)]).size:
            raise DatasetError(
                f"{row.map}: pixels of value {int(wrong[0])}, which is no class; correct the map"
            )
        ids = compose(labels, row.instances, size)
        found = panoptic.segments_of(ids)
        category = found.ids // _PER_CLASS - 1
        things = self._isthing[category]
        crowd = things & (found.ids % _PER_CLASS == 0)
        objects = panoptic.objects_of(found, index, category, isthing=things, iscrowd=crowd)
        png = ImageRef(masks.panoptic_png(ids), f"{row.image.image_id}_panoptic.png")
        return Scene(row.image.image_id, *size, ImageRef(None, str(row.image.path)), objects, png)

    def fingerprint(self) -> str:
        """Digest of the JSON bytes and of the names and sizes of all image and map files."""
        files = [(row.image.name, row.image.size, row.map.name, row.bytes) for row in self._rows]
        return hashlib.sha256(f"{self._digest} {json.dumps(files)}".encode()).hexdigest()


def compose(
    labels: NDArray[np.int64], instances: tuple[coco.Label, ...], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the segment ids [H, W] of a class map [H, W] and the instances over it."""
    ids = np.where(labels == UNLABELLED, 0, (labels + 1) * _PER_CLASS)
    for number, label in enumerate(instances, start=1):
        mask = label.segmentation
        if mask is not None:
            code = masks.from_polygons(mask, size) if isinstance(mask, list) else mask
            ids[masks.decode(code, size) & (labels == label.category)] = (
                label.category + 1
            ) * _PER_CLASS + number
    return ids


def read(config: Config, root: Path = Path()) -> StuffMapsDataset:
    """Open the instances file and find the maps; bad records stop the reading or are counted in `skipped`."""
    file = root / config.path
    document, digest = load_object(file)
    skipped: Counter[str] = Counter()
    check = Checker(file, config.on_bad, skipped)
    categories = _categories(document, check)
    images = coco.read_images(document, config.instances(), root, check)
    labels = coco.Labels(images, categories, skipped)
    of: dict[str, list[coco.Label]] = {key: [] for key in images.images}

    def add(record: Any) -> None:
        place = labels.place(record)
        if place is None:
            return
        if record.get("iscrowd"):
            skipped["crowd (a crowd of the map in its place)"] += 1
            return
        label = labels.read(record, place)
        if label.segmentation is None:
            raise RecordError(
                "instance without a mask", "it has no segmentation to tell its pixels by"
            )
        of[place.key].append(label)

    check.each(section(document, "annotations", file), "annotation", add)
    folder = (root / config.maps).resolve()
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; name the one of the pixel maps with maps=FOLDER"
        )
    rows: list[Row] = []

    def find(record: dict[str, Any]) -> None:
        image = images.images[record["id"]]
        try:
            path, size = inside(folder, str(Path(image.name).with_suffix(".png")))
        except (PermissionError, FileNotFoundError) as err:
            raise RecordError("missing map", f"its map {err}") from err
        rows.append(Row(image, path, size, tuple(of[record["id"]])))

    check.each([{"id": key} for key in images.images], "image", find)
    return StuffMapsDataset(digest, categories, rows, +skipped)


def _categories(document: dict[str, Any], check: Checker) -> tuple[Category, ...]:
    """Return all 182 classes in the order of the pixel values; the file gives the things' names."""
    found: dict[int, Category] = {}

    def add(record: Any) -> None:
        coco.add_category(record, found)
        if not 1 <= record["id"] <= NUM_THINGS:
            found.pop(record["id"])
            raise RecordError("bad category", f"COCO's things have the ids 1 to {NUM_THINGS}")

    check.each(section(document, "categories", check.file), "category", add)
    every = [Category(k, name, "", k <= NUM_THINGS) for k, name in enumerate(NAMES, start=1)]
    return tuple(replace(found[c.id], isthing=True) if c.id in found else c for c in every)

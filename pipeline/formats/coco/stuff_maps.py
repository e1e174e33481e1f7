"""COCO-Stuff as SPADE uses it: pixel maps of classes, read as panoptic scenes.

The instances file tells things apart.

Reference:
`coco_stuff_maps:annotations/instances_val2017.json?maps=stuffthingmaps/val2017&images=val2017`. A
map is a grey PNG whose pixels are category id - 1 (0 to 181), or 255 where nothing is labelled. The
masks of the instances are laid over it in file order, later ones in front, each taking only pixels
of its own class; what no instance takes of a thing's pixels is one crowd per class, and an instance
without a pixel is no object. So a pixel's identity is the pair (class, instance), and the class is
always the map's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, ImageRef, Scene, thing_flags
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import CheckedDataset, Checker
from synthaug.pipeline.formats.coco import records as coco
from synthaug.pipeline.formats.coco.labels import Label, LabelReader, encode_segmentation
from synthaug.pipeline.formats.coco.stuff_names import NAMES, NUM_THINGS
from synthaug.pipeline.formats.json_files import open_object, section
from synthaug.pipeline.formats.source_files import find_file
from synthaug.pipeline.formats.validation import RecordError

UNLABELLED = 255
# segment id = category id x _PER_CLASS + instance from 1, or 0 for stuff and crowds
_PER_CLASS = 1 << 16


@dataclass(frozen=True)
class Config(coco.Config):
    """Options of a reference, those of coco among them; `path` is the instances file."""

    maps: str = ""  # folder of the pixel maps

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.maps:
            raise ValueError(
                "option maps is missing; name the folder of the pixel maps with maps=FOLDER"
            )


@dataclass(frozen=True)
class Row:
    """An image, its map and its instances, later ones in front."""

    image: coco.Image
    map: Path
    map_bytes: int
    instances: tuple[Label, ...]


class StuffMapsDataset(CheckedDataset[Row]):
    """Panoptic scenes, each composed when it is asked for."""

    def __init__(
        self, digest: str, categories: tuple[Category, ...], rows: list[Row], skipped: Skipped
    ) -> None:
        """`digest` is that of the instances file."""
        super().__init__(categories, rows, skipped)
        self._digest = digest
        self._isthing = thing_flags(categories)

    def scene(self, index: int, row: Row) -> Scene:
        """Return a scene; DatasetError when its map is broken or has a wrong value."""
        image = row.image
        ids = compose(_class_map(row), row.instances, image.size)
        segments = panoptic.segments_of(ids)
        category = segments.ids // _PER_CLASS - 1
        isthing = self._isthing[category]
        iscrowd = isthing & (segments.ids % _PER_CLASS == 0)
        objects = panoptic.objects_of(segments, index, category, isthing=isthing, iscrowd=iscrowd)
        return Scene(
            image.image_id,
            image.height,
            image.width,
            ImageRef(None, str(image.path)),
            objects,
            ImageRef(masks.panoptic_png(ids), f"{image.image_id}_panoptic.png"),
        )

    def content(self) -> str:
        """Return the digest of the JSON and the names and sizes of all files."""
        files = []
        for row in self.rows:
            files.append((row.image.name, row.image.num_bytes, row.map.name, row.map_bytes))
        return f"{self._digest} {json.dumps(files)}"


def _class_map(row: Row) -> Ints:
    """Decode the class map [H, W] of a row and check its values."""
    class_map = ImageRef(None, str(row.map))
    labels = panoptic.pixels_of(class_map, row.image.size, row.image.image_id)
    if labels.ndim != 2:
        raise DatasetError(
            f"{row.map}: a class map is a grey PNG, this one has colours; replace the file"
        )
    wrong = labels[(labels >= len(NAMES)) & (labels != UNLABELLED)]
    if len(wrong):
        raise DatasetError(
            f"{row.map}: pixels of value {int(wrong[0])}, which is no class; correct the map"
        )
    return labels


def compose(labels: Ints, instances: tuple[Label, ...], size: Size) -> Ints:
    """Return the segment ids [H, W] of a class map [H, W] and the instances over it."""
    ids = np.where(labels == UNLABELLED, 0, (labels + 1) * _PER_CLASS)
    for number, label in enumerate(instances, start=1):
        counts = encode_segmentation(label.segmentation, size)
        if counts is None:
            continue
        of_class = labels == label.category
        ids[masks.decode(counts, size) & of_class] = (label.category + 1) * _PER_CLASS + number
    return ids


def read(config: Config, root: Path = Path()) -> StuffMapsDataset:
    """Open the instances file and the maps; bad records stop it or are counted."""
    file = root / config.path
    document, digest = open_object(file)
    check = Checker(file, config.on_bad)
    categories = _categories(document, check)
    images = coco.read_images(document, config, root, check)
    instances = _read_instances(document, images, categories, check)
    folder = (root / config.maps).resolve()
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; name the one of the pixel maps with maps=FOLDER"
        )
    rows: list[Row] = []

    def add_map(record: dict[str, str]) -> None:
        key = record["id"]
        image = images.images[key]
        name = str(Path(image.name).with_suffix(".png"))
        path, num_bytes = find_file(folder, name, "map", follow=config.follows_links)
        rows.append(Row(image, path, num_bytes, tuple(instances[key])))

    check.each([{"id": key} for key in images.images], "image", add_map)
    return StuffMapsDataset(digest, categories, rows, check.skipped)


def _categories(document: Json, check: Checker) -> tuple[Category, ...]:
    """Return all 182 classes by pixel value; the file gives the things' names."""
    things: dict[int, Category] = {}

    def add(record: Any) -> None:
        coco.add_category(record, things)
        if not 1 <= record["id"] <= NUM_THINGS:
            things.pop(record["id"])
            raise RecordError("bad category", f"COCO's things have the ids 1 to {NUM_THINGS}")

    check.each(section(document, "categories", check.file), "category", add)
    categories = []
    for key, name in enumerate(NAMES, start=1):
        category = Category(key, name, "", key <= NUM_THINGS)
        if key in things:
            category = replace(things[key], isthing=True)
        categories.append(category)
    return tuple(categories)


def _read_instances(
    document: Json,
    images: coco.ImageReader,
    categories: tuple[Category, ...],
    check: Checker,
) -> dict[str, list[Label]]:
    """Check the annotations and return those of things by the key of their image."""
    reader = LabelReader(images, categories, check)
    instances: dict[str, list[Label]] = {key: [] for key in images.images}

    def add(record: Any) -> None:
        target = reader.target(record)
        if target is None:
            return
        if record.get("iscrowd"):
            check.skipped["crowd (a crowd of the map in its place)"] += 1
            return
        label = reader.read(record, target)
        if label.segmentation is None:
            raise RecordError(
                "instance without a mask", "it has no segmentation to tell its pixels by"
            )
        instances[target.key].append(label)

    check.each(section(document, "annotations", check.file), "annotation", add)
    return instances

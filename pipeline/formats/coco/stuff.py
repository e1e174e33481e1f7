"""COCO-Stuff as layout-to-image papers use it, with the filters of LostGAN.

An instances and a stuff file are read as one.

Reference: `coco_stuff:annotations/instances_val2017.json?images=val2017`. An object stays when its
box takes more than `min_area` of the image, it is no crowd and its class is not "other"; an image
stays when the stuff file has anything for it and `min_objects` to `max_objects` of its objects
stay. Crowds of an image that stays are kept as ignore regions, however small, and count as none of
its objects. Everything left out is counted. Records are checked as in `coco`, those of objects
under `min_area` only as far as that takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.coco import records as coco
from synthaug.pipeline.formats.coco.label_table import LabelTable
from synthaug.pipeline.formats.coco.labels import LabelReader, Target
from synthaug.pipeline.formats.coco.read import CocoDataset
from synthaug.pipeline.formats.json_files import open_object, section
from synthaug.pipeline.formats.validation import RecordError, flag, need, number

_OTHER = "other"  # the stuff class of every pixel that belongs to no class


@dataclass(frozen=True)
class Config(coco.Config):
    """Options of a reference, those of coco too; `path` is the instances file."""

    stuff: str = ""  # the stuff file; by default path with stuff_ in the place of instances_
    min_area: float = 0.02  # share of the image; the box of an object must be larger
    min_objects: int = 3  # per image, things and stuff
    max_objects: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_area < 1:
            raise ValueError(
                f"min_area is {self.min_area}; use a share of the image, 0 or more and below 1"
            )
        if not 0 <= self.min_objects <= self.max_objects:
            raise ValueError(
                f"min_objects={self.min_objects}, max_objects={self.max_objects}; use 0 <= "
                "min_objects <= max_objects"
            )


def read(config: Config, root: Path = Path()) -> CocoDataset:
    """Open both files and apply the filters; DatasetError for a missing file."""
    things_file = root / config.path
    stuff_file = root / (config.stuff or _stuff_name(config.path))
    if things_file.is_file() and not stuff_file.is_file():  # said before a large file is read
        raise DatasetError(
            f"{stuff_file}: no such file; give the COCO-Stuff annotations that belong to "
            f"{config.path} with stuff=FILE"
        )
    things, things_digest = open_object(things_file)
    stuff, stuff_digest = open_object(stuff_file)
    skipped = Skipped()
    check_things = Checker(things_file, config.on_bad, skipped, config.cuts_boxes)
    check_stuff = Checker(stuff_file, config.on_bad, skipped, config.cuts_boxes)

    by_id: dict[int, Category] = {}
    _read_categories(things, check_things, by_id, isthing=True)
    _read_categories(stuff, check_stuff, by_id, isthing=False)
    categories, others = _without_other(by_id)

    images = coco.read_images(things, config, root, check_things)
    reader = LabelReader(images, categories + others, check_things)
    stuff_reader = LabelReader(images, categories + others, check_stuff)
    objects = _ObjectFilter(
        config.min_area, images.images, (reader, stuff_reader), len(categories), skipped
    )
    check_things.each(section(things, "annotations", things_file), "annotation", objects.add)
    check_stuff.each(section(stuff, "annotations", stuff_file), "annotation", objects.add_stuff)

    chosen = _choose(images.images, objects, config, skipped)
    kept = objects.labels.of(chosen)
    skipped["object of an image left out"] += len(objects.labels) - len(kept)
    rules = (config.min_area, config.min_objects, config.max_objects, "crowds kept")
    digest = hashlib.sha256(f"{things_digest} {stuff_digest} {rules}".encode()).hexdigest()
    return CocoDataset(digest, categories, chosen, kept, skipped)


def _without_other(
    by_id: dict[int, Category],
) -> tuple[tuple[Category, ...], tuple[Category, ...]]:
    """Return the classes by id, and apart from them those called "other".

    Objects of the latter are recognised while reading, as those with an index from the end.
    """
    every = [by_id[key] for key in sorted(by_id)]
    categories = tuple(category for category in every if category.name != _OTHER)
    others = tuple(category for category in every if category.name == _OTHER)
    return categories, others


def _stuff_name(path: str) -> str:
    file = Path(path)
    if "instances_" not in file.name:
        raise DatasetError(
            f"{path}: no stuff file is given and the name has no 'instances_' to replace; give one "
            "with stuff=FILE"
        )
    return str(file.with_name(file.name.replace("instances_", "stuff_")))


def _read_categories(
    document: Json, check: Checker, categories: dict[int, Category], isthing: bool
) -> None:
    """Add the categories of one file, which has things alone or stuff alone."""

    def add(record: Any) -> None:
        coco.add_category(record, categories)
        key = record["id"]
        categories[key] = replace(categories[key], isthing=isthing)

    check.each(section(document, "categories", check.file), "category", add)


class _ObjectFilter:
    """Keeps the annotations that pass the object filters and counts the others."""

    def __init__(
        self,
        min_area: float,
        images: Iterable[str],
        readers: tuple[LabelReader, LabelReader],
        num_classes: int,
        skipped: Skipped,
    ) -> None:
        """Take the keys of the images and readers of things and stuff.

        Classes from `num_classes` are of no use.
        """
        self._min_area = min_area
        self._reader, self._stuff_reader = readers
        self._num_classes = num_classes
        self._skipped = skipped
        self.labels = LabelTable(images)  # crowds among them
        self.with_stuff: set[str] = set()  # keys of images

    def add_stuff(self, record: Any) -> None:
        """Check and filter one record of the stuff file.

        Its image has stuff, whatever becomes of the record.
        """
        target = self._stuff_reader.target(record)
        if target is not None:
            self.with_stuff.add(target.key)
            self._keep(record, target, self._stuff_reader)

    def add(self, record: Any) -> None:
        """Check and filter one record of the instances file."""
        target = self._reader.target(record)
        if target is not None:
            self._keep(record, target, self._reader)

    def _keep(self, record: Json, target: Target, reader: LabelReader) -> None:
        is_crowd = flag(record, "iscrowd", False)
        if target.category >= self._num_classes:
            self._skipped[f"object of the class '{_OTHER}'"] += 1
        elif not is_crowd and _share(record, target.image) <= self._min_area:
            # before the full check: most objects are small, and official files hold some without
            # extent
            self._skipped[f"object under {100 * self._min_area:g} % of the image"] += 1
        else:
            label = reader.read(record, target)
            self.labels.add(target.key, label)


def _share(record: Json, image: coco.Image) -> float:
    """Return the share of the image that the box takes, neither rounded nor clipped."""
    box = need(record, "bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise RecordError("bad box", f"bbox {box!r} must be a list [x, y, width, height]")
    width = number(box[2], "bbox")
    height = number(box[3], "bbox")
    if width < 0 or height < 0:
        raise RecordError("empty box", f"bbox {box!r} has no extent")
    return width * height / (image.width * image.height)


def _choose(
    images: dict[str, coco.Image], objects: _ObjectFilter, config: Config, skipped: Skipped
) -> dict[str, coco.Image]:
    """Return the images that pass the image filters."""
    num_objects = objects.labels.num_objects().tolist()
    chosen = {}
    for count, (key, image) in zip(num_objects, images.items(), strict=True):
        if key not in objects.with_stuff:
            skipped["image without stuff annotation"] += 1
        elif count < config.min_objects:
            skipped[f"image with fewer than {config.min_objects} objects"] += 1
        elif count > config.max_objects:
            skipped[f"image with more than {config.max_objects} objects"] += 1
        else:
            chosen[key] = image
    return chosen

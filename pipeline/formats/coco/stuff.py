"""COCO-Stuff as layout-to-image papers use it: an instances and a stuff file read as one, with the filters of LostGAN.

Reference: `coco_stuff:annotations/instances_val2017.json?images=val2017`. An object stays when its box takes more than
`min_area` of the image, it is no crowd and its class is not "other"; an image stays when the stuff file has anything for
it and `min_objects` to `max_objects` of its objects stay. Everything left out is counted. Records are checked as in `coco`,
those of objects under `min_area` only as far as that takes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.json_files import Checker, load_object, section
from synthaug.pipeline.formats.validation import RecordError, flag, need, number

_OTHER = "other"  # the stuff class of every pixel that belongs to no class


@dataclass(frozen=True)
class Config:
    """Options of a COCO-Stuff reference; `path` is the instances file."""

    path: str
    stuff: str = ""  # the stuff file; by default path with stuff_ in the place of instances_
    images: str = ""  # as in coco
    min_area: float = 0.02  # share of the image; the box of an object must be larger
    min_objects: int = 3  # per image, things and stuff
    max_objects: int = 8
    on_bad: str = "stop"  # as in coco
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        self.instances()
        if not 0 <= self.min_area < 1:
            raise ValueError(
                f"min_area is {self.min_area}; use a share of the image, 0 or more and below 1"
            )
        if not 0 <= self.min_objects <= self.max_objects:
            raise ValueError(
                f"min_objects={self.min_objects}, max_objects={self.max_objects}; use 0 <= min_objects <= max_objects"
            )

    def instances(self) -> coco.Config:
        """Return the options under which the instances file is read."""
        return coco.Config(self.path, self.images, self.on_bad, self.max_pixels)


def read(config: Config, root: Path = Path()) -> coco.CocoDataset:
    """Open both files, check their records and keep what the filters let through; DatasetError for a missing file."""
    things_file = root / config.path
    stuff_file = root / (config.stuff or _stuff_name(config.path))
    if things_file.is_file() and not stuff_file.is_file():  # said before a large file is read
        raise DatasetError(
            f"{stuff_file}: no such file; give the COCO-Stuff annotations that belong to {config.path} with stuff=FILE"
        )
    things, things_digest = load_object(things_file)
    stuff, stuff_digest = load_object(stuff_file)
    skipped: Counter[str] = Counter()
    check_things, check_stuff = (
        Checker(file, config.on_bad, skipped) for file in (things_file, stuff_file)
    )
    found: dict[int, Category] = {}
    _read_categories(things, check_things, found, isthing=True)
    _read_categories(stuff, check_stuff, found, isthing=False)
    # the class "other" comes last: its objects are recognised while reading, and no other index depends on it
    ordered = sorted(found.values(), key=lambda category: (category.name == _OTHER, category.id))
    kept = tuple(category for category in ordered if category.name != _OTHER)

    images = coco.read_images(things, config.instances(), root, check_things)
    objects = _Objects(config, coco.Labels(images, tuple(ordered), skipped), len(kept), skipped)
    check_things.each(section(things, "annotations", things_file), "annotation", objects.add)
    check_stuff.each(section(stuff, "annotations", stuff_file), "annotation", objects.add_stuff)
    chosen = _choose(images.images, objects, config, skipped)
    labels = [(key, label) for key, label in objects.found if key in chosen]
    skipped["object of an image left out"] += len(objects.found) - len(labels)
    rules = (config.min_area, config.min_objects, config.max_objects)
    digest = hashlib.sha256(f"{things_digest} {stuff_digest} {rules}".encode()).hexdigest()
    numbered = coco.with_ids(labels, skipped)
    dataset = coco.CocoDataset(things_file, config.instances(), digest, kept, chosen, numbered)
    dataset.skipped = +skipped
    return dataset


def _stuff_name(path: str) -> str:
    file = Path(path)
    if "instances_" not in file.name:
        raise DatasetError(
            f"{path}: no stuff file is given and the name has no 'instances_' to replace; give one with stuff=FILE"
        )
    return str(file.with_name(file.name.replace("instances_", "stuff_")))


def _read_categories(
    document: dict[str, Any], check: Checker, found: dict[int, Category], isthing: bool
) -> None:
    """Add the categories of one file; a class is a thing or stuff by the file it comes from."""
    before = set(found)
    records = section(document, "categories", check.file)
    check.each(records, "category", lambda record: coco.add_category(record, found))
    for key in set(found) - before:
        found[key] = replace(found[key], isthing=isthing)


class _Objects:
    """Keeps the annotations that pass the object filters, in the order in which they come, and counts the others."""

    def __init__(
        self, config: Config, labels: coco.Labels, num_kept: int, skipped: Counter[str]
    ) -> None:
        self._min_area, self._labels, self._num_kept, self._skipped = (
            config.min_area,
            labels,
            num_kept,
            skipped,
        )
        self.found: list[tuple[str, coco.Label]] = []
        self.with_stuff: set[str] = set()  # keys of images

    def add_stuff(self, record: Any) -> None:
        """Check and filter one record of the stuff file; its image has stuff, whatever becomes of it."""
        place = self._labels.place(record)
        if place is not None:
            self.with_stuff.add(place.key)
            self._keep(record, place)

    def add(self, record: Any) -> None:
        """Check and filter one record of the instances file."""
        place = self._labels.place(record)
        if place is not None:
            self._keep(record, place)

    def _keep(self, record: dict[str, Any], place: coco.Place) -> None:
        if flag(record, "iscrowd", False):
            self._skipped["crowd"] += 1
        elif place.category >= self._num_kept:
            self._skipped[f"object of the class '{_OTHER}'"] += 1
        elif _share(record, place) <= self._min_area:
            # before the full check: most objects are small, and official files hold some without extent
            self._skipped[f"object under {100 * self._min_area:g} % of the image"] += 1
        else:
            self.found.append((place.key, self._labels.read(record, place)))


def _share(record: dict[str, Any], place: coco.Place) -> float:
    """Return the share of the image that the box takes, as written in the file (not rounded, not clipped)."""
    box = need(record, "bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise RecordError("bad box", f"bbox {box!r} must be a list [x, y, width, height]")
    width, height = (number(value, "bbox") for value in box[2:])
    if width < 0 or height < 0:
        raise RecordError("empty box", f"bbox {box!r} has no extent")
    return width * height / (place.image.width * place.image.height)


def _choose(
    images: dict[str, coco.Image], objects: _Objects, config: Config, skipped: Counter[str]
) -> dict[str, coco.Image]:
    """Return the images that pass the image filters."""
    number_of = Counter(key for key, _ in objects.found)
    chosen = {}
    for key, image in images.items():
        if key not in objects.with_stuff:
            skipped["image without stuff annotation"] += 1
        elif number_of[key] < config.min_objects:
            skipped[f"image with fewer than {config.min_objects} objects"] += 1
        elif number_of[key] > config.max_objects:
            skipped[f"image with more than {config.max_objects} objects"] += 1
        else:
            chosen[key] = image
    return chosen

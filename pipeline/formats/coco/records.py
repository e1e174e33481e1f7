"""The records of COCO files: categories, images and annotations, each checked and kept."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import SOURCES, Category, Provenance
from synthaug.pipeline.formats.checked import CheckedConfig, Checker
from synthaug.pipeline.formats.json_files import section
from synthaug.pipeline.formats.source_files import find_file
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    flag,
    inside_box,
    is_int,
    is_text,
    key_of,
    need,
    number,
)

BOX_ONLY = "box_only"  # extra field: the object has no mask, what stands for one is its box
Segmentation = str | list[NDArray[np.float64]] | None  # compressed counts, or polygons


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a COCO reference; `path` is the JSON file."""

    # folder; by default beside the JSON, in `images/` there, or in `images/` one level up
    images: str = ""


@dataclass(frozen=True)
class Image:
    """A checked image record."""

    image_id: str
    path: Path
    name: str
    num_bytes: int
    height: int
    width: int
    provenance: Provenance | None

    @property
    def size(self) -> tuple[int, int]:
        """The size (H, W) in pixels."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Label:
    """A checked annotation record."""

    id: Any  # as in the file; None where there is none
    object_id: Any
    category: int  # index
    box: Box
    layout_box: Box
    area: float
    iscrowd: bool
    isthing: bool
    segmentation: Segmentation
    score: float
    source: str
    verdict: str | None
    verdict_score: float


@dataclass(frozen=True, slots=True)
class Target:
    """The image and the category that an annotation names."""

    key: str  # of the image
    image: Image
    category: int  # index


# --- categories ---


def read_categories(document: dict[str, Any], check: Checker) -> tuple[Category, ...]:
    """Check the category records of a file and return the categories by id."""
    categories: dict[int, Category] = {}

    def add(record: Any) -> None:
        add_category(record, categories)

    check.each(section(document, "categories", check.file), "category", add)
    return tuple(categories[key] for key in sorted(categories))


def add_category(record: Any, categories: dict[int, Category]) -> None:
    """Check one category record and keep it under its id."""
    key, name = need(record, "id"), need(record, "name")
    if not is_int(key) or not isinstance(name, str):
        raise RecordError("bad category", "its id must be a whole number and its name a text")
    if key in categories:
        raise RecordError("duplicate category id", "another category has the same id")
    parent = record.get("supercategory") or ""
    if not isinstance(parent, str):
        raise RecordError("bad category", "its supercategory must be a text")
    categories[key] = Category(key, name, parent, flag(record, "isthing", True))


# --- images ---


def read_images(
    document: dict[str, Any], config: Config, root: Path, check: Checker
) -> ImageReader:
    """Check the image records of a COCO file, and that each has its image file."""
    records = section(document, "images", check.file)
    folder = _image_folder(check.file, config, root, records)
    reader = ImageReader(folder, config.max_pixels)
    check.each(records, "image", reader.add)
    return reader


def _image_folder(file: Path, config: Config, root: Path, records: list[Any]) -> Path:
    """Return the option's folder, else the first of three that has the file's first image."""
    if config.images:
        folder = root / config.images
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; correct the option images=")
        return folder.resolve()
    folders = [file.parent, file.parent / "images", file.parent.parent / "images"]
    name = _first_file_name(records)
    for folder in folders:
        # a name that no file can have is reported when the image is checked
        with contextlib.suppress(OSError, ValueError):
            if name and (folder / name.lstrip("/")).is_file():
                return folder.resolve()
    for folder in folders[1:]:
        if folder.is_dir():
            return folder.resolve()
    return file.parent.resolve()


def _first_file_name(records: list[Any]) -> str:
    for record in records:
        if isinstance(record, dict) and "file_name" in record:
            return str(record["file_name"])
    return ""


class ImageReader:
    """Checks image records and keeps the good ones, and the keys of those it refused."""

    def __init__(self, folder: Path, max_pixels: int) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self.images: dict[str, Image] = {}  # by the id in the file
        self.refused: set[str] = set()
        self._scene_ids: set[str] = set()

    def add(self, record: Any) -> None:
        """Check one image record."""
        key = key_of(record, "id")
        if key in self.images:
            raise RecordError("duplicate image id", "another image has the same id")
        try:
            self.images[key] = self._read(key, record)
        except RecordError:
            self.refused.add(key)
            raise

    def key_of_image(self, record: Any, skipped: Counter[str]) -> str | None:
        """Return the key of an annotation's image; None, and counted, where it was refused.

        Raises RecordError where the file has no such image.
        """
        key = key_of(record, "image_id")
        if key in self.images:
            return key
        if key in self.refused:
            skipped["annotation of a skipped image"] += 1
            return None
        raise RecordError(
            "unknown image", f"image_id {record['image_id']!r} is not among the images"
        )

    def _read(self, key: str, record: dict[str, Any]) -> Image:
        name = need(record, "file_name")
        height = need(record, "height")
        width = need(record, "width")
        if not is_int(height) or not is_int(width) or height < 1 or width < 1:
            raise RecordError(
                "bad image size",
                f"width {width!r} and height {height!r} must be whole numbers above 0",
            )
        if height * width > self._max_pixels:
            raise RecordError(
                "image too large", f"{width}x{height} is over max_pixels={self._max_pixels}"
            )
        if not isinstance(name, str):
            raise RecordError("missing image file", "its file_name is no text")
        path, num_bytes = find_file(self._folder, name, "image file", named_by="file_name")
        scene_id = record.get("scene_id", key)
        if not isinstance(scene_id, str) or scene_id in self._scene_ids:
            raise RecordError(
                "duplicate image id", f"its scene_id {scene_id!r} is no text or not unique"
            )
        if not is_text(scene_id):
            raise RecordError("bad value", f"its id {scene_id!r} is not Unicode text")
        self._scene_ids.add(scene_id)
        return Image(scene_id, path, name, num_bytes, height, width, read_provenance(record))


def read_provenance(record: dict[str, Any]) -> Provenance | None:
    """Return the provenance of an image record; None where it has none."""
    value = record.get("provenance")
    if value is None:
        return None
    seed = value.get("seed") if isinstance(value, dict) else None
    if not is_int(seed) or abs(seed) >> 63:
        raise RecordError("bad value", "provenance must be an object with a whole number 'seed'")
    names = ("generator", "checkpoint", "source_image", "reason")
    texts = [value.get(name) for name in names]
    if not all(is_text(text) for text in texts):
        raise RecordError("bad value", f"provenance needs texts {', '.join(names)}")
    return Provenance(seed, *texts)


# --- annotations ---


class LabelReader:
    """Checks annotation records."""

    def __init__(
        self, images: ImageReader, categories: tuple[Category, ...], skipped: Counter[str]
    ) -> None:
        self._images = images
        self._categories = categories
        self._skipped = skipped
        self._index = {category.id: index for index, category in enumerate(categories)}

    def target(self, record: Any) -> Target | None:
        """Return the image and category of a record; None where its image was refused."""
        key = self._images.key_of_image(record, self._skipped)
        if key is None:
            return None
        category = need(record, "category_id")
        if not is_int(category) or category not in self._index:
            raise RecordError(
                "unknown category", f"category_id {category!r} is not among the categories"
            )
        return Target(key, self._images.images[key], self._index[category])

    def read(self, record: dict[str, Any], target: Target) -> Label:
        """Check the values of a record."""
        size = target.image.size
        box, clipped = inside_box(corners(record, "bbox"), size)
        mask = record.get("segmentation")
        if record.get(BOX_ONLY) == 1:
            mask = None
        segmentation = read_segmentation(mask, size)
        source, verdict = read_source_and_verdict(record)
        layout_box = read_layout_box(record)
        box_area = (box[2] - box[0]) * (box[3] - box[1])
        category = self._categories[target.category]
        label = Label(
            id=record.get("id"),
            object_id=record.get("object_id", record.get("id")),
            category=target.category,
            box=box,
            layout_box=layout_box or box,
            area=number(record.get("area", box_area), "area", low=0.0),
            iscrowd=flag(record, "iscrowd", False),
            isthing=flag(record, "isthing", category.isthing),
            segmentation=segmentation,
            score=number(record.get("score", 1.0), "score", low=0.0),
            source=source,
            verdict=verdict,
            verdict_score=read_verdict_score(record),
        )
        self._skipped["clipped to image"] += clipped
        return label


def corners(record: dict[str, Any], name: str) -> Box:
    """Return an xywh field as xyxy pixels."""
    value = need(record, name)
    if not isinstance(value, list) or len(value) != 4:
        raise RecordError("bad box", f"{name} {value!r} must be a list [x, y, width, height]")
    x, y, width, height = (number(v, name) for v in value)
    if width <= 0 or height <= 0:
        raise RecordError("empty box", f"{name} {value!r} has no extent")
    # rounded as boxes are kept, or 0.1 + 319.9 would lie outside an image of 320 pixels
    x2 = float(np.float32(x + width))
    y2 = float(np.float32(y + height))
    return x, y, x2, y2


def read_segmentation(value: Any, size: tuple[int, int]) -> Segmentation:
    """Return checked compressed counts or polygons; None where there is no mask."""
    if value is None or value == []:
        return None
    try:
        if not isinstance(value, dict):
            return masks.check_polygons(value)
        if value.get("size") != list(size):
            raise ValueError(
                f"its size {value.get('size')!r} is not that of the image, {list(size)}"
            )
        counts = value.get("counts")
        if isinstance(counts, list):
            return masks.from_uncompressed(counts, size)
        if not isinstance(counts, str):
            raise ValueError("its counts are neither a list nor a text")
        masks.check(counts, size)
        return counts
    except (ValueError, OverflowError) as err:
        raise RecordError("bad mask", f"segmentation: {one_line(err)}") from err


def encode_segmentation(segmentation: Segmentation, size: tuple[int, int]) -> str | None:
    """Return the compressed counts of a checked mask in an image (H, W); polygons are filled."""
    if isinstance(segmentation, list):
        return masks.from_polygons(segmentation, size)
    return segmentation


# fields of our own, which other readers pass over


def read_source_and_verdict(record: dict[str, Any]) -> tuple[str, str | None]:
    """Return the source of an object and its verdict, None where there is none."""
    source = record.get("source", "human")
    verdict = record.get("verdict")
    if source not in SOURCES or not isinstance(verdict, str | None):
        raise RecordError(
            "bad value",
            f"source {source!r} must be one of {', '.join(SOURCES)}, verdict a text",
        )
    return source, verdict


def read_verdict_score(record: dict[str, Any]) -> float:
    """Return the verdict's score, NaN where there is none."""
    if "verdict_score" not in record:
        return math.nan
    return number(record["verdict_score"], "verdict_score")


def read_layout_box(record: dict[str, Any]) -> Box | None:
    """Return the box of the layout; None where the record has none."""
    if "layout_bbox" not in record:
        return None
    return corners(record, "layout_bbox")


# --- labels of a whole file ---


def columns(records: Sequence[Any], names: Iterable[str]) -> dict[str, list[Any]]:
    """Return attributes of records as columns [N] for `Objects.build`."""
    table = {}
    for name in names:
        table[name] = [getattr(record, name) for record in records]
    return table


def with_ids(labels: Sequence[tuple[str, Label]], skipped: Counter[str]) -> list[tuple[str, Label]]:
    """Give every label an id >= 1, unique in the table: our own, the file's, or 1, 2, 3 ..."""
    own_ids = [label.object_id for _, label in labels]
    file_ids = [label.id for _, label in labels]
    if _are_ids(own_ids):
        ids = own_ids
    elif _are_ids(file_ids):
        ids = file_ids
    else:
        skipped["renumbered ids"] += len(labels)
        ids = list(range(1, len(labels) + 1))
    numbered = []
    for (key, label), new_id in zip(labels, ids, strict=True):
        renumbered = label if label.id == new_id else replace(label, id=new_id)
        numbered.append((key, renumbered))
    return numbered


def _are_ids(values: list[Any]) -> bool:
    if not all(is_int(value) and 1 <= value < 1 << 63 for value in values):
        return False
    return len(set(values)) == len(values)

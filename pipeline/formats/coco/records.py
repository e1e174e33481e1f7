"""The categories and images of COCO files, each record checked and kept."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Provenance
from synthaug.pipeline.formats.checked import CheckedConfig, Checker
from synthaug.pipeline.formats.json_files import section
from synthaug.pipeline.formats.source_files import find_file
from synthaug.pipeline.formats.validation import (
    RecordError,
    flag,
    is_int,
    is_text,
    key_of,
    need,
)


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
    def size(self) -> Size:
        """The size (H, W) in pixels."""
        return self.height, self.width


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
    """Return the option's folder, else the first of three that has the first image."""
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
        """Return the key of an annotation's image; None, counted, where it was refused.

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

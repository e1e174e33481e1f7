"""Ultralytics YOLO folders, read: data.yaml, images/<split>/ and labels/<split>/.

Reference: `yolo:folder?split=train`. A line of a label file is `class cx cy w h`, or `class x1 y1 x2 y2 ...` for a polygon,
in parts of the image's width and height; an image without a label file, or with an empty one, shows nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line, suggest
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.formats import image_files
from synthaug.pipeline.formats.checked import (
    CheckedConfig,
    CheckedDataset,
    Checker,
    first_ids,
    numbered_categories,
)
from synthaug.pipeline.formats.source_files import find_file, read_bytes, read_lines
from synthaug.pipeline.formats.validation import RecordError, inside_box, is_int, is_text
from synthaug.pipeline.formats.yolo.write import EXTRA, SPLITS, write, write_splits

__all__ = ["Config", "YoloDataset", "read", "write", "write_splits"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_SNAP = 1e-3  # pixels within which a coordinate is taken for a whole number
Shape = NDArray[np.float64]  # a box xyxy [4], or a polygon [K, 2]; pixels


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a reference; `path` is the folder of data.yaml, or the file itself."""

    split: str = "train"
    images: str = ""  # folder of the images, instead of what data.yaml says

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in SPLITS:
            raise ValueError(f"split is '{self.split}'; use {', '.join(SPLITS)}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A checked image with its labels."""

    image_id: str
    path: Path
    num_bytes: int
    size: Size  # (H, W)
    category: tuple[int, ...]
    shapes: tuple[Shape, ...]
    labels_digest: str  # sha256 of the label file


class YoloDataset(CheckedDataset[Frame]):
    """The images of one split, by name."""

    def __init__(
        self,
        categories: tuple[Category, ...],
        frames: list[Frame],
        digest: str,
        skipped: Counter[str],
    ) -> None:
        """`digest` is that of data.yaml."""
        super().__init__(categories, frames, skipped)
        self._digest = digest
        self._first_ids = first_ids(len(frame.category) for frame in frames)

    def scene(self, index: int, row: Frame) -> Scene:
        """Return a scene; polygons are filled."""
        boxes = np.array([box_of(shape) for shape in row.shapes], np.float32).reshape(-1, 4)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        rle: list[str | None] = []
        for k, shape in enumerate(row.shapes):
            counts = None
            if shape.ndim == 2:
                counts = masks.from_polygons([shape.ravel()], row.size)
                area[k] = masks.area(counts)
            rle.append(counts)
        objects = Objects.build(
            row.category,
            boxes,
            id=np.arange(len(boxes)) + self._first_ids[index],
            rle=rle,
            area=area,
            isthing=[self.categories[k].isthing for k in row.category],
        )
        return Scene(row.image_id, *row.size, ImageRef(None, str(row.path)), objects)

    def content(self) -> str:
        """Return the digests of data.yaml and of all labels, and the sizes of the images."""
        files = [(frame.image_id, frame.num_bytes, frame.labels_digest) for frame in self.rows]
        return json.dumps([self._digest, files])


def box_of(shape: Shape) -> Shape:
    """Return the xyxy box [4] of a box or a polygon."""
    if shape.ndim == 1:
        return shape
    return np.concatenate([shape.min(0), shape.max(0)])


def read(config: Config, root: Path = Path()) -> YoloDataset:
    """Open one split of a YOLO folder; bad images and labels stop it or are counted."""
    file = root / config.path
    if file.suffix not in (".yaml", ".yml"):
        file = file / "data.yaml"
    document, digest = _load(file)
    categories = categories_of(document, file)
    skipped: Counter[str] = Counter()
    reader = _Reader(len(categories), config.max_pixels, skipped)
    for folder, names in _image_lists(document, file, config, root):
        records = [{"folder": folder, "file_name": name} for name in names]
        check = Checker(folder, config.on_bad, skipped)
        check.each(records, "image", reader.add, key="file_name")
    return YoloDataset(categories, list(reader.frames.values()), digest, skipped)


def _load(file: Path) -> tuple[dict[str, Any], str]:
    data, digest = read_bytes(file)
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise DatasetError(f"{file}: not valid YAML ({one_line(err)}); correct the file") from err
    if not isinstance(document, dict):
        raise DatasetError(
            f"{file}: the top level must be keys with values (train, val, names); this is no data.yaml"
        )
    return document, digest


# --- classes ---


def categories_of(document: dict[str, Any], file: Path) -> tuple[Category, ...]:
    """Return the classes of `names`, with ids from 1.

    Those of our own export get back the ids they had.
    """
    names = _class_names(document.get("names"), file)
    exported = _exported_classes(document.get(EXTRA))
    ids = {category.id for category in exported}
    if [category.name for category in exported] == names and len(ids) == len(exported):
        return tuple(exported)
    return numbered_categories(names)


def _class_names(value: Any, file: Path) -> list[str]:
    """Return the names in order: they are listed, or numbered from 0."""
    names = value
    if isinstance(value, dict):
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise DatasetError(
                f"{file}: the numbers in 'names' must run from 0 to {len(value) - 1}; correct it"
            )
        names = [value[k] for k in range(len(value))]
    wrong = _first_wrong_name(names)
    if wrong is not None:
        raise DatasetError(
            f"{file}: 'names' must list the classes as texts, not {wrong}; put the names in quotes"
        )
    return list(names)


def _first_wrong_name(names: Any) -> str | None:
    """Return what is wrong with the names, for a message; None when they are good."""
    if not isinstance(names, list) or not names:
        return _describe(names)
    for name in names:
        if not is_text(name):
            return _describe(name)
    return None


def _describe(value: Any) -> str:
    """Return a value for a message.

    A few lines of YAML can stand for a list that no memory holds as text.
    """
    if isinstance(value, (list, dict, set)):
        return type(value).__name__
    return repr(value)[:100]


def _exported_classes(records: Any) -> list[Category]:
    """Return the classes of our own writer in data.yaml; none when one is wrong."""
    if not isinstance(records, list):
        return []
    categories = []
    for record in records:
        if not isinstance(record, dict):
            return []
        key = record.get("id")
        name = record.get("name")
        parent = record.get("supercategory", "")
        if not is_int(key) or not is_text(name) or not is_text(parent):
            return []
        categories.append(Category(key, name, parent, record.get("isthing") is not False))
    return categories


# --- images ---


def _image_lists(
    document: dict[str, Any], file: Path, config: Config, root: Path
) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder of the split with the names of its images, sorted."""
    if config.images:
        folder = (root / config.images).resolve()
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; correct the option images=")
        yield folder, _images_in(folder)
        return
    entry = document.get(config.split)
    if not entry and config.split == "val":
        entry = document.get("validation")
    if not entry:
        others = [key for key in SPLITS if document.get(key)]
        raise DatasetError(
            f"{file}: names no images for split '{config.split}'{suggest(config.split, others)}"
        )
    entries = entry if isinstance(entry, list) else [entry]
    for name in entries:
        path = _named_path(file, document.get("path") or "", name)
        if path.suffix == ".txt":
            yield path.parent, [str(PurePosixPath(text)) for text in read_lines(path)]
        else:
            yield path, _images_in(path)


def _images_in(folder: Path) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _named_path(file: Path, base: Any, name: Any) -> Path:
    """Return the folder or list that data.yaml names, which must lie beside it."""
    home = file.parent.resolve()
    if not isinstance(base, str) or not isinstance(name, str) or "\0" in base + name:
        raise DatasetError(
            f"{file}: path and the splits must be names of folders, not {_describe(name)}"
        )
    # some exporters write ../train/images and mean train/images; Ultralytics reads it so where the first is not there
    for text in (name, name.removeprefix("../")):
        path = (home / base / text).resolve()
        if path.exists() and path.is_relative_to(home):
            return path
    raise DatasetError(
        f"{file}: {name!r} is no folder beside it; move the images there, or name them with images=FOLDER"
    )


class _Reader:
    """Checks images with their label files and keeps the good ones."""

    def __init__(self, num_classes: int, max_pixels: int, skipped: Counter[str]) -> None:
        self.frames: dict[str, Frame] = {}
        self._num_classes = num_classes
        self._max_pixels = max_pixels
        self._skipped = skipped

    def add(self, record: dict[str, Any]) -> None:
        """Check one image, named by its folder and its path there."""
        folder, name = record["folder"], record["file_name"]
        image_id = name.rsplit(".", 1)[0]
        if image_id in self.frames:
            raise RecordError(
                "duplicate image id", "another image has the same name and so the same labels"
            )
        if not is_text(image_id):
            raise RecordError("unsafe file name", "its name is not Unicode text")
        path, num_bytes = find_file(folder, name, "image file", named_by="name")
        try:
            header = image_files.header(path, self._max_pixels)
        except ValueError as err:
            raise RecordError("bad image", f"the image {err}") from err
        if header.turned:
            raise RecordError(
                "turned image",
                "it is to be turned by its EXIF tag; store it upright, or boxes are ambiguous",
            )
        text, digest = _labels(path, folder)
        category, shapes = self._parse(text, header.size)
        self.frames[image_id] = Frame(
            image_id, path, num_bytes, header.size, category, shapes, digest
        )

    def _parse(self, text: str, size: Size) -> tuple[tuple[int, ...], tuple[Shape, ...]]:
        category, shapes = [], []
        for number, row in enumerate(text.splitlines(), start=1):
            if not row.strip():
                continue
            try:
                values = [float(word) for word in row.split()]
                label, shape = self._row(values, size)
            except ValueError as err:
                raise RecordError(
                    "bad label", f"line {number} of its labels: {one_line(err)}"
                ) from err
            except RecordError as err:
                raise RecordError(err.reason, f"line {number} of its labels: {err}") from err
            category.append(label)
            shapes.append(shape)
        return tuple(category), tuple(shapes)

    def _row(self, values: list[float], size: Size) -> tuple[int, Shape]:
        """Return the class and the shape of a line; ValueError or RecordError."""
        count = len(values)
        if count < 5 or count % 2 == 0:
            raise ValueError(
                f"{count} numbers; a box has 5 (class cx cy w h), a polygon 7, 9, 11 ..."
            )
        largest = max(abs(value) for value in values[1:])
        if not all(math.isfinite(value) for value in values) or largest > 2:
            raise ValueError(
                "a coordinate is not between 0 and 1; they are parts of the image's width and height"
            )
        label = int(values[0])
        if label != values[0] or not 0 <= label < self._num_classes:
            raise ValueError(f"class {values[0]:g} is not among the {self._num_classes} names")
        to_shape = _box if count == 5 else _polygon
        shape = to_shape(values[1:], size)
        x1, y1, x2, y2 = box_of(shape).tolist()
        box, clipped = inside_box((x1, y1, x2, y2), size)
        self._skipped["clipped to image"] += clipped
        if shape.ndim == 1:
            return label, np.array(box)
        return label, shape.clip(0, (size[1], size[0]))


def _box(values: list[float], size: Size) -> Shape:
    """Return the box [4] in pixels of cx, cy, w, h in parts of an image (H, W)."""
    height, width = size
    center = np.array([values[0] * width, values[1] * height])
    half = np.array([values[2] * width, values[3] * height]) / 2
    if (half <= 0).any():
        raise RecordError("empty box", "the box has no extent")
    corners = np.concatenate([center - half, center + half])
    return np.round(corners, 6).astype(np.float32).astype(np.float64)  # as boxes are kept


def _polygon(values: list[float], size: Size) -> Shape:
    """Return the polygon [K, 2] in pixels of x, y, ... in parts of an image (H, W)."""
    points = np.array(values).reshape(-1, 2) * (size[1], size[0])
    nearest = np.round(points)
    # outlines of pixels lie on whole numbers
    return np.where(np.abs(points - nearest) < _SNAP, nearest, points)


def _labels(image: Path, folder: Path) -> tuple[str, str]:
    """Return the text of an image's label file and its sha256; empty without one.

    It lies where the last folder `images` of the image's path is called `labels`.
    """
    parts = list(image.parts)
    home = folder
    if "images" in parts[:-1]:
        last = max(k for k, part in enumerate(parts[:-1]) if part == "images")
        parts[last] = "labels"
        home = Path(*parts[: last + 1])
    file = Path(*parts).with_name(image.name.rsplit(".", 1)[0] + ".txt")
    try:
        file, _ = find_file(home, str(file.relative_to(home)), "label file")
    except RecordError as err:
        if err.reason == "unsafe file name":
            raise
        if file.is_symlink() or file.exists():
            raise RecordError("unreadable labels", f"{file} is no ordinary file") from None
        return "", ""
    data, digest = read_bytes(file)
    return data.decode("utf-8", "replace"), digest

"""Pascal VOC folders, read: Annotations, ImageSets/Main and JPEGImages.

Reference: `voc:VOCdevkit/VOC2012?split=train`. Boxes are whole pixels counted from 1, the last one included. Objects marked
difficult do not count in VOC's evaluation; here they are ignore regions.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.formats.checked import (
    CheckedConfig,
    CheckedDataset,
    Checker,
    first_ids,
    numbered_categories,
)
from synthaug.pipeline.formats.json_files import load_json
from synthaug.pipeline.formats.source_files import find_file, read_lines
from synthaug.pipeline.formats.validation import Box, RecordError, inside_box, is_text
from synthaug.pipeline.formats.voc.write import CLASSES, write, write_splits
from synthaug.pipeline.formats.voc.xml_tree import load, text_of

__all__ = ["Config", "VocDataset", "read", "write", "write_splits"]


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a reference; `path` is the folder of Annotations and JPEGImages."""

    split: str = "train"  # a list in ImageSets/Main; all = every annotation
    classes: str = ""  # text file with a class per line; "" = classes.json, else the names that occur, by the alphabet
    difficult: str = "ignore"  # they are ignore regions | learn: they are objects like others

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.difficult not in ("ignore", "learn"):
            raise ValueError(f"difficult is '{self.difficult}'; use ignore or learn")
        if not self.split or "/" in self.split or self.split.startswith("."):
            raise ValueError(
                f"split is '{self.split}'; use the name of a list in ImageSets/Main, or all"
            )


@dataclass(frozen=True, slots=True)
class Frame:
    """A checked annotation file."""

    image_id: str
    path: Path
    num_bytes: int
    size: Size  # (H, W)
    names: tuple[str, ...]  # class of each object
    boxes: NDArray[np.float32]  # [N, 4] xyxy, pixels
    difficult: NDArray[np.bool_]  # [N]


class VocDataset(CheckedDataset[Frame]):
    """The images of one list, in its order."""

    def __init__(
        self,
        config: Config,
        categories: tuple[Category, ...],
        frames: list[Frame],
        skipped: Counter[str],
    ) -> None:
        super().__init__(categories, frames, skipped)
        self._config = config
        self._index = {category.name: index for index, category in enumerate(categories)}
        self._first_ids = first_ids(len(frame.names) for frame in frames)

    def scene(self, index: int, row: Frame) -> Scene:
        """Return a scene."""
        category = [self._index[name] for name in row.names]
        iscrowd = row.difficult
        if self._config.difficult == "learn":
            iscrowd = np.zeros_like(row.difficult)
        objects = Objects.build(
            category,
            row.boxes,
            id=np.arange(len(category)) + self._first_ids[index],
            iscrowd=iscrowd,
            isthing=[self.categories[k].isthing for k in category],
        )
        return Scene(row.image_id, *row.size, ImageRef(None, str(row.path)), objects)

    def content(self) -> str:
        """Return the classes, the annotations and the sizes of the images."""
        rows: list[Any] = []
        for f in self.rows:
            boxes, difficult = f.boxes.tolist(), f.difficult.tolist()
            rows.append((f.image_id, f.num_bytes, f.size, f.names, boxes, difficult))
        names = [category.name for category in self.categories]
        return json.dumps([names, self._config.difficult, rows])


def read(config: Config, root: Path = Path()) -> VocDataset:
    """Open one list of a VOC folder; bad annotations stop it or are counted."""
    base = (root / config.path).resolve()
    if not (base / "Annotations").is_dir():
        raise DatasetError(
            f"{base}: has no folder Annotations; name the folder of a VOC data set, such as VOC2012"
        )
    categories = _listed_classes(config, base, root)
    check = Checker(base / "Annotations", config.on_bad)
    reader = _Reader(base, config.max_pixels, check.skipped, categories)
    check.each([{"id": name} for name in _image_names(config, base)], "image", reader.add)
    frames = list(reader.frames.values())
    if not categories:
        categories = _occurring_classes(frames)
    return VocDataset(config, categories, frames, check.skipped)


def _image_names(config: Config, base: Path) -> list[str]:
    """Return the names of the images of the split."""
    if config.split == "all":
        return sorted(path.stem for path in (base / "Annotations").glob("*.xml"))
    file = base / "ImageSets" / "Main" / f"{config.split}.txt"
    if not file.is_file():
        others = sorted(path.stem for path in file.parent.glob("*.txt"))[:8]
        known = ""
        if others:
            known = f" (there are {', '.join(others)})"
        raise DatasetError(
            f"{file}: no such list{known}; correct the option split=, or use split=all"
        )
    return read_lines(file)


def _listed_classes(config: Config, base: Path, root: Path) -> tuple[Category, ...]:
    """Return the classes that a file lists; none where there is no such file."""
    if config.classes:
        return _class_names(root / config.classes)
    file = base / CLASSES
    if file.is_file():
        return _exported_classes(file)
    return ()


def _class_names(file: Path) -> tuple[Category, ...]:
    """Return the classes of a text file, one per line, with ids from 1."""
    names = read_lines(file)
    if not names or len(set(names)) < len(names):
        raise DatasetError(f"{file}: must list each class once, one per line; correct it")
    return numbered_categories(names)


def _exported_classes(file: Path) -> tuple[Category, ...]:
    """Return the classes of the file that our own writer leaves, with their ids."""
    records, _ = load_json(file)
    categories = []
    try:
        for c in records:
            isthing = c["isthing"] is True
            categories.append(Category(int(c["id"]), c["name"], c["supercategory"], isthing))
    except (TypeError, KeyError, ValueError) as err:
        raise DatasetError(
            f"{file}: is no list of classes (id, name, supercategory, isthing); delete it"
        ) from err
    names = {c.name for c in categories if is_text(c.name) and is_text(c.supercategory)}
    if len(names) < len(categories):
        raise DatasetError(
            f"{file}: class names must be texts, each there once; correct the file or delete it"
        )
    return tuple(categories)


def _occurring_classes(frames: list[Frame]) -> tuple[Category, ...]:
    """Return the classes that objects have, by the alphabet, with ids from 1."""
    names: set[str] = set()
    for frame in frames:
        names.update(frame.names)
    return numbered_categories(sorted(names))


class _Reader:
    """Checks annotation files and keeps the good ones."""

    def __init__(
        self, base: Path, max_pixels: int, skipped: Counter[str], categories: tuple[Category, ...]
    ) -> None:
        """Without `categories` every class name is taken."""
        self.frames: dict[str, Frame] = {}
        self._base = base
        self._max_pixels = max_pixels
        self._skipped = skipped
        self._classes = {category.name for category in categories}

    def add(self, record: dict[str, str]) -> None:
        """Check the annotation of one image, named by the list."""
        name = record["id"]
        if name in self.frames:
            raise RecordError("duplicate image id", "it is listed twice")
        file, _ = self._find("Annotations", f"{name}.xml", "annotation")
        tree = load(file)
        size = self._size(tree)
        image, num_bytes = self._image(tree, name)
        names, boxes, difficult = [], [], []
        for element in tree.findall("object"):
            names.append(self._class(element))
            boxes.append(self._box(element, names[-1], size))
            difficult.append(_difficult(element))
        self.frames[name] = Frame(
            name,
            image,
            num_bytes,
            size,
            tuple(names),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(difficult, bool),
        )

    def _find(self, part: str, name: str, kind: str) -> tuple[Path, int]:
        return find_file(self._base / part, name, kind, missing=f"missing {kind} file")

    def _image(self, tree: Element, name: str) -> tuple[Path, int]:
        """Return the image that the file names, else the one called like the annotation."""
        names = [f"{name}.jpg", f"{name}.png"]
        file_name = (text_of(tree, "filename") or "").strip()
        if file_name:
            names.insert(0, file_name)
        for candidate in names[:-1]:
            try:
                return self._find("JPEGImages", candidate, "image")
            except RecordError as err:
                if err.reason == "unsafe file name":
                    raise
        return self._find("JPEGImages", names[-1], "image")

    def _size(self, tree: Element) -> Size:
        height = _number(tree, "size/height")
        width = _number(tree, "size/width")
        if height != int(height) or width != int(width) or height < 1 or width < 1:
            raise RecordError(
                "bad image size",
                f"width {width:g} and height {height:g} must be whole numbers above 0",
            )
        if height * width > self._max_pixels:
            raise RecordError(
                "image too large", f"{width:g}x{height:g} is over max_pixels={self._max_pixels}"
            )
        return int(height), int(width)

    def _class(self, element: Element) -> str:
        name = text_of(element, "name")
        if name is None:
            raise RecordError("missing key", "an object has no name")
        if name not in self._classes:
            name = name.strip()
        if self._classes and name not in self._classes:
            raise RecordError("unknown category", f"class {name!r} is not among the classes")
        return name

    def _box(self, element: Element, name: str, size: Size) -> Box:
        x1 = _number(element, "bndbox/xmin")
        y1 = _number(element, "bndbox/ymin")
        x2 = _number(element, "bndbox/xmax")
        y2 = _number(element, "bndbox/ymax")
        if x2 < x1 or y2 < y1:
            raise RecordError(
                "empty box", f"box {x1:g} {y1:g} {x2:g} {y2:g} of {name!r} has no extent"
            )
        box, clipped = inside_box((x1 - 1, y1 - 1, x2, y2), size)
        self._skipped["clipped to image"] += clipped
        return box


def _difficult(element: Element) -> bool:
    text = (text_of(element, "difficult") or "0").strip()
    if text not in ("0", "1"):
        raise RecordError("bad value", f"difficult is {text!r}, not 0 or 1")
    return text == "1"


def _number(element: Element, path: str) -> float:
    """Return the number at a path of one step, or of two: `part/key`."""
    text = text_of(element, path)
    if text is None:
        part, _, key = path.partition("/")
        problem = f"{part} has no {key}" if key else f"{part} is missing"
        raise RecordError("missing key", problem)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:
        raise RecordError("bad value", f"{path} is {text[:40]!r}, not a number")
    return value

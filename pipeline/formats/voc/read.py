"""Pascal VOC folders, read: Annotations, ImageSets/Main and JPEGImages.

Reference: `voc:VOCdevkit/VOC2012?split=train`. Boxes are whole pixels counted from 1, the last one
included. Objects marked difficult do not count in VOC's evaluation; here they are ignore regions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.boxes import Boxes, Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Objects, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import image_ref, located
from synthaug.pipeline.formats.checked import (
    BoxConfig,
    CheckedDataset,
    Checker,
    first_ids,
    numbered_categories,
)
from synthaug.pipeline.formats.drawn import Canvas, corners_of, count_flags, rotated, turned_box
from synthaug.pipeline.formats.json_files import load_json
from synthaug.pipeline.formats.packed import Packed
from synthaug.pipeline.formats.source_files import (
    files_below,
    find_file,
    folded,
    images_below,
    read_lines,
)
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    clip_reason,
    inside_box,
    is_name,
    is_text,
    number_in,
)
from synthaug.pipeline.formats.voc.write import CLASSES, write, write_splits
from synthaug.pipeline.formats.voc.xml_tree import load, text_of

__all__ = ["Config", "VocDataset", "read", "write", "write_splits"]


@dataclass(frozen=True)
class Config(BoxConfig):
    """Options of a reference; `path` is the folder of Annotations and JPEGImages."""

    split: str = "train"  # a list in ImageSets/Main; all = every annotation
    # text file with a class per line; "" = classes.json, else the names that occur, by the alphabet
    classes: str = ""
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
    boxes: Boxes  # [N, 4] xyxy, pixels
    difficult: Flags  # [N]


class VocDataset(CheckedDataset[Frame]):
    """The images of one list, in its order."""

    def __init__(
        self,
        config: Config,
        categories: tuple[Category, ...],
        frames: Packed[Frame],
        skipped: Skipped,
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
        return Scene(row.image_id, *row.size, image_ref(row.path), objects)

    def content(self) -> str:
        """Return the classes, the annotations and the sizes of the images."""
        rows: list[Any] = []
        for f in self.rows:
            boxes = f.boxes.tolist()
            difficult = f.difficult.tolist()
            rows.append((f.image_id, f.num_bytes, f.size, f.names, boxes, difficult))
        names = [category.name for category in self.categories]
        return json.dumps([names, self._config.difficult, rows])


def read(config: Config, root: Path = Path()) -> VocDataset:
    """Open one list of a VOC folder; bad annotations stop it or are counted."""
    base = located(root, config.path).resolve()
    places = _places(base)
    categories = _listed_classes(config, base, root)
    check = Checker(places.annotations, config.on_bad, cuts_boxes=config.cuts_boxes)
    reader = _Reader(places, config, check, categories)
    names = _image_names(config, base, places, check.skipped)
    check.each([{"id": name} for name in names], "image", reader.add)
    frames = reader.frames
    if not categories:
        categories = _occurring_classes(frames)
    return VocDataset(config, categories, frames, check.skipped)


@dataclass(frozen=True)
class _Places:
    """Where the files of a set are."""

    annotations: Path
    images: Path


_IMAGE_FOLDERS = ("JPEGImages", "images")  # the latter by Label Studio


def _places(base: Path) -> _Places:
    if (base / "Annotations").is_dir():
        for images in _IMAGE_FOLDERS:
            if (base / images).is_dir():
                return _Places(base / "Annotations", base / images)
        return _Places(base / "Annotations", base / _IMAGE_FOLDERS[0])
    if next(base.glob("*.xml"), None) is not None:
        return _Places(base, base)
    raise DatasetError(
        f"{base}: has no folder Annotations and no XML file; "
        "name the folder of a VOC data set, such as VOC2012"
    )


def _image_names(config: Config, base: Path, places: _Places, skipped: Skipped) -> list[str]:
    """Return the names of the images of the split."""
    file = _list_file(base / "ImageSets", config.split)
    has_lists = (base / "ImageSets").is_dir()
    is_whole = config.split == "all" or (not has_lists and config.split == "train")
    if is_whole and not file.is_file():
        names = sorted(_annotation_names(places.annotations, config.follows_links, skipped))
        _note_images_without(names, places, config.follows_links, skipped)
        return names
    if not file.is_file():
        others = sorted({path.stem for path in (base / "ImageSets").rglob("*.txt")})[:8]
        known = ""
        if others:
            known = f" (there are {', '.join(others)})"
        raise DatasetError(
            f"{file}: no such list{known}; correct the option split=, or use split=all"
        )
    return _listed_names(read_lines(file), file, skipped)


def _annotation_names(folder: Path, follow: bool, skipped: Skipped) -> Iterator[str]:
    """Yield the names of the annotations in and below a folder, without suffix."""
    for path in files_below(folder, folder.resolve(), follow, skipped):
        if path.suffix == ".xml":
            yield path.relative_to(folder).as_posix().removesuffix(".xml")


def _note_images_without(names: list[str], places: _Places, follow: bool, skipped: Skipped) -> None:
    """Count the images that have no annotation, wherever in a folder it may lie."""
    annotated = {folded(name.rsplit("/", 1)[-1]) for name in names}
    for stem, pictures in _by_stem(places.images, follow).items():
        if stem.rsplit("/", 1)[-1] not in annotated:
            for picture in pictures:
                skipped.note("image without an annotation file, left out", picture)


def _list_file(folder: Path, split: str) -> Path:
    """Return the list of a split, in Main or elsewhere in ImageSets.

    The only list of CVAT's export is called `default`; it is that of the split `train`.
    """
    main = folder / "Main"
    places = [main, folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    for place in places:
        if (place / f"{split}.txt").is_file():
            return place / f"{split}.txt"
    lists = [path.name for path in sorted(main.glob("*.txt"))]
    if split == "train" and lists == ["default.txt"]:
        return main / lists[0]
    return main / f"{split}.txt"


_SHOWN, _ABSENT = ("1", "0"), "-1"  # flags of the lists of one class; 0 = difficult there


def _listed_names(lines: list[str], file: Path, skipped: Skipped) -> list[str]:
    """Return the names of a list; in that of one class, of the images that show it."""
    rows = [line.rsplit(None, 1) for line in lines]
    if not all(len(row) == 2 and row[1] in (*_SHOWN, _ABSENT) for row in rows):
        return lines
    names = []
    for name, flag in rows:
        if flag == _ABSENT:
            skipped.note("image that does not show the class of the list", f"{file.name}: {name}")
        else:
            names.append(name)
    return names


def _listed_classes(config: Config, base: Path, root: Path) -> tuple[Category, ...]:
    """Return the classes that a file lists; none where there is no such file."""
    if config.classes:
        return _class_names(located(root, config.classes))
    file = base / CLASSES
    if file.is_file():
        return _exported_classes(file)
    file = base / "labelmap.txt"
    if file.is_file():
        return _mapped_classes(file)
    return ()


def _mapped_classes(file: Path) -> tuple[Category, ...]:
    """Return the classes of CVAT's `name:color:parts:actions` lines."""
    names = []
    for line in read_lines(file):
        name = line.rsplit(":", 3)[0]
        if not line.startswith("#") and name not in ("background", ""):
            names.append(name)
    if len(set(names)) < len(names):
        raise DatasetError(f"{file}: must list each class once; correct it")
    return numbered_categories(names)


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
    except (TypeError, KeyError, ValueError, OverflowError) as err:
        raise DatasetError(
            f"{file}: is no list of classes (id, name, supercategory, isthing) as synthaug writes "
            "it; rename it, or name the classes with classes=FILE"
        ) from err
    names = {c.name for c in categories if is_text(c.name) and is_text(c.supercategory)}
    if len(names) < len(categories):
        raise DatasetError(
            f"{file}: class names must be texts, each there once; correct the file or delete it"
        )
    return tuple(categories)


def _occurring_classes(frames: Packed[Frame]) -> tuple[Category, ...]:
    """Return the classes that objects have, by the alphabet, with ids from 1."""
    names: set[str] = set()
    for frame in frames:
        names.update(frame.names)
    return numbered_categories(sorted(names))


class _Reader:
    """Checks annotation files and keeps the good ones."""

    def __init__(
        self, places: _Places, config: Config, check: Checker, categories: tuple[Category, ...]
    ) -> None:
        """Without `categories` every class name is taken."""
        self.frames: Packed[Frame] = Packed()
        self._ids: set[str] = set()
        self._places = places
        self._config = config
        self._check = check
        self._skipped = check.skipped
        self._classes = {category.name for category in categories}
        self._pictures = _by_stem(places.images, config.follows_links)
        self._nested: dict[str, list[str]] = {}  # stem -> annotations, once one is looked for

    def add(self, record: dict[str, str]) -> None:
        """Check the annotation of one image, named by the list."""
        name = record["id"]
        if name in self._ids:
            raise RecordError("duplicate image id", "it is listed twice")
        place = self._annotation(name)
        file, _ = self._find(self._places.annotations, f"{place}.xml", "annotation")
        tree = load(file)
        elements = tree.findall("object")
        try:
            size = self._size(tree)
            image, num_bytes = self._image(tree, place)
        except RecordError:
            self._skipped["object of a skipped image"] += len(elements)
            raise
        names = []
        boxes = []
        difficult = []
        for number, element in enumerate(elements, start=1):
            read = partial(self._object, element, size, name)
            found = self._check.attempt(f"image {name!r}", f"object {number}", read)
            if found is not None:
                names.append(found[0])
                boxes.append(found[1])
                difficult.append(found[2])
        self._ids.add(name)
        if (text_of(tree, "segmented") or "0").strip() not in ("0", ""):
            self._skipped.unread["masks of images ('segmented')"] += 1
        frame = Frame(
            name,
            image,
            num_bytes,
            size,
            tuple(names),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(difficult, bool),
        )
        self.frames.append(frame)

    def _annotation(self, name: str) -> str:
        """Return the name of an annotation, which may lie in a folder of its class."""
        if (self._places.annotations / f"{name}.xml").is_file() or "/" in name:
            return name
        if not self._nested:
            folder = self._places.annotations
            for inner in sorted(_annotation_names(folder, self._config.follows_links, Skipped())):
                self._nested.setdefault(inner.rsplit("/", 1)[-1], []).append(inner)
        found = self._nested.get(name, [name])
        if len(found) > 1:
            raise RecordError(
                "two annotations of one name", f"{found[0]!r} and {found[1]!r} are both called so"
            )
        return found[0]

    def _find(self, folder: Path, name: str, kind: str) -> tuple[Path, int]:
        follow = self._config.follows_links
        return find_file(folder, name, kind, missing=f"missing {kind} file", follow=follow)

    def _image(self, tree: Element, name: str) -> tuple[Path, int]:
        """Return the image called like the annotation, else the one the file names.

        The text of `filename` outlives renaming, so it is only asked where nothing else tells.
        """
        told = (text_of(tree, "filename") or "").strip()
        own = self._pictures.get(folded(name), [])
        if not own and "/" in name:  # only the annotations are sorted into folders
            name = name.rsplit("/", 1)[-1]
            own = self._pictures.get(folded(name), [])
        exact = [picture for picture in own if _stem(picture) == name]
        own = exact or own
        if len(own) > 1 and told in own:
            own = [told]
        if len(own) > 1:
            raise RecordError(
                "two images of one name", f"{own[0]!r} and {own[1]!r} are both called so"
            )
        if own:
            if told and told not in (own[0], name) and self._is_picture(told):
                self._skipped.note(
                    "filename of another image, passed over for the annotation's own name",
                    f"{self._check.file.name}: image {name!r}: its filename is {told[:100]!r}",
                )
            return self._find(self._places.images, own[0], "image")
        if told:
            try:
                return self._find(self._places.images, told, "image")
            except RecordError as err:
                if err.reason == "unsafe file name":
                    raise
        return self._find(self._places.images, f"{name}.jpg", "image")

    def _is_picture(self, told: str) -> bool:
        return told in self._pictures.get(folded(_stem(told)), [])

    def _object(self, element: Element, size: Size, image: str) -> tuple[str, Box, bool]:
        """Return the class, the box and whether it is difficult."""
        for tag in ("name", "bndbox"):
            if len(element.findall(tag)) > 1:
                raise RecordError("bad value", f"an object has more than one {tag}")
        name = self._class(element)
        box = self._box(element, name, size, image)
        is_difficult = _difficult(element)
        count_flags(_flags(element), self._skipped)
        return name, box, is_difficult

    def _size(self, tree: Element) -> Size:
        height = _number(tree, "size/height")
        width = _number(tree, "size/width")
        if height != int(height) or width != int(width) or height < 1 or width < 1:
            raise RecordError(
                "bad image size",
                f"width {width:g} and height {height:g} must be whole numbers above 0",
            )
        if height * width > self._config.max_pixels:
            raise RecordError(
                "image too large",
                f"{width:g}x{height:g} is over max_pixels={self._config.max_pixels}",
            )
        return int(height), int(width)

    def _class(self, element: Element) -> str:
        name = text_of(element, "name")
        if name is None:
            raise RecordError("missing key", "an object has no name")
        if name not in self._classes:
            name = name.strip()
        if not is_name(name):
            raise RecordError("bad value", "the name of an object is empty")
        if self._classes and name not in self._classes:
            raise RecordError("unknown category", f"class {name!r} is not among the classes")
        return name

    def _box(self, element: Element, name: str, size: Size, image: str) -> Box:
        if element.find("bndbox") is None:
            for kind in ("robndbox", "polygon"):
                if element.find(kind) is not None:
                    raise RecordError("no box", f"{name!r} has a {kind} and no bndbox")
        x1 = _number(element, "bndbox/xmin")
        y1 = _number(element, "bndbox/ymin")
        x2 = _number(element, "bndbox/xmax")
        y2 = _number(element, "bndbox/ymax")
        self._check.units.see((x1, y1, x2, y2), size)
        told = f"box {x1:g} {y1:g} {x2:g} {y2:g} of {name!r}"
        if x2 < x1 or y2 < y1:
            raise RecordError("empty box", f"{told} has no extent")

        def note(reason: str) -> None:
            self._skipped.note(reason, f"{self._check.file.name}: image {image!r}: {told}")

        angle = _rotation(element)
        if angle % 360:
            # CVAT's boxes are those of its other exports: no last pixel is counted twice
            center = (x1 + x2) / 2, (y1 + y2) / 2
            corners = rotated(corners_of(x1, y1, x2, y2), center, angle)
            canvas = Canvas(size, self._check.cuts_boxes, note)
            return turned_box(name, corners, canvas).box
        box, excess = inside_box((x1 - 1, y1 - 1, x2, y2), size, self._check.cuts_boxes)
        if excess > 0:
            note(clip_reason(excess))
        return box


def _by_stem(folder: Path, follow: bool) -> dict[str, list[str]]:
    """Return the images of a folder by name without suffix, in small letters."""
    pictures: dict[str, list[str]] = {}
    if folder.is_dir():
        for name in images_below(folder, folder.resolve(), follow, Skipped()):
            pictures.setdefault(folded(_stem(name)), []).append(name)
    return pictures


def _stem(name: str) -> str:
    """Return a file name, folders included, without its suffix."""
    return name.rsplit(".", 1)[0]


def _flags(element: Element) -> Json:
    """Return what an object says of itself and a scene has no place for."""
    flags: Json = {}
    for name in ("truncated", "occluded"):
        flags[name] = (text_of(element, name) or "0").strip()
    for attribute in element.iterfind("attributes/attribute"):
        name = text_of(attribute, "name") or ""
        if name != "rotation":
            flags[name] = (text_of(attribute, "value") or "").strip()
    for shape in ("part", "polygon", "mask"):
        if element.find(shape) is not None:
            flags[shape] = True
    return flags


def _rotation(element: Element) -> float:
    """Return the degrees by which a box is turned, as CVAT tells them."""
    for attribute in element.iterfind("attributes/attribute"):
        if text_of(attribute, "name") == "rotation":
            return _number(attribute, "value")
    return 0.0


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
    return number_in(text, path)

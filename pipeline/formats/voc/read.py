"""Pascal VOC folders: Annotations/*.xml, ImageSets/Main/<split>.txt and JPEGImages/, read and written.

Reference: `voc:VOCdevkit/VOC2012?split=train`. Boxes are whole pixels counted from 1, the last one included. Objects marked
difficult do not count in VOC's evaluation; here they are ignore regions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import inside
from synthaug.pipeline.formats.json_files import Checker, check_limits, load_json, read_bytes
from synthaug.pipeline.formats.validation import RecordError, inside_box, is_text
from synthaug.pipeline.formats.voc.write import CLASSES, write, write_splits
from synthaug.pipeline.formats.voc.xml_tree import load, text_of

__all__ = ["Config", "VocDataset", "read", "write", "write_splits"]


@dataclass(frozen=True)
class Config:
    """Options of a VOC reference; `path` is the folder that holds Annotations and JPEGImages."""

    path: str
    split: str = "train"  # a list in ImageSets/Main; all = every annotation
    classes: str = ""  # text file with a class per line; "" = classes.json, else the names that occur, by the alphabet
    difficult: str = (
        "ignore"  # ignore: they are ignore regions | learn: they are objects like others
    )
    on_bad: str = "stop"  # as in coco
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        check_limits(self.on_bad, self.max_pixels)
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
    bytes: int
    size: tuple[int, int]  # (H, W)
    names: tuple[str, ...]  # class of each object
    boxes: NDArray[np.float32]  # [N, 4] xyxy, pixels
    difficult: NDArray[np.bool_]  # [N]


class VocDataset(Dataset):
    """The images of one list, in its order."""

    def __init__(
        self, config: Config, categories: tuple[Category, ...], frames: list[Frame]
    ) -> None:
        self.categories = categories
        self.skipped: Counter[str] = Counter()
        self._config, self._frames = config, frames
        self._index = {category.name: index for index, category in enumerate(categories)}
        self._first = np.cumsum([1, *(len(frame.names) for frame in frames)]).tolist()  # object id

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = self._frames[index]
        category = [self._index[name] for name in frame.names]
        objects = Objects.build(
            category,
            frame.boxes,
            id=np.arange(len(category)) + self._first[index],
            iscrowd=frame.difficult & (self._config.difficult == "ignore"),
            isthing=[self.categories[k].isthing for k in category],
        )
        return Scene(frame.image_id, *frame.size, ImageRef(None, str(frame.path)), objects)

    def fingerprint(self) -> str:
        """Digest of the classes, of all that was read of the annotations, and of the names and sizes of the images."""
        rows = [
            (f.image_id, f.bytes, f.size, f.names, f.boxes.tolist(), f.difficult.tolist())
            for f in self._frames
        ]
        names = [category.name for category in self.categories]
        return hashlib.sha256(
            json.dumps([names, self._config.difficult, rows]).encode()
        ).hexdigest()


def read(config: Config, root: Path = Path()) -> VocDataset:
    """Open one list of a VOC folder and check every annotation; bad ones stop the reading or are counted."""
    base = (root / config.path).resolve()
    if not (base / "Annotations").is_dir():
        raise DatasetError(
            f"{base}: holds no folder Annotations; name the folder of a VOC data set, such as VOC2012"
        )
    known = _known_classes(config, base, root)
    skipped: Counter[str] = Counter()
    reader = _Reader(base, config.max_pixels, skipped, known)
    records = [{"id": name} for name in _names(config, base)]
    Checker(base / "Annotations", config.on_bad, skipped).each(records, "image", reader.add)
    found = sorted({name for frame in reader.frames.values() for name in frame.names})
    categories = known or tuple(Category(k, name) for k, name in enumerate(found, start=1))
    dataset = VocDataset(config, categories, list(reader.frames.values()))
    dataset.skipped = +skipped
    return dataset


def _names(config: Config, base: Path) -> list[str]:
    listing = base / "ImageSets" / "Main" / f"{config.split}.txt"
    if config.split == "all":
        return sorted(path.stem for path in (base / "Annotations").glob("*.xml"))
    if not listing.is_file():
        there = sorted(p.stem for p in listing.parent.glob("*.txt"))[:8]
        known = f" (there are {', '.join(there)})" if there else ""
        raise DatasetError(
            f"{listing}: no such list{known}; correct the option split=, or use split=all"
        )
    lines = read_bytes(listing)[0].decode("utf-8", "replace").splitlines()
    return [text.strip() for text in lines if text.strip()]


def _known_classes(config: Config, base: Path, root: Path) -> tuple[Category, ...]:
    """Return the classes that a file lists; none when nothing says what there is."""
    if config.classes:
        lines = read_bytes(root / config.classes)[0].decode("utf-8", "replace").splitlines()
        names = [text.strip() for text in lines if text.strip()]
        if not names or len(set(names)) < len(names):
            raise DatasetError(
                f"{root / config.classes}: must list each class once, one per line; correct it"
            )
        return tuple(Category(k, name) for k, name in enumerate(names, start=1))
    file = base / CLASSES
    if not file.is_file():
        return ()
    listed, _ = load_json(file)
    try:
        kept = tuple(
            Category(int(c["id"]), c["name"], c["supercategory"], c["isthing"] is True)
            for c in listed
        )
    except (TypeError, KeyError, ValueError) as err:
        raise DatasetError(
            f"{file}: is no list of classes (id, name, supercategory, isthing); delete it"
        ) from err
    if len({c.name for c in kept}) < len(kept) or not all(
        is_text(c.name) and is_text(c.supercategory) for c in kept
    ):
        raise DatasetError(
            f"{file}: class names must be texts, each there once; correct the file or delete it"
        )
    return kept


class _Reader:
    """Checks annotation files and keeps the good ones."""

    def __init__(
        self, base: Path, max_pixels: int, skipped: Counter[str], known: tuple[Category, ...]
    ) -> None:
        self.frames: dict[str, Frame] = {}
        self._base, self._max_pixels, self._skipped = base, max_pixels, skipped
        self._known = {category.name for category in known}

    def add(self, record: dict[str, str]) -> None:
        """Check the annotation of one image, named by the list."""
        name = record["id"]
        if name in self.frames:
            raise RecordError("duplicate image id", "it is listed twice")
        file, _ = self._inside("Annotations", f"{name}.xml", "annotation")
        tree = load(file)
        size = self._size(tree)
        image, length = self._image(tree, name)
        objects = [self._object(element, size) for element in tree.findall("object")]
        self.frames[name] = Frame(
            name,
            image,
            length,
            size,
            tuple(label for label, _, _ in objects),
            np.array([box for _, box, _ in objects], np.float32).reshape(-1, 4),
            np.array([difficult for _, _, difficult in objects], bool),
        )

    def _inside(self, part: str, name: str, kind: str) -> tuple[Path, int]:
        try:
            return inside(self._base / part, name)
        except PermissionError as err:
            raise RecordError("unsafe file name", f"its {kind} {err}") from err
        except FileNotFoundError as err:
            raise RecordError(f"missing {kind} file", f"its {kind} {err}") from err

    def _image(self, tree: Element, name: str) -> tuple[Path, int]:
        """Return the image: the one that the file names, else the one called like the annotation."""
        told = (text_of(tree, "filename") or "").strip()
        names = [n for n in (told, f"{name}.jpg", f"{name}.png") if n]
        for k, candidate in enumerate(names):
            try:
                return self._inside("JPEGImages", candidate, "image")
            except RecordError as err:
                if err.reason == "unsafe file name" or k == len(names) - 1:
                    raise
        raise AssertionError

    def _size(self, tree: Element) -> tuple[int, int]:
        height, width = (_number(tree, f"size/{key}") for key in ("height", "width"))
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

    def _object(
        self, element: Element, size: tuple[int, int]
    ) -> tuple[str, tuple[float, ...], bool]:
        name = text_of(element, "name")
        if name is None:
            raise RecordError("missing key", "an object has no name")
        name = name if name in self._known else name.strip()
        if self._known and name not in self._known:
            raise RecordError("unknown category", f"class {name!r} is not among the classes")
        x1, y1, x2, y2 = (
            _number(element, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")
        )
        if x2 < x1 or y2 < y1:
            raise RecordError(
                "empty box", f"box {x1:g} {y1:g} {x2:g} {y2:g} of {name!r} has no extent"
            )
        box, clipped = inside_box((x1 - 1, y1 - 1, x2, y2), size)
        self._skipped["clipped to image"] += clipped
        difficult = (text_of(element, "difficult") or "0").strip()
        if difficult not in ("0", "1"):
            raise RecordError("bad value", f"difficult is {difficult!r}, not 0 or 1")
        return name, box, difficult == "1"


def _number(element: Element, path: str) -> float:
    text = text_of(element, path)
    if text is None:
        raise RecordError(
            "missing key",
            f"{path.replace('/', ' has no ')}" if "/" in path else f"{path} is missing",
        )
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:
        raise RecordError("bad value", f"{path} is {text[:40]!r}, not a number")
    return value

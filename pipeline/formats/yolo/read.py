"""Ultralytics YOLO folders: data.yaml, images/<split>/ and labels/<split>/*.txt, read and written.

Reference: `yolo:folder?split=train`. A line of a label file is `class cx cy w h`, or `class x1 y1 x2 y2 ...` for a polygon,
in parts of the image's width and height; an image without a label file, or with an empty one, shows nothing.
"""

from __future__ import annotations

import hashlib
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
from synthaug.pipeline.core.errors import DatasetError, one_line, suggest
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import inside
from synthaug.pipeline.formats import image_files as pictures
from synthaug.pipeline.formats.json_files import Checker, check_limits, read_bytes
from synthaug.pipeline.formats.validation import RecordError, inside_box, is_int, is_text
from synthaug.pipeline.formats.yolo.write import EXTRA, SPLITS, write, write_splits

__all__ = ["Config", "YoloDataset", "read", "write", "write_splits"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Shape = NDArray[np.float64]  # xyxy [4], or a polygon [K, 2]; pixels


@dataclass(frozen=True)
class Config:
    """Options of a YOLO reference; `path` is the folder of data.yaml, or the file itself."""

    path: str
    split: str = "train"
    images: str = ""  # folder of the images, instead of what data.yaml says
    on_bad: str = "stop"  # as in coco
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        check_limits(self.on_bad, self.max_pixels)
        if self.split not in SPLITS:
            raise ValueError(f"split is '{self.split}'; use {', '.join(SPLITS)}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A checked image with its labels."""

    image_id: str
    path: Path
    bytes: int
    size: tuple[int, int]  # (H, W)
    category: tuple[int, ...]
    shapes: tuple[Shape, ...]
    labels: str  # sha256 of the label file


class YoloDataset(Dataset):
    """The images of one split, by name; polygons are rasterised when a scene is asked for."""

    def __init__(self, categories: tuple[Category, ...], frames: list[Frame], digest: str) -> None:
        """`digest` is that of data.yaml."""
        self.categories = categories
        self.skipped: Counter[str] = Counter()
        self._frames, self._digest = frames, digest
        self._first = np.cumsum(
            [1, *(len(frame.category) for frame in frames)]
        ).tolist()  # object id

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = self._frames[index]
        rle = [
            masks.from_polygons([s.ravel()], frame.size) if s.ndim == 2 else None
            for s in frame.shapes
        ]
        boxes = np.array([box_of(shape) for shape in frame.shapes], np.float32).reshape(-1, 4)
        plain = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        objects = Objects.build(
            frame.category,
            boxes,
            id=np.arange(len(boxes)) + self._first[index],
            rle=rle,
            area=[a if r is None else masks.area(r) for a, r in zip(plain, rle, strict=True)],
            isthing=[self.categories[k].isthing for k in frame.category],
        )
        return Scene(frame.image_id, *frame.size, ImageRef(None, str(frame.path)), objects)

    def fingerprint(self) -> str:
        """Digest of data.yaml, of all labels and of the names and sizes of the images."""
        files = [(frame.image_id, frame.bytes, frame.labels) for frame in self._frames]
        return hashlib.sha256(json.dumps([self._digest, files]).encode()).hexdigest()


def box_of(shape: Shape) -> Shape:
    """Return the xyxy box [4] of a box or a polygon."""
    return shape if shape.ndim == 1 else np.concatenate([shape.min(0), shape.max(0)])


def read(config: Config, root: Path = Path()) -> YoloDataset:
    """Open one split of a YOLO folder and check every label; bad records stop the reading or are counted."""
    file = root / config.path
    file = file if file.suffix in (".yaml", ".yml") else file / "data.yaml"
    document, digest = _load(file)
    skipped: Counter[str] = Counter()
    reader = _Reader(categories_of(document, file), config.max_pixels, skipped)
    for folder, names in _listed(document, file, config, root):
        records = [{"folder": folder, "file_name": name} for name in names]
        Checker(folder, config.on_bad, skipped).each(records, "image", reader.add, key="file_name")
    dataset = YoloDataset(reader.categories, list(reader.frames.values()), digest)
    dataset.skipped = +skipped
    return dataset


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


def categories_of(document: dict[str, Any], file: Path) -> tuple[Category, ...]:
    """Return the classes that `names` lists or numbers from 0, with ids from 1; those of our own export get theirs back."""
    names = document.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DatasetError(
                f"{file}: the numbers in 'names' must run from 0 to {len(names) - 1}; correct it"
            )
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names or not all(is_text(name) for name in names):
        odd = (
            next((n for n in names if not is_text(n)), names) if isinstance(names, list) else names
        )
        raise DatasetError(
            f"{file}: 'names' must list the classes as texts, not {_shown(odd)}; put the names in quotes"
        )
    extra = document.get(EXTRA)
    kept = [_kept(record, k) for k, record in enumerate(extra)] if isinstance(extra, list) else []
    if [c.name for c in kept] == names and len({c.id for c in kept}) == len(kept):
        return tuple(kept)
    return tuple(
        Category(k, name) for k, name in enumerate(names, start=1)
    )  # 0 is background to many tools


def _shown(value: Any) -> str:
    """Return a value for a message; a few lines of YAML can stand for a list that no memory holds as text."""
    return type(value).__name__ if isinstance(value, (list, dict, set)) else repr(value)[:100]


def _kept(record: Any, index: int) -> Category:
    entry = record if isinstance(record, dict) else {}
    key: Any = entry.get("id")
    name: Any = entry.get("name")
    parent: Any = entry.get("supercategory", "")
    if not is_int(key) or not is_text(name) or not is_text(parent):
        return Category(index, "\0")  # no class is called so: the list is not believed
    return Category(key, name, parent, entry.get("isthing") is not False)


def _listed(
    document: dict[str, Any], file: Path, config: Config, root: Path
) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder of the split with the names of its images, sorted."""
    if config.images:
        folder = (root / config.images).resolve()
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; correct the option images=")
        yield folder, _images_in(folder)
        return
    entry = document.get(config.split) or (
        document.get("validation") if config.split == "val" else None
    )
    if not entry:
        there = [key for key in SPLITS if document.get(key)]
        raise DatasetError(
            f"{file}: names no images for split '{config.split}'{suggest(config.split, there)}"
        )
    for name in entry if isinstance(entry, list) else [entry]:
        place = _place(file, document.get("path") or "", name)
        if place.suffix == ".txt":
            lines = read_bytes(place)[0].decode("utf-8", "replace").splitlines()
            yield place.parent, [str(PurePosixPath(text.strip())) for text in lines if text.strip()]
        else:
            yield place, _images_in(place)


def _images_in(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES
    )


def _place(file: Path, base: Any, name: Any) -> Path:
    """Return the folder, or the list of images, that data.yaml names; it must lie in the folder of data.yaml."""
    home = file.parent.resolve()
    if not isinstance(base, str) or not isinstance(name, str) or "\0" in base + name:
        raise DatasetError(
            f"{file}: path and the splits must be names of folders, not {_shown(name)}"
        )
    # some exporters write ../train/images and mean train/images; Ultralytics reads it so where the first is not there
    for text in (name, name.removeprefix("../")):
        place = (home / base / text).resolve()
        if place.exists() and place.is_relative_to(home):
            return place
    raise DatasetError(
        f"{file}: {name!r} is no folder beside it; move the images there, or name them with images=FOLDER"
    )


class _Reader:
    """Checks images with their label files and keeps the good ones."""

    def __init__(
        self, categories: tuple[Category, ...], max_pixels: int, skipped: Counter[str]
    ) -> None:
        self.categories = categories
        self.frames: dict[str, Frame] = {}
        self._max_pixels, self._skipped = max_pixels, skipped

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
        try:
            path, size = inside(folder, name)
            head = pictures.header(path, self._max_pixels)
        except PermissionError as err:
            raise RecordError("unsafe file name", f"its name {err}") from err
        except FileNotFoundError as err:
            raise RecordError("missing image file", f"its image file {err}") from err
        except ValueError as err:
            raise RecordError("bad image", f"the image {err}") from err
        if head.turned:
            raise RecordError(
                "turned image",
                "it is to be turned by its EXIF tag; store it upright, or boxes are ambiguous",
            )
        text, digest = self._labels(path, folder)
        category, shapes = self._parse(text, head.size)
        self.frames[image_id] = Frame(image_id, path, size, head.size, category, shapes, digest)

    def _labels(self, image: Path, folder: Path) -> tuple[str, str]:
        """Return the text of the label file, which lies where the last folder `images` of the path is `labels`."""
        parts = list(image.parts)
        at = [k for k, part in enumerate(parts[:-1]) if part == "images"]
        parts[at[-1] if at else -1] = "labels" if at else parts[-1]
        file = Path(*parts).with_name(image.name.rsplit(".", 1)[0] + ".txt")
        home = Path(*parts[: at[-1] + 1]) if at else folder
        try:
            found, _ = inside(home, str(file.relative_to(home)))
        except PermissionError as err:
            raise RecordError("unsafe file name", f"its label file {err}") from err
        except FileNotFoundError:
            if file.is_symlink() or file.exists():
                raise RecordError("unreadable labels", f"{file} is no ordinary file") from None
            return "", ""
        data, digest = read_bytes(found)
        return data.decode("utf-8", "replace"), digest

    def _parse(self, text: str, size: tuple[int, int]) -> tuple[tuple[int, ...], tuple[Shape, ...]]:
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

    def _row(self, values: list[float], size: tuple[int, int]) -> tuple[int, Shape]:
        n = len(values)
        if n < 5 or n % 2 == 0:
            raise ValueError(f"{n} numbers; a box has 5 (class cx cy w h), a polygon 7, 9, 11 ...")
        if not all(map(math.isfinite, values)) or max(map(abs, values[1:])) > 2:
            raise ValueError(
                "a coordinate is not between 0 and 1; they are parts of the image's width and height"
            )
        label = int(values[0])
        if label != values[0] or not 0 <= label < len(self.categories):
            raise ValueError(f"class {values[0]:g} is not among the {len(self.categories)} names")
        scale = np.array([size[1], size[0]], np.float64)
        if n == 5:
            centre, half = np.array(values[1:3]) * scale, np.array(values[3:5]) * scale / 2
            if (half <= 0).any():
                raise RecordError("empty box", "the box has no extent")
            x1, y1, x2, y2 = (
                float(np.float32(round(v, 6))) for v in (*(centre - half), *(centre + half))
            )
            box, clipped = inside_box((x1, y1, x2, y2), size)
            self._skipped["clipped to image"] += clipped
            return label, np.array(box)
        points = np.array(values[1:]).reshape(-1, 2) * scale
        whole = np.round(points)
        points = np.where(
            np.abs(points - whole) < 1e-3, whole, points
        )  # outlines of pixels lie on whole numbers
        low, high = points.min(0), points.max(0)
        box, clipped = inside_box(
            (float(low[0]), float(low[1]), float(high[0]), float(high[1])), size
        )
        self._skipped["clipped to image"] += clipped
        return label, points.clip(0, scale)

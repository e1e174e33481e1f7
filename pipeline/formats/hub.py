"""Parquet data sets of the Hugging Face hub, read.

Reference: `hub:folder?split=train`. Objects are a struct of lists or a list of structs with a box
and a category each, as the detection sets of the hub have them. Class names come from the
ClassLabel in the schema. Whether boxes are x, y, width, height or two corners is told by which of
the two fits the images, or by `boxes`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.images import header_in
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, ImageRef
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import CheckedConfig, Checker, numbered_categories
from synthaug.pipeline.formats.coco.labels import read_segmentation
from synthaug.pipeline.formats.drawn import (
    Drawn,
    DrawnDataset,
    DrawnImage,
    Points,
    as_seen,
    drawn_box,
    listed_classes,
)
from synthaug.pipeline.formats.validation import Box, RecordError, flag, is_int, is_text, number

_SPLITS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_IMAGE = ("image", "img", "pixel_values")
_OBJECTS = ("objects", "annotations", "faces")
_BOX = ("bbox", "bboxes", "boxes", "box")
_CATEGORY = ("category", "categories", "category_id", "label", "labels", "class", "classes")
_CROWD = ("iscrowd", "is_crowd")
_KNOWN = ("area", "id", "bbox_id", "segmentation")
_BATCH = 64  # rows that are looked at together
_LARGEST = 1 << 30  # bytes of a row group
_CLEAR = 10  # times as many boxes must fit one way as fail to fit it
# what pyarrow raises for a broken file, depending on the place of the damage
_BROKEN = (pa.ArrowException, OSError, IndexError, UnicodeDecodeError)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a reference; `path` is the folder of a data set, or one Parquet file."""

    split: str = "train"
    boxes: str = ""  # xywh | xyxy; "" = which of them fits the images
    classes: str = ""  # text file with a class per line; "" = what the schema says

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes not in ("", "xywh", "xyxy"):
            raise ValueError(f"boxes is '{self.boxes}'; use xywh or xyxy")


@dataclass(frozen=True, slots=True)
class HubImage(DrawnImage):
    """A checked row: `path` is its file."""

    column: str
    group: int  # row group of the file
    row: int  # in the group


class HubDataset(DrawnDataset):
    """The rows of one split, read one row group at a time."""

    def __init__(
        self,
        categories: tuple[Category, ...],
        images: list[DrawnImage],
        skipped: Skipped,
        digests: list[str],
    ) -> None:
        """`digests` are those of the files' footers, which say where every byte lies."""
        super().__init__(categories, images, skipped)
        self._digests = digests

    def image(self, row: DrawnImage) -> ImageRef:
        """Return the image of a row."""
        assert isinstance(row, HubImage)
        values = _images_of(row.path, row.group, row.column)
        if row.row >= len(values):
            raise DatasetError(
                f"{row.path}: row group {row.group} has fewer rows than its footer says; "
                "download the file again"
            )
        value = values[row.row].as_py()
        path = value.get("path") if isinstance(value, dict) else None
        name = PurePosixPath(path).name if isinstance(path, str) else ""
        return ImageRef(_bytes_of(value), name or None, row.turned)

    def content(self) -> str:
        """Return the labels and the digests of the files."""
        return f"{super().content()} {self._digests}"


@lru_cache(2)
def _images_of(path: Path, group: int, column: str) -> Any:
    """Return the images of a row group."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, columns=[column]).column(column)
    except _BROKEN as err:
        raise DatasetError(
            f"{path}: row group {group} cannot be read ({one_line(err)}); download the file again"
        ) from err


def read(config: Config, root: Path = Path()) -> HubDataset:
    """Open one split; bad rows and objects stop the reading or are counted."""
    place = root / config.path
    files = _files(place, config.split)
    columns = _Columns.of(files[0], config, root)
    check = Checker(place, config.on_bad)
    records = _Records(columns, check)
    convention = config.boxes or _convention(records.all(files), columns, place)
    reader = _Reader(config, columns, convention, check)
    check.each(records.all(files), "row", reader.add, key="image_id")
    reader.count_unread(files)
    digests = [_footer_digest(file) for file in files]
    categories = columns.categories or numbered_categories(sorted(reader.names))
    return HubDataset(categories, reader.images, check.skipped, digests)


# --- files and columns ---


def _files(place: Path, split: str) -> list[Path]:
    """Return the Parquet files of a split, by name."""
    if place.is_file():
        return [place]
    files = sorted(place.rglob("*.parquet"))
    if not files:
        raise DatasetError(f"{place}: no Parquet file there; name the folder of a data set")
    split = next((name for name, others in _SPLITS.items() if split in others), split)
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file, place), []).append(file)
    if split in by_split:
        return by_split[split]
    if split == "train" and list(by_split) == [""]:
        return files
    known = ", ".join(name for name in by_split if name) or "none"
    raise DatasetError(
        f"{place}: no file of the split '{split}' (there are {known}); correct split="
    )


def _split_of(file: Path, place: Path) -> str:
    """Return the split in a file's path, as `train-00000-of-00002.parquet`."""
    words = [*file.relative_to(place).parts[:-1], file.stem.split("-")[0]]
    for word in reversed(words):
        for split, names in _SPLITS.items():
            if word.lower() in names:
                return split
    return ""


def _opened(file: Path) -> tuple[Any, Any]:
    """Return the schema and the footer of a Parquet file."""
    try:
        with pq.ParquetFile(file) as opened:
            return opened.schema_arrow, opened.metadata
    except _BROKEN as err:
        raise DatasetError(
            f"{file}: not a Parquet file, or cut short ({one_line(err)}); download it again"
        ) from err


def _footer_digest(file: Path) -> str:
    with file.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - 8))
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, size - 8 - length))
        return hashlib.sha256(stream.read(length)).hexdigest()


@dataclass(frozen=True)
class _Columns:
    """The names of the columns, and the classes that the schema lists."""

    image: str
    objects: str  # "" = boxes and categories are columns themselves
    box: str
    category: str
    crowd: str
    categories: tuple[Category, ...]
    image_id: bool
    has_size: bool
    others: tuple[str, ...]  # columns that are not read
    other_fields: tuple[str, ...]  # of objects

    @staticmethod
    def of(file: Path, config: Config, root: Path) -> _Columns:
        schema, _ = _opened(file)
        if b"synthaug" in (schema.metadata or {}):
            raise DatasetError(f"{file}: synthaug wrote this table; read it as hf: or parquet:")
        names = schema.names
        image = _one_of(names, _IMAGE)
        objects = _one_of(names, _OBJECTS)
        inner = names
        if objects:
            inner = _field_names(schema.field(objects).type)
        box, category = _one_of(inner, _BOX), _one_of(inner, _CATEGORY)
        if not image or not box or not category:
            raise DatasetError(
                f"{file}: no data set of objects: it needs a column 'image' and a column 'objects' "
                f"with 'bbox' and 'category'; there are {', '.join(names)[:200]}"
            )
        used = {image, objects or "", "image_id", "width", "height"}
        used_inner = {box, category, _one_of(inner, _CROWD), *_KNOWN}
        if not objects:
            used |= used_inner
        return _Columns(
            image,
            objects,
            box,
            category,
            _one_of(inner, _CROWD),
            _classes(schema, objects, category, config, root),
            "image_id" in names,
            "width" in names and "height" in names,
            tuple(name for name in names if name not in used),
            tuple(name for name in inner if objects and name not in used_inner),
        )

    def to_read(self, with_images: bool) -> list[str]:
        """Return the columns of a pass over the rows."""
        names = [self.objects] if self.objects else [self.box, self.category]
        if not self.objects and self.crowd:
            names.append(self.crowd)
        if self.image_id:
            names.append("image_id")
        if self.has_size:
            names += ["width", "height"]
        if with_images:
            names.append(self.image)
        return names


def _one_of(names: Any, wanted: tuple[str, ...]) -> str:
    return next((name for name in wanted if name in names), "")


def _field_names(kind: Any) -> list[str]:
    """Return the fields of a struct, or of the structs of a list."""
    if _is_list(kind):
        kind = kind.value_type
    return [field.name for field in kind] if pa.types.is_struct(kind) else []


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _classes(
    schema: Any, objects: str, category: str, config: Config, root: Path
) -> tuple[Category, ...]:
    """Return the classes of the option, or of the ClassLabel in the schema; else none."""
    if config.classes:
        return listed_classes(root / config.classes)
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        found: Any = described["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    names = _class_names(found, [objects, category] if objects else [category])
    if names and all(is_text(name) for name in names) and len(set(names)) == len(names):
        return numbered_categories(names)
    return ()


def _class_names(feature: Any, keys: list[str]) -> list[Any]:
    """Return the names of the ClassLabel that keys lead to, through lists at any step."""
    if isinstance(feature, list) and len(feature) == 1:
        return _class_names(feature[0], keys)
    if not isinstance(feature, dict):
        return []
    if keys and keys[0] in feature:
        return _class_names(feature[keys[0]], keys[1:])
    if "feature" in feature:
        return _class_names(feature["feature"], keys)
    if not keys and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        names: list[Any] = feature["names"]
        return names
    return []


# --- rows ---


class _Records:
    """The rows of files, a few at a time, with their place."""

    def __init__(self, columns: _Columns, check: Checker) -> None:
        self._columns = columns
        self._check = check

    def all(self, files: list[Path]) -> Iterator[Json]:
        """Yield the rows as records; image bytes are held for a few rows at most."""
        number = 0
        for file in files:
            schema, metadata = _opened(file)
            names = self._columns.to_read(not self._columns.has_size)
            missing = [name for name in (*names, self._columns.image) if name not in schema.names]
            if missing:
                raise DatasetError(f"{file}: column '{missing[0]}' is missing; the others have it")
            for group in range(metadata.num_row_groups):
                size = metadata.row_group(group).total_byte_size
                if size > _LARGEST:
                    raise DatasetError(
                        f"{file}: row group {group} has {size} bytes; write it in smaller ones"
                    )
                for row, record in enumerate(self._rows(file, group, names)):
                    place = {"file": file, "group": group, "row": row, "number": number}
                    yield record | {"place": place}
                    number += 1

    def _rows(self, file: Path, group: int, names: list[str]) -> Iterator[Json]:
        try:
            with pq.ParquetFile(file) as opened:
                batches = opened.iter_batches(_BATCH, [group], list(dict.fromkeys(names)))
                for batch in batches:
                    yield from batch.to_pylist()
        except _BROKEN as err:
            raise DatasetError(
                f"{file}: row group {group} cannot be read ({one_line(err)}); download it again"
            ) from err


def _objects_of(record: Json, columns: _Columns) -> list[Json]:
    """Return the objects of a row, a record each."""
    value = record[columns.objects] if columns.objects else record
    if value is None:
        return []
    if isinstance(value, list):
        return value
    names = [name for name, inner in value.items() if isinstance(inner, list)]
    if not columns.objects:
        names = [name for name in names if name in (columns.box, columns.category, columns.crowd)]
    lengths = {len(value[name]) for name in names}
    if len(lengths) > 1:
        raise RecordError("bad value", "the lists of its objects differ in length")
    count = lengths.pop() if lengths else 0
    return [{name: value[name][k] for name in names} for k in range(count)]


def _convention(records: Iterator[Json], columns: _Columns, place: Path) -> str:
    """Return "xywh" or "xyxy": what the boxes of all rows can be.

    Raises DatasetError where both fit, or neither does.
    """
    wrong = {"xywh": 0, "xyxy": 0}
    equal = {"xywh": 0, "xyxy": 0}  # boxes of the very area that is told
    count = 0
    for record in records:
        try:
            size = _size_of(record, columns)
            found = _objects_of(record, columns)
        except RecordError:
            continue  # told when it is read
        for one in found:
            count += 1
            for name in wrong:
                box = one.get(columns.box)
                wrong[name] += not _fits(box, name, size)
                equal[name] += _has_area(box, name, one.get("area"))
    if not count:
        return "xywh"
    for name, other in (("xywh", "xyxy"), ("xyxy", "xywh")):
        if wrong[name] * _CLEAR < wrong[other]:
            return name
        if wrong[name] == 0 and equal[name] == count > equal[other]:
            return name
    raise DatasetError(
        f"{place}: its boxes may be x, y, width, height or two corners ({wrong['xywh']} and "
        f"{wrong['xyxy']} of {count} do not fit); say boxes=xywh or boxes=xyxy"
    )


def _fits(value: Any, convention: str, size: Size) -> bool:
    """Whether a box lies in its image, read by a convention."""
    try:
        x1, y1, x2, y2 = _corners(value, convention)
    except RecordError:
        return False
    height, width = size
    return x1 < x2 <= width + 1 and y1 < y2 <= height + 1


def _has_area(value: Any, convention: str, area: Any) -> bool:
    """Whether a box, read by a convention, has this area."""
    try:
        x1, y1, x2, y2 = _corners(value, convention)
        told = number(area, "area")
    except RecordError:
        return False
    return abs((x2 - x1) * (y2 - y1) - told) <= 0.01 * told


def _corners(value: Any, convention: str) -> Box:
    """Return a box of the file as x, y, x, y."""
    if not isinstance(value, list) or len(value) != 4:
        raise RecordError("bad box", f"its box {value!r:.100} has no four numbers")
    x, y, third, fourth = (number(one, "its box") for one in value)
    if convention == "xywh":
        return x, y, x + third, y + fourth
    return x, y, third, fourth


def _size_of(record: Json, columns: _Columns, max_pixels: int = 1 << 31) -> Size:
    """Return the size (H, W) of a row's image as its objects count it."""
    if columns.has_size:
        height, width = record["height"], record["width"]
        if not is_int(height) or not is_int(width) or height < 1 or width < 1:
            raise RecordError("bad image size", f"its size {width!r}x{height!r} is none")
        if height * width > max_pixels:
            raise RecordError(
                "image too large", f"{width}x{height} is over max_pixels={max_pixels}"
            )
        return height, width
    try:
        header = header_in(io.BytesIO(_bytes_of(record[columns.image])), max_pixels)
    except ValueError as err:
        raise RecordError("bad image", f"the image {err}") from err
    return header.shown


def _bytes_of(value: Any) -> bytes:
    """Return the bytes of an image cell; nothing where it only names a file."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, bytes) and data:
        return data
    path = value.get("path") if isinstance(value, dict) else None
    raise ValueError(
        f"is not in the table (path {path!r:.100}); embed it with `embed_external_files`"
    )


class _Reader:
    """Checks rows and keeps the good ones."""

    def __init__(self, config: Config, columns: _Columns, convention: str, check: Checker) -> None:
        self.images: list[DrawnImage] = []
        self.names: set[str] = set()
        self._config = config
        self._columns = columns
        self._convention = convention
        self._check = check
        self._skipped: Skipped = check.skipped
        self._ids: set[str] = set()
        self._objects = 0

    def add(self, record: Json) -> None:
        """Check one row."""
        place = record["place"]
        image_id = str(place["number"])
        if self._columns.image_id and record["image_id"] is not None:
            image_id = str(record["image_id"])
        if not is_text(image_id) or image_id in self._ids:
            raise RecordError("duplicate image id", "another row has the same image_id")
        found = _objects_of(record, self._columns)
        try:
            size, turned = self._size(record)
        except RecordError:
            self._skipped["object of a skipped image"] += len(found)
            raise
        name = f"row {place['number']}"
        drawn = []
        for number_of, one in enumerate(found, start=1):
            part = f"object {number_of}"
            take = partial(self._drawn, one, size, f"{self._check.file.name}: {name}: {part}")
            kept = self._check.attempt(name, part, take)
            if kept is not None:
                drawn.append(kept)
        self._ids.add(image_id)
        self._objects += len(drawn)
        self.images.append(
            HubImage(
                image_id,
                place["file"],
                0,
                size,
                turned,
                tuple(drawn),
                self._columns.image,
                place["group"],
                place["row"],
            )
        )

    def count_unread(self, files: list[Path]) -> None:
        """Count the columns that a scene has no place for."""
        for name in self._columns.others:
            self._skipped.unread[f"'{name[:60]}' of images"] += len(self.images)
        for name in self._columns.other_fields:
            self._skipped.unread[f"'{name[:60]}' of objects"] += self._objects

    def _size(self, record: Json) -> tuple[Size, str]:
        size = _size_of(record, self._columns, self._config.max_pixels)
        if self._columns.has_size:
            return size, self._config.turned
        header = header_in(
            io.BytesIO(_bytes_of(record[self._columns.image])), self._config.max_pixels
        )
        return as_seen(header, None, self._config)

    def _drawn(self, one: Json, size: Size, label: str) -> Drawn:
        """Return the object of a record."""
        if not isinstance(one, dict):
            raise RecordError("bad value", "it is no object")
        name = self._name(one.get(self._columns.category))
        corners = _corners(one.get(self._columns.box), self._convention)
        if corners[2] <= corners[0] or corners[3] <= corners[1]:
            raise RecordError("empty box", f"its box {one[self._columns.box]!r:.100} has no extent")
        drawn = drawn_box(name, corners, size, lambda reason: self._skipped.note(reason, label))
        is_ignored = bool(self._columns.crowd) and flag(one, self._columns.crowd, False)
        rle: str | None = None
        polygons: tuple[Points, ...] = ()
        shape = read_segmentation(one.get("segmentation"), size)
        if isinstance(shape, list):
            polygons = tuple(part.reshape(-1, 2) for part in shape)
        elif shape is not None:
            rle = shape
        self.names.add(name)
        return Drawn(name, drawn.box, polygons, rle, is_ignored)

    def _name(self, value: Any) -> str:
        """Return the class of a category: a name, or the place of one in the list."""
        categories = self._columns.categories
        if is_text(value) and value:
            if categories and value not in {category.name for category in categories}:
                raise RecordError("unknown category", f"class {value!r:.100} is not listed")
            return value
        if not is_int(value):
            raise RecordError("unknown category", f"its category is {value!r:.100}")
        if not categories:
            raise RecordError(
                "unknown category",
                f"its category is {value} and the schema has no names; give them with classes=FILE",
                fatal=True,
            )
        if not 0 <= value < len(categories):
            raise RecordError(
                "unknown category", f"category {value} is not among the {len(categories)} names"
            )
        return categories[value].name

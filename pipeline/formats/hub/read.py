"""Parquet data sets of the Hugging Face hub, read.

Reference: `hub:folder?split=train`. Objects are a struct of lists or a list of structs with a box
and a category each, as the detection sets of the hub have them. Class names come from the
ClassLabel in the schema. Whether boxes are x, y, width, height or two corners is told by which of
the two fits the images, or by `boxes`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import header_in
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, ImageRef
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import BoxConfig, Checker, numbered_categories
from synthaug.pipeline.formats.coco.labels import (
    EMPTY_MASK,
    Segmentation,
    check_place,
    extent_of,
    read_segmentation,
)
from synthaug.pipeline.formats.drawn import (
    Canvas,
    Drawn,
    DrawnDataset,
    DrawnImage,
    Points,
    as_seen,
    drawn_box,
    listed_classes,
)
from synthaug.pipeline.formats.hub.columns import Columns
from synthaug.pipeline.formats.hub.rows import (
    bytes_of,
    convention_of,
    corners_of,
    objects_of,
    size_of,
)
from synthaug.pipeline.formats.hub.tables import (
    files_of,
    footer_digest,
    images_of,
    opened,
    records_of,
)
from synthaug.pipeline.formats.packed import Packed
from synthaug.pipeline.formats.shape_reader import ShapeReader
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    flag,
    is_int,
    is_name,
    is_text,
)


@dataclass(frozen=True)
class Config(BoxConfig):
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
        images: Packed[DrawnImage],
        skipped: Skipped,
        digests: list[str],
    ) -> None:
        """`digests` are those of the files' footers, which say where every byte lies."""
        super().__init__(categories, images, skipped)
        self._digests = digests

    def image(self, row: DrawnImage) -> ImageRef:
        """Return the image of a row."""
        assert isinstance(row, HubImage)
        values = images_of(row.path, row.group, row.column)
        if row.row >= len(values):
            raise DatasetError(
                f"{row.path}: row group {row.group} has fewer rows than its footer says; "
                "download the file again"
            )
        value = values[row.row].as_py()
        path = value.get("path") if isinstance(value, dict) else None
        name = PurePosixPath(path).name if isinstance(path, str) else ""
        return ImageRef(bytes_of(value), name or None, row.turned)

    def content(self) -> str:
        """Return the labels and the digests of the files."""
        return f"{super().content()} {self._digests}"


def read(config: Config, root: Path = Path()) -> HubDataset:
    """Open one split; bad rows and objects stop the reading or are counted."""
    place = root / config.path
    files = files_of(place, config.split)
    schema, _ = opened(files[0])
    listed: tuple[Category, ...] = ()
    if config.classes:
        listed = listed_classes(root / config.classes)
    columns = Columns.of(files[0], schema, listed)
    convention = config.boxes
    if not convention:
        convention = convention_of(records_of(files, columns), columns, place)
    check = Checker(place, config.on_bad, cuts_boxes=config.cuts_boxes)
    reader = _Reader(config, columns, convention, check)
    check.each(records_of(files, columns), "row", reader.add, key="image_id")
    reader.count_unread()
    digests = [footer_digest(file) for file in files]
    categories = columns.categories or numbered_categories(sorted(reader.names))
    return HubDataset(categories, reader.images, check.skipped, digests)


class _Reader(ShapeReader):
    """Checks rows and keeps the good ones."""

    def __init__(self, config: Config, columns: Columns, convention: str, check: Checker) -> None:
        super().__init__(check)
        self.names: set[str] = set()  # of the classes that objects have
        self._config = config
        self._columns = columns
        self._convention = convention
        self._objects = 0

    def add(self, record: Json) -> None:
        """Check one row."""
        place = record["place"]
        image_id = str(place["number"])
        if self._columns.image_id and record["image_id"] is not None:
            image_id = str(record["image_id"])
        if not is_text(image_id):
            raise RecordError("unsafe file name", "its image_id is not Unicode text")
        self.check_id(image_id, "another row has the same image_id")
        found = objects_of(record, self._columns)
        try:
            size, turned = self._size(record)
        except RecordError:
            self.skipped["object of a skipped image"] += len(found)
            raise

        owner = f"row {place['number']}"

        def draw(shape: tuple[str, Json], canvas: Canvas) -> Drawn:
            name, one = shape
            return self._drawn(one, canvas, f"{owner}: {name}")

        named = []
        for position, one in enumerate(found, start=1):
            name = f"object {position}"
            named.append((name, (name, one)))
        drawn = [one for one, _ in self.drawn(owner, size, named, draw)]
        self._objects += len(drawn)
        image = HubImage(
            image_id,
            place["file"],
            num_bytes=0,
            size=size,
            turned=turned,
            objects=(),
            column=self._columns.image,
            group=place["group"],
            row=place["row"],
        )
        self.keep(image, drawn)

    def count_unread(self) -> None:
        """Count the columns that a scene has no place for."""
        for name in self._columns.others:
            self.skipped.unread[f"'{name[:60]}' of images"] += len(self.images)
        for name in self._columns.other_fields:
            self.skipped.unread[f"'{name[:60]}' of objects"] += self._objects

    def _size(self, record: Json) -> tuple[Size, str]:
        size = size_of(record, self._columns, self._config.max_pixels)
        if self._columns.has_size:
            return size, self._config.turned
        header = header_in(
            io.BytesIO(bytes_of(record[self._columns.image])), self._config.max_pixels
        )
        return as_seen(header, None, self._config)

    def _drawn(self, one: Json, canvas: Canvas, told: str) -> Drawn:
        """Return the object of a record, which messages call `told`."""
        if not isinstance(one, dict):
            raise RecordError("bad value", "it is no object")
        name = self._name(one.get(self._columns.category))
        corners = corners_of(one.get(self._columns.box), self._convention)
        if corners[2] <= corners[0] or corners[3] <= corners[1]:
            raise RecordError("empty box", f"its box {one[self._columns.box]!r:.100} has no extent")
        drawn = drawn_box(name, corners, canvas)
        is_ignored = bool(self._columns.crowd) and flag(one, self._columns.crowd, False)
        rle: str | None = None
        polygons: tuple[Points, ...] = ()
        shape = self._mask(one.get("segmentation"), drawn.box, canvas, told)
        if isinstance(shape, list):
            polygons = tuple(part.reshape(-1, 2) for part in shape)
        elif shape is not None:
            rle = shape
        self.names.add(name)
        return Drawn(name, drawn.box, polygons, rle, is_ignored)

    def _mask(self, value: Any, box: Box, canvas: Canvas, told: str) -> Segmentation:
        """Return the mask of an object; None where it has none that can be used."""

        def checked() -> Segmentation:
            shape = read_segmentation(value, canvas.size)
            if shape is None:
                return None
            extent = extent_of(shape, canvas.size)
            if extent is None:
                canvas.note(EMPTY_MASK)
                return None
            check_place(extent, box)
            return shape

        return self.check.attempt(told, "", checked)

    def _name(self, value: Any) -> str:
        """Return the class of a category: a name, or the place of one in the list."""
        categories = self._columns.categories
        if is_name(value):
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

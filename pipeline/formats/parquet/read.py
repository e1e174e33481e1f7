"""Scene tables as Parquet shards.

The files of this folder alone know the layout on disk. Any Parquet reader opens them; `image.bytes`
is stored as it is, since PNG and JPEG do not shrink. On disk boxes are xywh float32 (COCO); the far
edge of a box that is off the grid of 1/64 pixel may come back one float32 step away.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import (
    Category,
    Dataset,
    ImageRef,
    Objects,
    Provenance,
    Relation,
    Scene,
)
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet.schema import (
    BLOBS,
    CAN_BE_EMPTY,
    LATER,
    OBJECTS,
    RELATIONS,
    SCENE_GRAPHS,
    SCHEMA,
    SCHEMA_VERSION,
    leaves,
)
from synthaug.pipeline.formats.parquet.write import ShardWriter, embed_files, write
from synthaug.pipeline.formats.source_files import check_shards

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "Config",
    "ParquetDataset",
    "ShardWriter",
    "embed_files",
    "open_table",
    "read",
    "write",
]

_NEVER_NULL = ("image_id", "image", "height", "width", "objects")
_OPENERS = 16  # threads
KEPT_BYTES = 64 * 1024**2  # of row groups in memory, per table
# what pyarrow raises for a broken file, depending on the place of the damage
_BROKEN = (pa.ArrowException, OSError, IndexError, UnicodeDecodeError)


@dataclass(frozen=True)
class Config:
    """Options of a Parquet reference.

    `path` is a folder of shards or one file, local or s3://.
    """

    path: str


@dataclass(frozen=True)
class _Shard:
    name: str
    size: int
    footer: str  # sha256 of the footer bytes
    groups: tuple[int, ...]  # rows of each row group
    has_relations: bool


class ParquetDataset(Dataset):
    """A table of shards, read one row group at a time.

    Memory does not grow with the number of rows, but for a byte of each.
    """

    def __init__(
        self,
        folder: Folder,
        shards: tuple[_Shard, ...],
        categories: tuple[Category, ...],
        blobs: tuple[str, ...],
    ) -> None:
        """Lay the row groups of the shards end to end.

        `blobs` are the columns of bytes to be read.
        """
        self.categories = categories
        self.skipped = Counter()
        self.has_relations = any(shard.has_relations for shard in shards)
        self._folder = folder
        self._shards = shards
        self._blobs = blobs
        self._groups: list[tuple[str, int]] = []  # (file, row group) of all groups
        self._starts = [0]  # first row of each group, and the number of rows
        for shard in shards:
            for number, rows in enumerate(shard.groups):
                self._groups.append((shard.name, number))
                self._starts.append(self._starts[-1] + rows)
        self._checked = bytearray(len(self))  # of each row whether its masks are known to be sound
        self._kept = RecentGroups(self._read_group, KEPT_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        # the cache stays home when a dataset is sent to a worker
        return ParquetDataset, (self._folder, self._shards, self.categories, self._blobs)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = bisect_right(self._starts, index) - 1
        scene = self._kept[group].scene(index - self._starts[group])
        if not self._checked[index]:
            _check_masks(scene, self._groups[group][0])
            self._checked[index] = 1
        return scene

    def fingerprint(self) -> str:
        """Return the digest of the names, sizes and footers.

        A footer holds a digest of its rows.
        """
        shards = [(shard.name, shard.size, shard.footer) for shard in self._shards]
        return hashlib.sha256(json.dumps(shards).encode()).hexdigest()

    def _read_group(self, group: int) -> _RowGroup:
        name, number = self._groups[group]
        try:
            with self._folder.open_input(name) as stream:
                file = pq.ParquetFile(stream, page_checksum_verification=True)
                table = file.read_row_group(number, columns=self._columns())
            return _RowGroup(table, len(self.categories))
        except _BROKEN as err:
            raise DatasetError(
                f"{self._folder.path}/{name}: row group {number} cannot be read ({one_line(err)}); "
                "write the file again"
            ) from err

    def _columns(self) -> list[str] | None:
        """Return the leaf columns to be read; None for all."""
        if self._blobs == BLOBS:
            return None
        return [leaf for leaf in leaves() if leaf in self._blobs or leaf not in BLOBS]


class RecentGroups:
    """The row groups read last, as many as fit into some bytes, but three at least.

    A small table is read once by a training that draws its rows at random, a large one stays where
    it is.
    """

    LEAST = 3

    def __init__(self, read: Callable[[int], _RowGroup], most_bytes: int) -> None:
        self._read = read
        self._most_bytes = most_bytes
        self._groups: OrderedDict[int, _RowGroup] = OrderedDict()  # the one used last at the end
        self._bytes = 0
        self._lock = Lock()  # several threads may read a table

    def __getitem__(self, number: int) -> _RowGroup:
        with self._lock:
            if number in self._groups:
                self._groups.move_to_end(number)
                return self._groups[number]
        group = self._read(number)
        with self._lock:
            self._keep(number, group)
        return group

    def _keep(self, number: int, group: _RowGroup) -> None:
        """Keep a group, and forget those that were not used for longest."""
        if number in self._groups:
            return  # another thread was faster
        self._groups[number] = group
        self._bytes += group.num_bytes
        while self._bytes > self._most_bytes and len(self._groups) > self.LEAST:
            _, oldest = self._groups.popitem(last=False)
            self._bytes -= oldest.num_bytes


class _RowGroup:
    """The scenes of one row group.

    Its lists are flattened once, so that a row is a slice.
    """

    def __init__(self, table: Any, num_categories: int) -> None:
        for name in _NEVER_NULL:
            if table.column(name).null_count:
                raise pa.ArrowInvalid(f"column '{name}' has empty rows")
        self._table = table
        self._has_relations = RELATIONS.name in table.column_names
        if self._has_relations:
            _check_relations(table.column(RELATIONS.name))
        self.num_bytes = int(table.nbytes)
        objects = table.column("objects").combine_chunks()
        there = {field.name for field in objects.type}
        lists = {
            name: objects.field(name) for name in OBJECTS if name in there or name not in LATER
        }
        self._bounds = _row_bounds(lists)
        self._values = {}
        for name, column in lists.items():
            field, _ = OBJECTS[name]
            self._values[field] = _flat(column, name)
        for name in LATER:
            if name not in there:
                field, _ = OBJECTS[name]
                self._values[field] = np.full(self._bounds[-1], np.nan, np.float32)
        category = self._values["category"]
        if len(category) and (category.min() < 0 or category.max() >= num_categories):
            raise pa.ArrowInvalid("an object has a category that the footer does not list")
        self._values["category"] = category.astype(np.int32)
        _check_boxes(self._values["boxes"], self._bounds, table)

    def scene(self, row: int) -> Scene:
        """Return the scene of a row, counted from the group's first."""
        start, end = self._bounds[row : row + 2]
        columns: Json = {}
        for name, values in self._values.items():
            if isinstance(values, np.ndarray):
                columns[name] = values[start:end].copy()  # a view would keep the whole group alive
            else:
                columns[name] = tuple(values[start:end].to_pylist())
        provenance = None
        origin = self._value("provenance", row)
        if origin is not None:
            provenance = Provenance(**origin)
        relations: list[Json] = []
        if self._has_relations:
            relations = self._value(RELATIONS.name, row) or []
        image = _image_ref(self._value("image", row))
        assert image is not None
        return Scene(
            image_id=self._value("image_id", row),
            height=self._value("height", row),
            width=self._value("width", row),
            image=image,
            objects=Objects(**columns),
            panoptic=_image_ref(self._value("panoptic", row)),
            provenance=provenance,
            relations=tuple(Relation(**relation) for relation in relations),
        )

    def _value(self, column: str, row: int) -> Any:
        return self._table.column(column)[row].as_py()


def _check_masks(scene: Scene, name: str) -> None:
    """Raise DatasetError for counts that are no mask of the scene of a shard `name`."""
    for rle in scene.objects.rle:
        if rle is None:
            continue
        try:
            masks.check(rle, scene.size)  # one without a pixel is right: of an object painted over
        except (ValueError, OverflowError) as err:
            raise DatasetError(
                f"{name}: image {scene.image_id!r}: an object's rle is no mask of the image "
                f"({one_line(err)}); write the table again"
            ) from err


def _row_bounds(lists: Json) -> list[int]:
    """Return the bounds [rows + 1] of each row's objects in the flattened lists."""
    expected = pc.list_value_length(lists["id"])
    for column in lists.values():
        lengths = pc.list_value_length(column)
        if lengths.null_count or not lengths.equals(expected):
            raise pa.ArrowInvalid("the lists of 'objects' differ in length")
    bounds: list[int] = np.cumsum([0, *expected.to_pylist()]).tolist()
    return bounds


def _check_relations(column: Any) -> None:
    """Raise ArrowInvalid for a relation without a subject, a predicate or an object."""
    entries = column.combine_chunks().flatten()
    parts = [entries.field(part.name) for part in RELATIONS.type.value_type]
    if entries.null_count or any(part.null_count for part in parts):
        raise pa.ArrowInvalid("relations has empty entries")


_TOLERANCE = 0.01  # pixels by which a box may stick out: it is kept as corner and sides


def _check_boxes(boxes: Any, bounds: list[int], table: Any) -> None:
    """Raise ArrowInvalid for boxes [N, 4] that do not lie in their images."""
    if len(boxes) != bounds[-1]:
        raise pa.ArrowInvalid("objects.bbox has empty entries")
    counts = np.diff(bounds)
    sides = []
    for name in ("width", "height"):
        values = table.column(name).to_numpy().astype(np.float64)
        if (values < 1).any():
            raise pa.ArrowInvalid(f"an image has a {name} under 1")
        sides.append(np.repeat(values, counts))
    limits = np.stack([*sides, *sides], axis=1) + _TOLERANCE  # [N, 4]
    inside = (boxes >= -_TOLERANCE) & (boxes <= limits)  # false for what is no number
    is_reversed = boxes[:, 2:] < boxes[:, :2]
    if not inside.all() or is_reversed.any():
        raise pa.ArrowInvalid("a box does not lie in its image")


def _flat(column: Any, name: str) -> Any:
    """Return the entries of all rows, boxes as xyxy [N, 4].

    Strings stay a pyarrow array; all else is numpy [N].
    """
    values = column.flatten()
    if name in ("bbox", "layout_bbox"):
        xywh = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
        corner = xywh[:, :2]
        sides = xywh[:, 2:]
        return np.concatenate([corner, corner + sides], axis=1)
    if pa.types.is_string(values.type):
        return values
    if values.null_count and name not in CAN_BE_EMPTY:
        raise pa.ArrowInvalid(f"objects.{name} has empty entries")
    return values.to_numpy(zero_copy_only=False)  # what is empty becomes NaN


def _image_ref(value: Json | None) -> ImageRef | None:
    if value is None:
        return None
    # tables of earlier versions hold images with an EXIF tag, as their boxes count them
    return ImageRef(value.get("bytes"), value["path"], "as_stored")


def read(
    config: Config, root: Path = Path(), pixels: bool = True, maps: bool = False, prefix: str = ""
) -> ParquetDataset:
    """Open the table that a reference names; the rest is as in `open_table`."""
    is_address = "://" in config.path
    address = config.path if is_address else str(root / config.path)
    return open_table(address, pixels, maps, prefix)


def open_table(
    place: Folder | Path | str, pixels: bool = True, maps: bool = False, prefix: str = ""
) -> ParquetDataset:
    """Open a table, of the shards whose names begin with `prefix`.

    `pixels=False` leaves out all image bytes, for plans and exports that need only the annotations;
    `maps=True` then keeps those of the panoptic maps.

    Raises DatasetError for what is missing, truncated, not a scene table or of another schema
    version.
    """
    address = place.uri if isinstance(place, Folder) else str(place)
    folder, file_name = Folder.at(address).split()
    names = [file_name] if file_name else _shard_names(folder, prefix)
    if not names:
        raise DatasetError(
            f"{address}: no {prefix}*.parquet file there; name a folder of shards or one file"
        )
    check_shards(address, names)
    shards: list[_Shard] = []
    categories: tuple[Category, ...] = ()
    for name, (shard, classes) in zip(names, _open_all(folder, names), strict=True):
        if not shards:
            categories = classes
        if classes != categories:
            raise DatasetError(
                f"{folder.path}/{name}: its categories differ from those of {names[0]}; "
                "keep one table per folder"
            )
        shards.append(shard)
    blobs: tuple[str, ...] = BLOBS
    if not pixels:
        blobs = BLOBS[1:] if maps else ()
    return ParquetDataset(folder, tuple(shards), categories, blobs)


def _shard_names(folder: Folder, prefix: str) -> list[str]:
    """Return the files of a table; hidden ones are of the system, such as ._a.parquet."""
    names = [name for name in folder.names() if not name.startswith(".")]
    return [name for name in names if name.startswith(prefix) and name.endswith(".parquet")]


def _open_all(folder: Folder, names: list[str]) -> list[tuple[_Shard, tuple[Category, ...]]]:
    """Check the footers of files; on an object store, which is slow, several at once."""
    if folder.is_local:
        return [_open(folder, name) for name in names]
    with ThreadPoolExecutor(_OPENERS) as openers:
        return list(openers.map(partial(_open, folder), names))


def _open(folder: Folder, name: str) -> tuple[_Shard, tuple[Category, ...]]:
    """Check the footer of a file and return the shard with the classes that it lists."""
    where = f"{folder.path}/{name}"
    try:
        with folder.open_input(name) as stream:
            size = stream.size()
            footer = _footer_bytes(stream, size)
            file = pq.ParquetFile(stream)
            schema = file.schema_arrow
            metadata = file.metadata
    except _BROKEN as err:
        raise DatasetError(
            f"{where}: not a Parquet file, or cut short ({one_line(err)}); write or copy it again"
        ) from err
    categories = _categories_of(where, metadata)
    _check_columns(where, schema)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    digest = hashlib.sha256(footer).hexdigest()
    has_relations = RELATIONS.name in schema.names
    return _Shard(name, size, digest, tuple(groups), has_relations), categories


def _footer_bytes(stream: Any, size: int) -> bytes:
    """Return the footer of a Parquet file; its length precedes the last 4 bytes."""
    end = max(0, size - 8)
    length = int.from_bytes(stream.read_at(4, end), "little")
    return bytes(stream.read_at(min(length, size), max(0, end - length)))


def _categories_of(where: str, metadata: Any) -> tuple[Category, ...]:
    """Return the classes in the footer of a file.

    Raises DatasetError when it holds no scene table that we know.
    """
    footer = (metadata.metadata or {}).get(b"synthaug")
    if footer is None:
        raise DatasetError(
            f"{where}: no scene table (the footer has no 'synthaug' key); a data set of the hub "
            "with a column of objects is read as hub:FOLDER"
        )
    try:
        table = json.loads(footer)
        version = table["schema_version"]
        if version == SCHEMA_VERSION:
            return tuple(Category(**category) for category in table["categories"])
    except (ValueError, TypeError, KeyError, RecursionError) as err:
        raise DatasetError(
            f"{where}: the 'synthaug' key of its footer is damaged; write the table again"
        ) from err
    raise DatasetError(
        f"{where}: schema_version {version!r} is unknown, this version reads {SCHEMA_VERSION}; "
        "use the synthaug that wrote it"
    )


def _check_columns(where: str, schema: Any) -> None:
    for field in SCENE_GRAPHS:
        if field.name == RELATIONS.name and field.name not in schema.names:
            continue
        index = schema.get_field_index(field.name)
        if index < 0:
            raise DatasetError(f"{where}: column '{field.name}' is missing; write the table again")
        found = schema.field(index).type
        for child in _children(field.type):
            if child in LATER:
                continue
            if not pa.types.is_struct(found) or found.get_field_index(child) < 0:
                raise DatasetError(
                    f"{where}: column '{field.name}.{child}' is missing; write the table again"
                )
        if not _readable_as(field.type, found):
            raise DatasetError(
                f"{where}: column '{field.name}' has type {found}, not {field.type}; "
                "write the table again"
            )


def _children(kind: Any) -> list[str]:
    if not pa.types.is_struct(kind):
        return []
    return [child.name for child in kind]


def _readable_as(ours: Any, found: Any) -> bool:
    """Return whether a column can be read as ours.

    Integers of any width can, other tools like to widen them.
    """
    if pa.types.is_struct(ours):
        there = [child for child in ours if found.get_field_index(child.name) >= 0]
        return all(_readable_as(child.type, found.field(child.name).type) for child in there)
    if pa.types.is_list(ours) and pa.types.is_struct(ours.value_type):
        return bool(pa.types.is_list(found)) and bool(found.value_type.equals(ours.value_type))
    if pa.types.is_list(ours):
        return bool(pa.types.is_list(found)) and _readable_as(ours.value_type, found.value_type)
    if pa.types.is_integer(ours):
        return bool(pa.types.is_integer(found))
    return bool(found.equals(ours))

"""Scene tables as Parquet shards; these three files (schema, reading, writing) alone know the layout on disk.

Any Parquet reader opens them; `image.bytes` is stored as it is, since PNG and JPEG do not shrink. On disk boxes are
xywh float32 (COCO); the far edge of a box that is off the grid of 1/64 pixel may come back one float32 step away.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet.schema import BLOBS, OBJECTS, SCHEMA, SCHEMA_VERSION, leaves
from synthaug.pipeline.formats.parquet.write import ShardWriter, taken_in, write

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "Config",
    "ParquetDataset",
    "ShardWriter",
    "read",
    "taken_in",
    "write",
]

_NEVER_NULL = ("image_id", "image", "height", "width", "objects")
_CACHED_GROUPS = 3
_BROKEN = (pa.ArrowException, OSError)


@dataclass(frozen=True)
class Config:
    """Options of a Parquet reference; `path` is a folder of shards or one file, local or s3://."""

    path: str


@dataclass(frozen=True)
class _Shard:
    name: str
    size: int
    footer: str  # sha256 of the footer bytes
    groups: tuple[int, ...]  # rows of each row group


class ParquetDataset(Dataset):
    """A table of shards, read one row group at a time; what is kept in memory does not depend on the number of rows."""

    def __init__(
        self,
        folder: Folder,
        shards: tuple[_Shard, ...],
        categories: tuple[Category, ...],
        blobs: tuple[str, ...],
    ) -> None:
        """`blobs` are the columns of bytes to be read."""
        self.categories = categories
        self.skipped: Counter[str] = Counter()
        self._state = (folder, shards, categories, blobs)
        rows = [(shard.name, group, n) for shard in shards for group, n in enumerate(shard.groups)]
        self._places = [(name, group) for name, group, _ in rows]
        self._starts = np.cumsum([0, *(n for _, _, n in rows)]).tolist()
        self._group = lru_cache(_CACHED_GROUPS)(self._read_group)

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            ParquetDataset,
            self._state,
        )  # the cache stays home when a dataset is sent to a worker

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = bisect_right(self._starts, index) - 1
        return self._group(place).scene(index - self._starts[place])

    def fingerprint(self) -> str:
        """Digest of the names, sizes and footers; a footer holds a digest of its rows."""
        shards = [(s.name, s.size, s.footer) for s in self._state[1]]
        return hashlib.sha256(json.dumps(shards).encode()).hexdigest()

    def _read_group(self, place: int) -> _Group:
        folder, _, categories, blobs = self._state
        name, group = self._places[place]
        columns = None if blobs == BLOBS else [f for f in leaves() if f in blobs or f not in BLOBS]
        try:
            with folder.open_input(name) as file:
                table = pq.ParquetFile(file, page_checksum_verification=True).read_row_group(
                    group, columns=columns
                )
            return _Group(table, len(categories))
        except _BROKEN as err:
            problem = f"{folder.path}/{name}: row group {group} cannot be read ({one_line(err)}); write the file again"
            raise DatasetError(problem) from err


class _Group:
    """One row group, its lists flattened once so that a row is a slice."""

    def __init__(self, table: Any, num_categories: int) -> None:
        for name in _NEVER_NULL:
            if table.column(name).null_count:
                raise pa.ArrowInvalid(f"column '{name}' has empty rows")
        self._table = table
        objects = table.column("objects").combine_chunks()
        lists = {name: objects.field(name) for name in OBJECTS}
        lengths = {name: pc.list_value_length(column) for name, column in lists.items()}
        if not all(
            length.equals(lengths["id"]) and not length.null_count for length in lengths.values()
        ):
            raise pa.ArrowInvalid("the lists of 'objects' differ in length")
        self._bounds = np.cumsum([0, *lengths["id"].to_pylist()])  # [rows + 1]
        self._values = {OBJECTS[name][0]: _flat(column, name) for name, column in lists.items()}
        category = self._values["category"]
        if len(category) and (category.min() < 0 or category.max() >= num_categories):
            raise pa.ArrowInvalid("an object has a category that the footer does not list")
        self._values["category"] = category.astype(np.int32)

    def scene(self, row: int) -> Scene:
        start, end = (int(bound) for bound in self._bounds[row : row + 2])
        values = {name: _part(column, start, end) for name, column in self._values.items()}
        table = self._table
        provenance = table.column("provenance")[row].as_py()
        image = _ref(table.column("image")[row].as_py())
        assert image is not None
        return Scene(
            image_id=table.column("image_id")[row].as_py(),
            height=table.column("height")[row].as_py(),
            width=table.column("width")[row].as_py(),
            image=image,
            objects=Objects(**values),
            panoptic=_ref(table.column("panoptic")[row].as_py()),
            provenance=None if provenance is None else Provenance(**provenance),
        )


def _flat(column: Any, name: str) -> Any:
    """Return the entries of all rows: strings as a pyarrow array, boxes as xyxy [N, 4], else numpy [N]."""
    values = column.flatten()
    if name in ("bbox", "layout_bbox"):
        boxes = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    if pa.types.is_string(values.type):
        return values
    if values.null_count and name != "verdict_score":
        raise pa.ArrowInvalid(f"objects.{name} has empty entries")
    return values.to_numpy(zero_copy_only=False)  # an empty verdict_score becomes NaN


def _part(column: Any, start: int, end: int) -> Any:
    if isinstance(column, np.ndarray):
        return column[start:end].copy()  # a view would keep the whole row group alive
    return tuple(column[start:end].to_pylist())


def _ref(value: dict[str, Any] | None) -> ImageRef | None:
    return None if value is None else ImageRef(value.get("bytes"), value["path"])


def read(
    config: Config, root: Path = Path(), pixels: bool = True, maps: bool = False, prefix: str = ""
) -> ParquetDataset:
    """Open a table, of the shards whose names begin with `prefix`.

    `pixels=False` leaves out all image bytes, for plans and exports that need only the annotations; `maps=True` then
    keeps those of the panoptic maps.

    Raises DatasetError for what is missing, truncated, not a scene table or of another schema version.
    """
    where = config.path if "://" in config.path else str(root / config.path)
    folder, name = Folder.at(where).split()
    names = (
        [name]
        if name
        else [
            name for name in folder.names() if name.startswith(prefix) and name.endswith(".parquet")
        ]
    )
    if not names:
        raise DatasetError(
            f"{where}: no {prefix}*.parquet file there; name a folder of shards or one file"
        )
    opened = [_open(folder, name) for name in names]
    categories = opened[0][1]
    for shard, other in opened:
        if other != categories:
            raise DatasetError(
                f"{folder.path}/{shard.name}: its categories differ from those of {names[0]}; keep one table per folder"
            )
    kept = BLOBS if pixels else BLOBS[1:] if maps else ()
    return ParquetDataset(folder, tuple(shard for shard, _ in opened), categories, kept)


def _open(folder: Folder, name: str) -> tuple[_Shard, tuple[Category, ...]]:
    where = f"{folder.path}/{name}"
    try:
        with folder.open_input(name) as file:
            size = file.size()
            length = int.from_bytes(file.read_at(4, max(0, size - 8)), "little")
            footer = file.read_at(min(length, size), max(0, size - 8 - length))
            found = pq.ParquetFile(file)
            schema, metadata = found.schema_arrow, found.metadata
    except _BROKEN as err:
        problem = (
            f"{where}: not a Parquet file, or cut short ({one_line(err)}); write or copy it again"
        )
        raise DatasetError(problem) from err
    ours = json.loads((metadata.metadata or {}).get(b"synthaug", b"{}"))
    if not ours:
        raise DatasetError(
            f"{where}: no scene table (the footer has no 'synthaug' key); import it through another format"
        )
    if ours.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(
            f"{where}: schema_version {ours.get('schema_version')!r} is unknown, this version reads {SCHEMA_VERSION}; "
            "use the synthaug that wrote it"
        )
    _check_columns(where, schema)
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    categories = tuple(Category(**category) for category in ours["categories"])
    return _Shard(name, size, hashlib.sha256(footer).hexdigest(), groups), categories


def _check_columns(where: str, schema: Any) -> None:
    for field in SCHEMA:
        at = schema.get_field_index(field.name)
        if at < 0:
            raise DatasetError(f"{where}: column '{field.name}' is missing; write the table again")
        found = schema.field(at).type
        inner = [child.name for child in field.type] if pa.types.is_struct(field.type) else []
        for name in inner:
            if not pa.types.is_struct(found) or found.get_field_index(name) < 0:
                raise DatasetError(
                    f"{where}: column '{field.name}.{name}' is missing; write the table again"
                )
        if not _alike(found, field.type):
            raise DatasetError(
                f"{where}: column '{field.name}' has type {found}, not {field.type}; write the table again"
            )


def _alike(found: Any, wanted: Any) -> bool:
    """Whether a column can be read as ours; integers of any width can, other tools like to widen them."""
    if pa.types.is_struct(wanted):
        return all(_alike(found.field(child.name).type, child.type) for child in wanted)
    if pa.types.is_list(wanted):
        return bool(pa.types.is_list(found)) and _alike(found.value_type, wanted.value_type)
    return bool(
        found.equals(wanted) or (pa.types.is_integer(found) and pa.types.is_integer(wanted))
    )

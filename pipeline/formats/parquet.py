"""Scene tables as Parquet shards: the only file that knows the layout on disk.

Any Parquet reader opens them; `image.bytes` is stored as it is, since PNG and JPEG do not shrink. On disk boxes are
xywh float32 (COCO); the far edge of a box that is off the grid of 1/64 pixel may come back one float32 step away.
"""

from __future__ import annotations

import hashlib
import io
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DatasetError
from pipeline.scene import Category, Dataset, ImageRef, Objects, Provenance, Scene
from pipeline.storage import Folder

SCHEMA_VERSION = 1
_GROUP_BYTES = 64 << 20  # a row group closes early rather than hold more image bytes than this
_BLOBS = ("image.bytes", "panoptic.bytes")  # columns of encoded pixels
_CACHED_GROUPS = 3
_BROKEN = (pa.ArrowException, OSError)

_BOX = pa.list_(pa.float32(), 4)
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# column on disk -> (field of Objects, type of one entry)
_OBJECTS: dict[str, tuple[str, Any]] = {
    "id": ("id", pa.int64()),
    "category": ("category", pa.int64()),  # int64, because `datasets` shows class names for no other type
    "bbox": ("boxes", _BOX),
    "rle": ("rle", pa.string()),
    "area": ("area", pa.float32()),
    "iscrowd": ("iscrowd", pa.bool_()),
    "isthing": ("isthing", pa.bool_()),
    "score": ("score", pa.float32()),
    "source": ("source", pa.string()),
    "layout_bbox": ("layout_boxes", _BOX),
    "verdict": ("verdict", pa.string()),
    "verdict_score": ("verdict_score", pa.float32()),
}
_PROVENANCE = pa.struct([(f.name, pa.int64() if f.name == "seed" else pa.string()) for f in fields(Provenance)])
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", _FILE),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("objects", pa.struct([(name, pa.list_(kind)) for name, (_, kind) in _OBJECTS.items()])),
        ("panoptic", _FILE),
        ("provenance", _PROVENANCE),
    ]
)
_NEVER_NULL = ("image_id", "image", "height", "width", "objects")


@dataclass(frozen=True)
class Config:
    """Options of a Parquet reference; `path` is a folder of shards or one file, local or s3://."""

    path: str


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    name: str
    size: int
    footer: str  # sha256 of the footer bytes
    groups: tuple[int, ...]  # rows of each row group


class ParquetDataset:
    """A table of shards, read one row group at a time; what is kept in memory does not depend on the number of rows."""

    def __init__(
        self, folder: Folder, shards: tuple[_Shard, ...], categories: tuple[Category, ...], blobs: tuple[str, ...]
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
        return ParquetDataset, self._state  # the cache stays home when a dataset is sent to a worker

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
        columns = None if blobs == _BLOBS else [f for f in _leaves() if f in blobs or f not in _BLOBS]
        try:
            with folder.open_input(name) as file:
                table = pq.ParquetFile(file, page_checksum_verification=True).read_row_group(group, columns=columns)
            return _Group(table, len(categories))
        except _BROKEN as err:
            problem = f"{folder.path}/{name}: row group {group} cannot be read ({_line(err)}); write the file again"
            raise DatasetError(problem) from err


class _Group:
    """One row group, its lists flattened once so that a row is a slice."""

    def __init__(self, table: Any, num_categories: int) -> None:
        for name in _NEVER_NULL:
            if table.column(name).null_count:
                raise pa.ArrowInvalid(f"column '{name}' has empty rows")
        self._table = table
        objects = table.column("objects").combine_chunks()
        lists = {name: objects.field(name) for name in _OBJECTS}
        lengths = {name: pc.list_value_length(column) for name, column in lists.items()}
        if not all(length.equals(lengths["id"]) and not length.null_count for length in lengths.values()):
            raise pa.ArrowInvalid("the lists of 'objects' differ in length")
        self._bounds = np.cumsum([0, *lengths["id"].to_pylist()])  # [rows + 1]
        self._values = {_OBJECTS[name][0]: _flat(column, name) for name, column in lists.items()}
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
        [name] if name else [name for name in folder.names() if name.startswith(prefix) and name.endswith(".parquet")]
    )
    if not names:
        raise DatasetError(f"{where}: no {prefix}*.parquet file there; name a folder of shards or one file")
    opened = [_open(folder, name) for name in names]
    categories = opened[0][1]
    for shard, other in opened:
        if other != categories:
            raise DatasetError(
                f"{folder.path}/{shard.name}: its categories differ from those of {names[0]}; keep one table per folder"
            )
    kept = _BLOBS if pixels else _BLOBS[1:] if maps else ()
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
        problem = f"{where}: not a Parquet file, or cut short ({_line(err)}); write or copy it again"
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
                raise DatasetError(f"{where}: column '{field.name}.{name}' is missing; write the table again")
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
    return bool(found.equals(wanted) or (pa.types.is_integer(found) and pa.types.is_integer(wanted)))


def _line(err: Exception) -> str:
    return " ".join(str(err).split())[:160].rstrip(".")


# --- writing ----------------------------------------------------------------------------------------------------------


class ShardWriter:
    """Writes one shard; the file appears when the block ends well, and its bytes depend on the scenes alone."""

    def __init__(
        self,
        folder: Folder,
        name: str,
        categories: Sequence[Category],
        job_hash: str = "",
        rows_per_group: int = 200,
    ) -> None:
        assert name.endswith(".parquet")
        assert rows_per_group > 0
        self._target = (folder, name)
        self._schema = SCHEMA.with_metadata(_metadata(categories, job_hash))
        self._rows_per_group = rows_per_group
        self._waiting: list[Scene] = []
        self._bytes = 0
        self._digest = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        with ExitStack() as stack:
            out = stack.enter_context(self._target[0].atomic_output(self._target[1]))
            self._writer = stack.enter_context(pq.ParquetWriter(out, self._schema, **_options()))
            self._stack = stack.pop_all()
        return self

    def write(self, scenes: Sequence[Scene]) -> None:
        """Append scenes; how they are cut into calls leaves no trace in the file."""
        for scene in scenes:
            self._waiting.append(scene)
            self._bytes += len(scene.image.data or b"")
            if len(self._waiting) == self._rows_per_group or self._bytes >= _GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        for scene in self._waiting:
            _digest_scene(self._digest, scene)
        self._writer.write_table(_table(self._waiting, self._schema), row_group_size=len(self._waiting))
        self._waiting, self._bytes = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._flush()
            # Pixels have no statistics in the footer; this makes the footer tell two tables apart.
            self._writer.add_key_value_metadata({"synthaug_content": self._digest.hexdigest()})


def write(dataset: Dataset, out: Folder, rows_per_shard: int = 1000) -> None:
    """Write a data set as shards `part-00000.parquet` ..., replacing earlier ones; image files are taken in."""
    for name in out.names():
        if name.startswith("part-") and name.endswith(".parquet"):
            out.delete(name)
    for shard, start in enumerate(range(0, max(1, len(dataset)), rows_per_shard)):
        with ShardWriter(out, f"part-{shard:05d}.parquet", dataset.categories) as writer:
            for index in range(start, min(len(dataset), start + rows_per_shard)):
                writer.write([taken_in(dataset[index])])


def taken_in(scene: Scene) -> Scene:
    """Return the scene with its image and map as bytes; only the files' names are kept: a table knows no machine."""
    panoptic = None if scene.panoptic is None else _bytes_of(scene.panoptic, scene.image_id)
    return replace(scene, image=_bytes_of(scene.image, scene.image_id), panoptic=panoptic)


def _bytes_of(ref: ImageRef, image_id: str) -> ImageRef:
    if ref.data is not None or ref.path is None:
        return ref
    path = Path(ref.path)
    try:
        return ImageRef(path.read_bytes(), path.name)
    except OSError as err:
        raise DatasetError(f"{path}: the image of {image_id!r} cannot be read ({err.strerror}); restore it") from err


def _table(scenes: Sequence[Scene], schema: Any) -> Any:
    bounds = pa.array(np.cumsum([0, *(len(scene.objects) for scene in scenes)]), pa.int32())
    lists = []
    for name, (attribute, kind) in _OBJECTS.items():
        entries = _entries([getattr(scene.objects, attribute) for scene in scenes], name, kind)
        lists.append(pa.ListArray.from_arrays(bounds, entries))
    columns = {
        "image_id": [scene.image_id for scene in scenes],
        "image": [_pair(scene.image) for scene in scenes],
        "height": [scene.height for scene in scenes],
        "width": [scene.width for scene in scenes],
        "panoptic": [_pair(scene.panoptic) for scene in scenes],
        "provenance": [None if scene.provenance is None else asdict(scene.provenance) for scene in scenes],
    }
    arrays = {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    arrays["objects"] = pa.StructArray.from_arrays(lists, names=list(_OBJECTS))
    return pa.Table.from_arrays([arrays[name] for name in SCHEMA.names], schema=schema)


def _entries(parts: list[Any], name: str, kind: Any) -> Any:
    """Join the values of one object column over the scenes of a row group."""
    if pa.types.is_string(kind):
        return pa.array([value for part in parts for value in part], kind)
    joined: NDArray[Any] = np.concatenate(parts)
    if kind == _BOX:
        xywh = np.concatenate([joined[:, :2], joined[:, 2:] - joined[:, :2]], axis=1)  # [N, 4] xywh, pixels
        return pa.FixedSizeListArray.from_arrays(pa.array(xywh.ravel(), pa.float32()), 4)
    return pa.array(joined, kind, mask=np.isnan(joined) if name == "verdict_score" else None)


def _pair(ref: ImageRef | None) -> dict[str, Any] | None:
    return None if ref is None else {"bytes": ref.data, "path": ref.path}


def _digest_scene(digest: Any, scene: Scene) -> None:
    for ref in (scene.image, scene.panoptic or ImageRef()):
        digest.update(hashlib.sha256(ref.data or b"").digest())
    values = {name: getattr(scene.objects, name) for name in (f.name for f in fields(Objects))}
    plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}
    origin = asdict(scene.provenance) if scene.provenance else None
    digest.update(json.dumps([scene.image_id, scene.height, scene.width, scene.image.path, plain, origin]).encode())


def _metadata(categories: Sequence[Category], job_hash: str) -> dict[str, str]:
    ours = {"schema_version": SCHEMA_VERSION, "categories": [asdict(c) for c in categories], "job": job_hash}
    return {
        "synthaug": json.dumps(ours, sort_keys=True),
        "huggingface": json.dumps({"info": {"features": _features(categories)}}),
    }


def _features(categories: Sequence[Category]) -> dict[str, Any]:
    """Describe the columns to Hugging Face `datasets`, in the older `Sequence` form that all its versions read."""
    names: list[str] = []
    for category in categories:  # class names must differ there
        names.append(f"{category.name} ({category.id})" if category.name in names else category.name)

    def feature(kind: Any) -> dict[str, Any]:
        if kind == _BOX:
            return {"feature": feature(pa.float32()), "length": 4, "_type": "Sequence"}
        return {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}

    features = {name: feature(SCHEMA.field(name).type) for name in ("image_id", "height", "width")}
    objects = {name: feature(kind) for name, (_, kind) in _OBJECTS.items()}
    objects["category"] = {"names": names, "_type": "ClassLabel"}
    features |= {"image": {"_type": "Image"}, "panoptic": {"_type": "Image"}}
    features["objects"] = {"feature": objects, "_type": "Sequence"}
    features["provenance"] = {field.name: feature(field.type) for field in _PROVENANCE}
    return {name: features[name] for name in SCHEMA.names}


@lru_cache(1)
def _leaves() -> tuple[str, ...]:
    """Return the leaf columns as Parquet spells them; only a file knows, so an empty one is written to memory."""
    out = io.BytesIO()
    with pq.ParquetWriter(out, SCHEMA):
        pass
    schema = pq.read_metadata(io.BytesIO(out.getvalue())).schema
    return tuple(schema.column(i).path for i in range(len(schema)))


def _options() -> dict[str, Any]:
    others = [name for name in _leaves() if name not in _BLOBS]
    return {
        "compression": {name: "none" if name == "image.bytes" else "zstd" for name in _leaves()},
        "use_dictionary": others,
        "write_statistics": others,
        "write_page_checksum": True,
    }

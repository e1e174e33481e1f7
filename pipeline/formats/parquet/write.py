"""Write scene tables as Parquet shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet.schema import (
    BLOBS,
    BOX,
    CAN_BE_EMPTY,
    OBJECTS,
    PROVENANCE,
    RELATIONS,
    SCENE_GRAPHS,
    SCHEMA,
    SCHEMA_VERSION,
    leaves,
)

_GROUP_BYTES = 64 << 20  # a row group closes early rather than hold more image bytes than this


class ShardWriter:
    """Writes one shard.

    The file appears when the block ends well, and its bytes depend on the scenes alone.
    """

    def __init__(
        self,
        folder: Folder,
        name: str,
        categories: Sequence[Category],
        job_hash: str = "",
        rows_per_group: int = 200,
        has_relations: bool = False,
    ) -> None:
        """With `has_relations` the table has a column of them."""
        assert name.endswith(".parquet")
        assert rows_per_group > 0
        self._folder = folder
        self._name = name
        columns = SCENE_GRAPHS if has_relations else SCHEMA
        self._schema = columns.with_metadata(_metadata(categories, job_hash, columns))
        self._rows_per_group = rows_per_group
        self._pending: list[Scene] = []
        self._pending_bytes = 0
        self._digest = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        with ExitStack() as stack:
            out = stack.enter_context(self._folder.atomic_output(self._name))
            self._writer = stack.enter_context(
                pq.ParquetWriter(out, self._schema, **_options(self._schema))
            )
            self._stack = stack.pop_all()
        return self

    def write(self, scenes: Iterable[Scene]) -> None:
        """Append scenes; how they are cut into calls leaves no trace in the file."""
        for scene in scenes:
            self._pending.append(scene)
            self._pending_bytes += len(scene.image.data or b"")
            is_full = len(self._pending) == self._rows_per_group
            if is_full or self._pending_bytes >= _GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        """Write the pending scenes as one row group."""
        if not self._pending:
            return
        for scene in self._pending:
            _update_digest(self._digest, scene)
        table = _table(self._pending, self._schema)
        self._writer.write_table(table, row_group_size=len(self._pending))
        self._pending = []
        self._pending_bytes = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._flush()
            # Pixels have no statistics in the footer; this makes the footer tell two tables apart.
            self._writer.add_key_value_metadata({"synthaug_content": self._digest.hexdigest()})


def write(dataset: Dataset, out: Folder, rows_per_shard: int = 1000) -> None:
    """Write a data set as shards `part-00000.parquet` ..., replacing earlier ones.

    Image files are embedded.
    """
    for name in out.names():
        if name.startswith("part-") and name.endswith(".parquet"):
            out.delete(name)
    for number, rows in enumerate(shard_rows(len(dataset), rows_per_shard)):
        write_rows(dataset, rows, out, f"part-{number:05d}.parquet")


def shard_rows(count: int, rows_per_shard: int) -> list[range]:
    """Return the rows of each shard of a table of `count` rows.

    An empty table has one shard.
    """
    starts = range(0, max(1, count), rows_per_shard)
    return [range(start, min(count, start + rows_per_shard)) for start in starts]


def write_rows(dataset: Dataset, rows: range, out: Folder, name: str) -> None:
    """Write some rows of a data set as one shard; image files are embedded."""
    has_relations = dataset.has_relations
    with ShardWriter(out, name, dataset.categories, has_relations=has_relations) as writer:
        for row in rows:
            writer.write([embed_files(dataset[row])])


def embed_files(scene: Scene) -> Scene:
    """Return the scene with its image and map as bytes.

    Only the files' names are kept: a table knows no machine.
    """
    image = _embed(scene.image, scene.image_id)
    panoptic = scene.panoptic
    if panoptic is not None:
        panoptic = _embed(panoptic, scene.image_id)
    return replace(scene, image=image, panoptic=panoptic)


def _embed(ref: ImageRef, image_id: str) -> ImageRef:
    if ref.path is None:
        return ref
    path = Path(ref.path)
    if ref.data is not None:
        return replace(ref, path=path.name)
    try:
        return ImageRef(path.read_bytes(), path.name)
    except OSError as err:
        raise DatasetError(
            f"{path}: the image of {image_id!r} cannot be read ({err.strerror}); restore it"
        ) from err


def _table(scenes: Sequence[Scene], schema: Any) -> Any:
    """Return scenes as an Arrow table with the columns of a schema."""
    columns: dict[str, list[Any]] = {
        "image_id": [scene.image_id for scene in scenes],
        "image": [_image_struct(scene.image) for scene in scenes],
        "height": [scene.height for scene in scenes],
        "width": [scene.width for scene in scenes],
        "panoptic": [_image_struct(scene.panoptic) for scene in scenes],
        "provenance": [_provenance_struct(scene) for scene in scenes],
    }
    arrays = {}
    for name, values in columns.items():
        arrays[name] = pa.array(values, SCHEMA.field(name).type)
    arrays["objects"] = _objects_column([scene.objects for scene in scenes])
    if RELATIONS.name in schema.names:
        relations = [[one._asdict() for one in scene.relations] for scene in scenes]
        arrays[RELATIONS.name] = pa.array(relations, RELATIONS.type)
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _objects_column(objects: Sequence[Objects]) -> Any:
    """Return the objects of a row group as a struct of lists."""
    lengths = [len(one) for one in objects]
    bounds = pa.array(np.cumsum([0, *lengths]), pa.int32())  # [rows + 1]
    lists = []
    for name, (attribute, kind) in OBJECTS.items():
        parts = [getattr(one, attribute) for one in objects]
        lists.append(pa.ListArray.from_arrays(bounds, _entries(parts, name, kind)))
    return pa.StructArray.from_arrays(lists, names=list(OBJECTS))


def _entries(parts: list[Any], name: str, kind: Any) -> Any:
    """Join the values of one object column over the scenes of a row group."""
    if pa.types.is_string(kind):
        return pa.array(list(chain.from_iterable(parts)), kind)
    joined: NDArray[Any] = np.concatenate(parts)
    if kind == BOX:
        corner = joined[:, :2]
        far = joined[:, 2:]
        xywh = np.concatenate([corner, far - corner], axis=1)  # [N, 4] pixels
        return pa.FixedSizeListArray.from_arrays(pa.array(xywh.ravel(), pa.float32()), 4)
    missing = np.isnan(joined) if name in CAN_BE_EMPTY else None
    return pa.array(joined, kind, mask=missing)


def _image_struct(ref: ImageRef | None) -> Json | None:
    return None if ref is None else {"bytes": ref.data, "path": ref.path}


def _provenance_struct(scene: Scene) -> Json | None:
    return None if scene.provenance is None else asdict(scene.provenance)


def _update_digest(digest: Any, scene: Scene) -> None:
    """Take all of a scene into a digest."""
    for ref in (scene.image, scene.panoptic or ImageRef()):
        digest.update(hashlib.sha256(ref.data or b"").digest())
    objects = {}
    for column in fields(Objects):
        values = getattr(scene.objects, column.name)
        objects[column.name] = values.tolist() if isinstance(values, np.ndarray) else values
    row = [
        scene.image_id,
        scene.height,
        scene.width,
        scene.image.path,
        objects,
        _provenance_struct(scene),
    ]
    if scene.relations:
        row.append(scene.relations)
    digest.update(json.dumps(row).encode())


def _metadata(categories: Sequence[Category], job_hash: str, columns: Any) -> dict[str, str]:
    """Return the keys of a shard's footer: ours and that of Hugging Face `datasets`."""
    ours = {
        "schema_version": SCHEMA_VERSION,
        "categories": [asdict(category) for category in categories],
        "job": job_hash,
    }
    theirs = {"info": {"features": _features(categories, columns)}}
    return {"synthaug": json.dumps(ours, sort_keys=True), "huggingface": json.dumps(theirs)}


def _features(categories: Sequence[Category], columns: Any) -> Json:
    """Describe the columns to Hugging Face `datasets`.

    This is the older `Sequence` form, which all its versions read.
    """
    objects = {name: _feature(kind) for name, (_, kind) in OBJECTS.items()}
    objects["category"] = {"names": _distinct_names(categories), "_type": "ClassLabel"}
    features = {name: _feature(SCHEMA.field(name).type) for name in ("image_id", "height", "width")}
    features["image"] = {"_type": "Image"}
    features["panoptic"] = {"_type": "Image"}
    features["objects"] = {"feature": objects, "_type": "Sequence"}
    features["provenance"] = {field.name: _feature(field.type) for field in PROVENANCE}
    ends = {field.name: _feature(field.type) for field in RELATIONS.type.value_type}
    features[RELATIONS.name] = {"feature": ends, "_type": "Sequence"}
    return {name: features[name] for name in columns.names}


def _feature(kind: Any) -> Json:
    """Describe one column of an Arrow type."""
    if kind == BOX:
        return {"feature": _feature(pa.float32()), "length": 4, "_type": "Sequence"}
    name = str(kind)
    if name == "float":
        name = "float32"
    return {"dtype": name, "_type": "Value"}


def _distinct_names(categories: Sequence[Category]) -> list[str]:
    """Return the class names, with the id where a name comes again.

    `datasets` wants them different.
    """
    names: list[str] = []
    for category in categories:
        name = category.name
        if name in names:
            name = f"{category.name} ({category.id})"
        names.append(name)
    return names


def _options(schema: Any) -> Json:
    """Return pyarrow's options: encoded images are neither compressed nor counted."""
    names = leaves(schema.remove_metadata())
    compression = dict.fromkeys(names, "zstd")
    compression["image.bytes"] = "none"
    without_pixels = [name for name in names if name not in BLOBS]
    return {
        "compression": compression,
        "use_dictionary": without_pixels,
        "write_statistics": without_pixels,
        "write_page_checksum": True,
    }

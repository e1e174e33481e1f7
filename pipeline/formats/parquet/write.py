"""Scene tables into Parquet shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet.schema import (
    BLOBS,
    BOX,
    OBJECTS,
    PROVENANCE,
    SCHEMA,
    SCHEMA_VERSION,
    leaves,
)

_GROUP_BYTES = 64 << 20  # a row group closes early rather than hold more image bytes than this


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
        self._writer.write_table(
            _table(self._waiting, self._schema), row_group_size=len(self._waiting)
        )
        self._waiting, self._bytes = [], 0

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
        raise DatasetError(
            f"{path}: the image of {image_id!r} cannot be read ({err.strerror}); restore it"
        ) from err


def _table(scenes: Sequence[Scene], schema: Any) -> Any:
    bounds = pa.array(np.cumsum([0, *(len(scene.objects) for scene in scenes)]), pa.int32())
    lists = []
    for name, (attribute, kind) in OBJECTS.items():
        entries = _entries([getattr(scene.objects, attribute) for scene in scenes], name, kind)
        lists.append(pa.ListArray.from_arrays(bounds, entries))
    columns = {
        "image_id": [scene.image_id for scene in scenes],
        "image": [_pair(scene.image) for scene in scenes],
        "height": [scene.height for scene in scenes],
        "width": [scene.width for scene in scenes],
        "panoptic": [_pair(scene.panoptic) for scene in scenes],
        "provenance": [
            None if scene.provenance is None else asdict(scene.provenance) for scene in scenes
        ],
    }
    arrays = {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    arrays["objects"] = pa.StructArray.from_arrays(lists, names=list(OBJECTS))
    return pa.Table.from_arrays([arrays[name] for name in SCHEMA.names], schema=schema)


def _entries(parts: list[Any], name: str, kind: Any) -> Any:
    """Join the values of one object column over the scenes of a row group."""
    if pa.types.is_string(kind):
        return pa.array([value for part in parts for value in part], kind)
    joined: NDArray[Any] = np.concatenate(parts)
    if kind == BOX:
        xywh = np.concatenate(
            [joined[:, :2], joined[:, 2:] - joined[:, :2]], axis=1
        )  # [N, 4] xywh, pixels
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
    digest.update(
        json.dumps(
            [scene.image_id, scene.height, scene.width, scene.image.path, plain, origin]
        ).encode()
    )


def _metadata(categories: Sequence[Category], job_hash: str) -> dict[str, str]:
    ours = {
        "schema_version": SCHEMA_VERSION,
        "categories": [asdict(c) for c in categories],
        "job": job_hash,
    }
    return {
        "synthaug": json.dumps(ours, sort_keys=True),
        "huggingface": json.dumps({"info": {"features": _features(categories)}}),
    }


def _features(categories: Sequence[Category]) -> dict[str, Any]:
    """Describe the columns to Hugging Face `datasets`, in the older `Sequence` form that all its versions read."""
    names: list[str] = []
    for category in categories:  # class names must differ there
        names.append(
            f"{category.name} ({category.id})" if category.name in names else category.name
        )

    def feature(kind: Any) -> dict[str, Any]:
        if kind == BOX:
            return {"feature": feature(pa.float32()), "length": 4, "_type": "Sequence"}
        return {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}

    features = {name: feature(SCHEMA.field(name).type) for name in ("image_id", "height", "width")}
    objects = {name: feature(kind) for name, (_, kind) in OBJECTS.items()}
    objects["category"] = {"names": names, "_type": "ClassLabel"}
    features |= {"image": {"_type": "Image"}, "panoptic": {"_type": "Image"}}
    features["objects"] = {"feature": objects, "_type": "Sequence"}
    features["provenance"] = {field.name: feature(field.type) for field in PROVENANCE}
    return {name: features[name] for name in SCHEMA.names}


def _options() -> dict[str, Any]:
    others = [name for name in leaves() if name not in BLOBS]
    return {
        "compression": {name: "none" if name == "image.bytes" else "zstd" for name in leaves()},
        "use_dictionary": others,
        "write_statistics": others,
        "write_page_checksum": True,
    }

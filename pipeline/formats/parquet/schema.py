"""Columns of scene tables: one per field of Scene, Objects and Provenance."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1
BLOBS = ("image.bytes", "panoptic.bytes")  # columns of encoded pixels

BOX = pa.list_(pa.float32(), 4)
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# column on disk -> (field of Objects, type of one entry)
OBJECTS: dict[str, tuple[str, Any]] = {
    "id": ("id", pa.int64()),
    # int64, because `datasets` shows class names for no other type
    "category": ("category", pa.int64()),
    "bbox": ("boxes", BOX),
    "rle": ("rle", pa.string()),
    "area": ("area", pa.float32()),
    "iscrowd": ("iscrowd", pa.bool_()),
    "isthing": ("isthing", pa.bool_()),
    "score": ("score", pa.float32()),
    "source": ("source", pa.string()),
    "layout_bbox": ("layout_boxes", BOX),
    "verdict": ("verdict", pa.string()),
    "verdict_score": ("verdict_score", pa.float32()),
    "verdict_iou": ("verdict_iou", pa.float32()),
}
CAN_BE_EMPTY = ("verdict_score", "verdict_iou")  # numbers that not every object has: NaN
LATER = ("verdict_iou",)  # columns that older tables lack: empty
_LISTS = [(name, pa.list_(kind)) for name, (_, kind) in OBJECTS.items()]
PROVENANCE = pa.struct(
    [
        ("seed", pa.int64()),
        ("generator", pa.string()),
        ("checkpoint", pa.string()),
        ("source_image", pa.string()),
        ("reason", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", _FILE),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("objects", pa.struct(_LISTS)),
        ("panoptic", _FILE),
        ("provenance", PROVENANCE),
    ]
)
RELATIONS = pa.field(
    "relations",
    pa.list_(
        pa.struct(
            [("subject", pa.int64()), ("predicate", pa.string()), ("object", pa.int64())],
        )
    ),
)
SCENE_GRAPHS = SCHEMA.append(RELATIONS)  # of tables whose images have relations


@lru_cache(2)
def leaves(schema: Any = SCENE_GRAPHS) -> tuple[str, ...]:
    """Return the leaf columns as Parquet spells them, by default of scene graphs.

    Only a file knows, so an empty one is written to memory.
    """
    file = io.BytesIO()
    pq.ParquetWriter(file, schema).close()
    schema = pq.read_metadata(io.BytesIO(file.getvalue())).schema
    return tuple(schema.column(i).path for i in range(len(schema)))

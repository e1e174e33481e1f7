"""What a detector and a pair of scissors found in one validation image and in its synthetic twins; kept in Parquet.

Scores are computed from these rows, so looking at the images is done once, in parallel, and resumed after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores.classification.crops import CropRow
from synthaug.pipeline.scores.detection.evaluator import DetectionRow

KINDS = {  # column -> (dtype, trailing shape)
    "boxes": (np.float32, (4,)),
    "labels": (np.int64, ()),
    "crowd": (np.bool_, ()),
    "pred_boxes": (np.float32, (4,)),
    "pred_labels": (np.int64, ()),
    "pred_scores": (np.float32, ()),
    "crop_labels": (np.int64, ()),
}


@dataclass(frozen=True)
class Evidence:
    """One image: what was found in it, and its crops; either may be absent."""

    real: bool
    detection: DetectionRow | None
    crops: CropRow | None


def write(folder: Folder, name: str, rows: Sequence[Evidence], crop_size: int) -> None:
    """Write rows as one Parquet file, atomically; arrays are kept as their bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_record(row, crop_size) for row in rows], schema=_schema())
    with folder.atomic_output(name) as stream:
        pq.write_table(table, stream, compression="zstd", row_group_size=64)


def read(folder: Folder) -> Iterator[Evidence]:
    """Read all rows of a folder, file by file, row group by row group."""
    import pyarrow.parquet as pq

    for name in folder.names():
        if name.endswith(".parquet"):
            file = pq.ParquetFile(folder.open_input(name))
            for group in range(file.num_row_groups):
                yield from map(_evidence, file.read_row_group(group).to_pylist())


def _schema() -> Any:
    import pyarrow as pa

    numbers = [
        pa.field(n, pa.int64())
        for n in ("index", "sample", "height", "width", "crop_size", "crops_skipped")
    ]
    flags = [pa.field(n, pa.bool_()) for n in ("real", "detected", "cropped")]
    return pa.schema(
        [
            *flags,
            *numbers,
            *(pa.field(n, pa.binary()) for n in KINDS),
            pa.field("crops", pa.binary()),
        ]
    )


def _record(row: Evidence, crop_size: int) -> dict[str, Any]:
    found, cut = row.detection, row.crops
    first = found or cut
    assert first is not None
    record: dict[str, Any] = {
        "real": row.real,
        "detected": found is not None,
        "cropped": cut is not None,
    }
    record |= {"index": first.index, "sample": first.sample, "crop_size": crop_size}
    if found:
        record |= {"height": found.height, "width": found.width}
        record |= {
            n: np.asarray(getattr(found, n), KINDS[n][0]).tobytes()
            for n in KINDS
            if n != "crop_labels"
        }
    if cut:
        record |= {
            "crop_labels": cut.labels.tobytes(),
            "crops": cut.crops.tobytes(),
            "crops_skipped": cut.skipped,
        }
    return record


def _evidence(record: dict[str, Any]) -> Evidence:
    def array(name: str) -> Any:
        dtype, shape = KINDS[name]
        return np.frombuffer(record[name], dtype).reshape(-1, *shape)

    detection = crops = None
    if record["detected"]:
        arrays = {n: array(n) for n in KINDS if n != "crop_labels"}
        detection = DetectionRow(
            record["index"], record["height"], record["width"], sample=record["sample"], **arrays
        )
    if record["cropped"]:
        side = record["crop_size"]
        pixels = np.frombuffer(record["crops"], np.uint8).reshape(-1, side, side, 3)
        crops = CropRow(
            record["index"], record["sample"], pixels, array("crop_labels"), record["crops_skipped"]
        )
    return Evidence(record["real"], detection, crops)

"""Detections of a table with its ground truth in Parquet: a row per image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from synthaug.pipeline.core.record_files import read_records, write_records
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores.detection.evaluator import DetectionRow


def write_rows(folder: Folder, name: str, rows: Sequence[DetectionRow]) -> None:
    """Write the rows of a shard as the file `name` (without suffix), atomically."""
    records = []
    for row in rows:
        record = {"index": row.index, "sample": row.sample, **row.arrays()}
        records.append(record)
    write_records(folder, name, records)


def read_rows(folder: Folder) -> Iterator[DetectionRow]:
    """Yield the rows of all shards of a folder, in the order of their names."""
    for record in read_records(folder):
        yield DetectionRow.from_arrays(record["index"], record, sample=record["sample"])

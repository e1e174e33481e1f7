"""Records of the score extractors in Parquet: a row per image, a column per array of each extractor.

An extractor is read by its columns alone, so a score pays only for what it asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthaug.pipeline.core.record_files import read_records, write_records
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores.base import Arrays, Record, View

POSITION = ("index", "layout", "sample")


def write(
    folder: Folder, name: str, views: Sequence[View], found: Mapping[str, Sequence[Arrays | None]]
) -> None:
    """Write a shard, atomically: by key what each look found in each of the views, None where it was not shown one."""
    records: list[dict[str, Any]] = [
        {"index": view.index, "layout": view.layout, "sample": view.sample} for view in views
    ]
    for key, rows in found.items():
        for record, arrays in zip(records, rows, strict=True):
            for array, value in (arrays or {}).items():
                record[f"{key}/{array}"] = value
    write_records(folder, name, records)


def read(folder: Folder, key: str, table: str) -> Iterator[Record]:
    """Yield what the look `key` saw of a table, image by image in its order; one row group is in memory at a time."""
    prefix = f"{key}/"

    def wanted(column: str) -> bool:
        return column in POSITION or column.startswith(prefix)

    for record in read_records(folder, f"{table}-", wanted):
        index, layout, sample = (record.pop(name) for name in POSITION)
        arrays = {column.removeprefix(prefix): value for column, value in record.items()}
        if arrays:
            yield Record(table, index, layout, sample, arrays)

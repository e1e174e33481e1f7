"""What the looks of the scores saw, kept in Parquet: a row per image, a column per array of each look.

Arrays are kept in numpy's own format, which says their type and shape. A look is read by its columns alone, so a score pays
only for what it asked for.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.scores.base import Arrays, Record, View

PLACE = ("index", "layout", "sample")
GROUP_ROWS = 64


def write(
    folder: Folder, name: str, views: Sequence[View], found: Mapping[str, Sequence[Arrays | None]]
) -> None:
    """Write a shard, atomically: for each look's key what it found in each of the views, None where it was not shown one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        key: pa.array([getattr(v, key) for v in views], pa.int64()) for key in PLACE
    }
    for key, rows in found.items():
        assert len(rows) == len(views)
        names = next((tuple(row) for row in rows if row is not None), ())
        assert all(row is None or tuple(row) == names for row in rows), (
            f"{key}: records with different arrays"
        )
        columns[f"{key}/"] = pa.array([row is not None for row in rows], pa.bool_())
        for array in names:
            cells = [None if row is None else _bytes(row[array]) for row in rows]
            columns[f"{key}/{array}"] = pa.array(cells, pa.large_binary())
    with folder.atomic_output(name) as stream:
        pq.write_table(pa.table(columns), stream, compression="zstd", row_group_size=GROUP_ROWS)


def read(folder: Folder, key: str, table: str) -> Iterator[Record]:
    """Yield what the look `key` saw of a table, image by image in its order; one row group is in memory at a time."""
    import pyarrow.parquet as pq

    for name in folder.names():
        if not (name.startswith(f"{table}-") and name.endswith(".parquet")):
            continue
        with folder.open_input(name) as stream:
            file = pq.ParquetFile(stream)
            columns = [c for c in file.schema_arrow.names if c in PLACE or c.startswith(f"{key}/")]
            if f"{key}/" not in columns:
                continue
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group, columns=columns).to_pylist():
                    if row[f"{key}/"]:
                        yield _record(table, key, row)


def _record(table: str, key: str, row: Mapping[str, Any]) -> Record:
    prefix = f"{key}/"
    arrays = {
        c.removeprefix(prefix): _array(v)
        for c, v in row.items()
        if c.startswith(prefix) and c != prefix
    }
    return Record(table, row["index"], row["layout"], row["sample"], arrays)


def _bytes(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array) if np.ndim(array) else array, allow_pickle=False)
    return out.getvalue()


def _array(data: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array

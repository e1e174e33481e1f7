"""Records in Parquet: measurements of images, a column per value.

A value is an int, a string, or an array of any type and shape, which is kept in NumPy's own format.
A record may lack values that others of the same file have. Reading some columns costs nothing for
the others.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.storage import Folder

SUFFIX = ".parquet"
GROUP_ROWS = 64  # records read at a time
_TYPES = {int: "int64", str: "string"}  # of values that are no arrays

Records = Sequence[Mapping[str, Any]]  # of int | str | NDArray


def write_records(folder: Folder, name: str, records: Records) -> None:
    """Write records as the file `name` (without suffix), atomically.

    A column holds values of one kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for column in _column_names(records):
        values = [record.get(column) for record in records]
        columns[column] = _column(column, values)
    table = pa.table(columns)
    with folder.atomic_output(f"{name}{SUFFIX}") as stream:
        pq.write_table(table, stream, compression="zstd", row_group_size=GROUP_ROWS)


def read_records(
    folder: Folder, prefix: str = "", wanted: Callable[[str], bool] | None = None
) -> Iterator[Json]:
    """Yield the records of all files with a prefix, in the order of the names.

    Only columns that are `wanted` are read (None: all). Values that a record lacks are left out.
    One row group is in memory at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in folder.names():
        if not name.startswith(prefix) or not name.endswith(SUFFIX):
            continue
        with folder.open_input(name) as stream:
            file = pq.ParquetFile(stream)
            fields = [field for field in file.schema_arrow if wanted is None or wanted(field.name)]
            columns = [field.name for field in fields]
            if not columns:
                continue
            arrays = {field.name for field in fields if pa.types.is_large_binary(field.type)}
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group, columns=columns).to_pylist():
                    yield _record(row, arrays)


def _column_names(records: Records) -> list[str]:
    """Return the names of all values, in the order in which they first occur."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    return list(names)


def _column(name: str, values: Sequence[Any]) -> Any:
    """Return a pyarrow array of values of one kind; None stays null."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    assert len(kinds) == 1, f"{name}: values of different kinds, {kinds}"
    (kind,) = kinds
    if kind in _TYPES:
        return pa.array(values, _TYPES[kind])
    cells: list[bytes | None] = []
    for value in values:
        if value is None:
            cells.append(None)
        else:
            cells.append(_to_bytes(value))
    return pa.array(cells, pa.large_binary())


def _record(row: Mapping[str, Any], arrays: set[str]) -> Json:
    record = {}
    for name, value in row.items():
        if value is None:
            continue
        if name in arrays:
            value = _from_bytes(value)
        record[name] = value
    return record


def _to_bytes(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _from_bytes(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array

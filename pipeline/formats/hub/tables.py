"""The Parquet files of a data set of the hub, by split, and their rows."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.hub.columns import Columns
from synthaug.pipeline.formats.source_files import check_shards, files_below

_SPLITS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_BATCH = 64  # rows that are looked at together
_LARGEST = 1 << 30  # bytes of a row group
# what pyarrow raises for a broken file, depending on the place of the damage
_BROKEN = (pa.ArrowException, OSError, IndexError, UnicodeDecodeError)


def files_of(place: Path, split: str) -> list[Path]:
    """Return the Parquet files of a split, by name."""
    if place.is_file():
        return [place]
    files = []
    if place.is_dir():
        below = files_below(place, place.resolve(), True, Skipped())
        files = sorted(file for file in below if file.suffix == ".parquet")
    if not files:
        raise DatasetError(f"{place}: no Parquet file there; name the folder of a data set")
    split = next((name for name, others in _SPLITS.items() if split in others), split)
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file, place), []).append(file)
    if split == "train" and list(by_split) == [""]:
        split = ""
    if split in by_split:
        check_shards(place, [file.relative_to(place).as_posix() for file in by_split[split]])
        return by_split[split]
    known = ", ".join(name for name in by_split if name) or "none"
    raise DatasetError(
        f"{place}: no file of the split '{split}' (there are {known}); correct split="
    )


def _split_of(file: Path, place: Path) -> str:
    """Return the split in a file's path, as `train-00000-of-00002.parquet`."""
    folders = file.relative_to(place).parts[:-1]
    first_word, _, _ = file.stem.partition("-")
    words = [*folders, first_word]
    for word in reversed(words):
        for split, names in _SPLITS.items():
            if word.lower() in names:
                return split
    return ""


def opened(file: Path) -> tuple[Any, Any]:
    """Return the schema and the footer of a Parquet file."""
    try:
        with pq.ParquetFile(file) as opened:
            return opened.schema_arrow, opened.metadata
    except _BROKEN as err:
        raise DatasetError(
            f"{file}: not a Parquet file, or cut short ({one_line(err)}); download it again"
        ) from err


def footer_digest(file: Path) -> str:
    """Return the digest of a file's footer, which says where every byte lies."""
    with file.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - 8))
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, size - 8 - length))
        return hashlib.sha256(stream.read(length)).hexdigest()


def records_of(files: list[Path], columns: Columns) -> Iterator[Json]:
    """Yield the rows of files as records with their place, a few at a time.

    Image bytes are read only where no column tells the size.
    """
    number = 0
    names = columns.to_read(not columns.has_size)
    for file in files:
        schema, metadata = opened(file)
        missing = [name for name in (*names, columns.image) if name not in schema.names]
        if missing:
            raise DatasetError(f"{file}: column '{missing[0]}' is missing; the others have it")
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).total_byte_size
            if size > _LARGEST:
                raise DatasetError(
                    f"{file}: row group {group} has {size} bytes; write it in smaller ones"
                )
            for row, record in enumerate(_rows(file, group, names)):
                place = {"file": file, "group": group, "row": row, "number": number}
                yield record | {"place": place}
                number += 1


def _rows(file: Path, group: int, names: list[str]) -> Iterator[Json]:
    try:
        with pq.ParquetFile(file) as table:
            batches = table.iter_batches(_BATCH, [group], list(dict.fromkeys(names)))
            for batch in batches:
                yield from batch.to_pylist()
    except _BROKEN as err:
        raise DatasetError(
            f"{file}: row group {group} cannot be read ({one_line(err)}); download it again"
        ) from err


@lru_cache(2)
def images_of(path: Path, group: int, column: str) -> Any:
    """Return the images of a row group."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, columns=[column]).column(column)
    except _BROKEN as err:
        raise DatasetError(
            f"{path}: row group {group} cannot be read ({one_line(err)}); download the file again"
        ) from err

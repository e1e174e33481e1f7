"""TensorFlow's checkpoints, read without it: `NAME.index` and `NAME.data-*`.

The index is a sorted table of (name, entry) in blocks; an entry says the type, shape, file and
place of a tensor. All of it is numbers: nothing is executed, and every place is checked against the
sizes of the files. The sums of the data are not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

INDEX = ".index"
MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes at the end of an index
TRAILER = 5  # bytes behind a block: its compression and its sum
FLOAT, INTEGERS = 1, {3: "<i4", 9: "<i8"}  # numbers of types
LITTLE_ENDIAN = 0
# kinds of fields of a message
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
ADVICE = "give the index of a checkpoint that TensorFlow's Saver wrote, beside its data"


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies."""

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int  # bytes


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name; `path` is its index.

    Raises ValueError, one line that names the file, when index or data are absent, damaged or of
    another form.
    """
    try:
        content = path.read_bytes()
        entries, shards = _entries(content)
    except (OSError, ValueError, LookupError, OverflowError, struct.error) as err:
        reason = str(err).strip() or type(err).__name__
        raise ValueError(f"{path}: is no readable checkpoint index ({reason}); {ADVICE}") from err
    tensors = {}
    for name, entry in entries.items():
        data = path.with_name(f"{path.stem}.data-{entry.shard:05d}-of-{shards:05d}")
        tensors[name] = _tensor(data, name, entry)
    if not tensors:
        raise ValueError(f"{path}: holds no tensors; {ADVICE}")
    return tensors


def _entries(content: bytes) -> tuple[dict[str, _Entry], int]:
    """Return every entry of an index by name, and the number of data files."""
    footer = content[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its end is not that of one")
    _, place = _handle(footer, 0)  # of the table of tables, which is empty
    (offset, size), _ = _handle(footer, place)
    entries: dict[str, _Entry] = {}
    shards = 1
    for _, value in _rows(_block(content, offset, size)):
        (offset, size), _ = _handle(value, 0)
        for key, record in _rows(_block(content, offset, size)):
            if key:
                entries[key.decode()] = _entry(record)
                continue
            header = dict(_fields(record))
            shards = _number(header, 1)
            if _number(header, 2) != LITTLE_ENDIAN:
                raise ValueError("its numbers are big-endian")
    return entries, shards


def _block(content: bytes, offset: int, size: int) -> bytes:
    """Return a block of the table without its trailer."""
    if offset + size + TRAILER > len(content):
        raise ValueError("a block lies beyond its end")
    if content[offset + size]:
        raise ValueError("its blocks are compressed")
    return content[offset : offset + size]


def _rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of every row; keys share beginnings with the row before."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("a block is shorter than it says")
    place = 0
    key = b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + own + length > end:
            raise ValueError("a row is longer than its block")
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length


def _entry(record: bytes) -> _Entry:
    """Return the entry of a tensor."""
    shape: list[int] = []
    numbers: dict[int, int | bytes] = {}
    for number, value in _fields(record):
        if number == 7:
            raise ValueError("a tensor is in slices")
        if number != 2:
            numbers[number] = value
            continue
        if not isinstance(value, bytes):
            raise ValueError("a shape is none")
        for of_shape, dimension in _fields(value):
            if of_shape == 2 and isinstance(dimension, bytes):
                shape.append(_number(dict(_fields(dimension)), 1))
    kind, shard, offset, size = (_number(numbers, number) for number in (1, 3, 4, 5))
    return _Entry(kind, tuple(shape), shard, offset, size)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of every field of a message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number = tag >> 3
        kind = tag & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind)
        if kind == BYTES:
            length, place = _varint(message, place)
        if length is None or place + length > len(message):
            raise ValueError("a field is longer than its message")
        yield number, message[place : place + length]
        place += length


def _number(fields: dict[int, int | bytes], number: int) -> int:
    """Return a whole number of a message; fields that are 0 are not written."""
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value


def _handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Return (offset, size) of a block, and where the next value begins."""
    offset, place = _varint(content, place)
    size, place = _varint(content, place)
    return (offset, size), place


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, lowest first, and where the next value begins."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number has no end")


def _tensor(path: Path, name: str, entry: _Entry) -> Tensor:
    """Return a tensor out of a data file; ValueError names file and tensor."""
    kind = "<f4" if entry.kind == FLOAT else INTEGERS.get(entry.kind)
    if kind is None:
        raise ValueError(f"{path}: '{name}' is of type {entry.kind}, not float32; {ADVICE}")
    count = 1
    for side in entry.shape:
        count *= side
    if count * np.dtype(kind).itemsize != entry.size:
        raise ValueError(f"{path}: '{name}' is not of its shape {list(entry.shape)}; {ADVICE}")
    try:
        size = path.stat().st_size
    except OSError as err:
        raise ValueError(f"{path}: is absent, but '{name}' is in it; {ADVICE}") from err
    if entry.offset + entry.size > size:
        raise ValueError(f"{path}: ends before '{name}' does; download it again")
    with path.open("rb") as file:
        values = np.fromfile(file, kind, count, offset=entry.offset)
    return torch.from_numpy(values.reshape(entry.shape))

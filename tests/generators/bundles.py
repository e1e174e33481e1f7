"""Checkpoints as TensorFlow's Saver writes them, of arrays."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.published.tensor_bundle import MAGIC

Array = NDArray[np.generic]
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def varint(value: int) -> bytes:
    """Return a number of 7 bits a byte."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | bytes) -> bytes:
    """Return a field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(rows: Mapping[bytes, bytes]) -> bytes:
    """Return a block of sorted rows; every key shares its beginning with the one before."""
    out, before = b"", b""
    for key in sorted(rows):
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        own = key[shared:]
        out += varint(shared) + varint(len(own)) + varint(len(rows[key])) + own + rows[key]
        before = key
    return out + struct.pack("<II", 0, 1)


def write_bundle(prefix: Path, arrays: Mapping[str, Array]) -> Path:
    """Write `prefix`.index and its data; return the index."""
    data = b""
    rows = {b"": field(1, 1) + field(3, field(1, 1))}
    for name, array in arrays.items():
        shape = b"".join(field(2, field(1, side)) for side in array.shape)
        entry = field(1, TYPES[array.dtype.name]) + field(2, shape)
        entry += field(4, len(data)) + field(5, array.nbytes)
        entry += varint(6 << 3 | 5) + b"sums"  # four bytes that are not read
        rows[name.encode()] = entry
        data += array.tobytes()
    index = b""

    def append(content: bytes) -> bytes:
        nonlocal index
        handle = varint(len(index)) + varint(len(content))
        index += content + b"\0sums"
        return handle

    names = sorted(rows)
    halves = [{key: rows[key] for key in names[:2]}, {key: rows[key] for key in names[2:]}]
    handles = {max(half): append(block(half)) for half in halves if half}
    footer = append(block({})) + append(block(handles))
    index += footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    path = prefix.with_name(f"{prefix.name}.index")
    path.write_bytes(index)
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    return path

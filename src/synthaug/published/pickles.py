"""Pickles of arrays, read without running anything.

A pickle can name any function to be called while it is read. Here it can name our stand-ins for
arrays only: nothing else is ever looked up, and numpy itself sees nothing of the file before it was
checked.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = re.compile(r"[fiu][1248]|b1")  # of plain numbers, as numpy writes them


# ---- Stand-ins for the names in a pickle ----
# All are immutable or have a `__setstate__`, so that no state goes anywhere else.


class _Dtype:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: str = "", *_: object) -> None:
        plain = isinstance(name, str) and DTYPES.fullmatch(name)
        if not plain:
            raise pickle.UnpicklingError(f"holds values of kind {str(name)[:20]!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        byte_order = state[1]
        if byte_order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("has an unknown order of bytes")
        self.dtype = self.dtype.newbyteorder(byte_order)


class PlainArray:
    """Stands for `numpy.ndarray` and for its constructor; a state fills it."""

    def __init__(self, *_: object) -> None:
        self.values: NDArray[Any] = np.zeros(0, np.float32)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, column_major, data = state
        order = "C"
        if column_major:
            order = "F"
        self.values = _values(data, dtype, shape, order)


class _Buffer(PlainArray):
    """Stands for the function by which newer pickles make an array at once."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        super().__init__()
        self.values = _values(data, dtype, shape, order)


class _Scalar(PlainArray):
    """Stands for the function that makes a single number."""

    def __init__(self, dtype: Any, data: Any = b"") -> None:
        super().__init__()
        self.values = _values(data, dtype, (), "C")


class _Encoded(bytes):
    """Stands for `bytes` and `_codecs.encode`, which older pickles write bytes by."""

    def __new__(cls, text: str = "", *_: str) -> _Encoded:
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("gives bytes a state")


PERMITTED: Mapping[tuple[str, str], type] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): PlainArray,
    ("numpy.core.multiarray", "_reconstruct"): PlainArray,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("_codecs", "encode"): _Encoded,
    ("__builtin__", "bytes"): _Encoded,
    ("collections", "OrderedDict"): dict,
}


class _Reader(pickle.Unpickler):
    """Reads plain containers and what is in PERMITTED."""

    def find_class(self, module: str, name: str) -> type:
        """Return the stand-in for a name; raises UnpicklingError for any other."""
        old_module = module.replace("numpy._core", "numpy.core")
        stand_in = PERMITTED.get((old_module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"names {module}.{name}"[:80])
        return stand_in


def _values(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return an array of the bytes in a pickle, in this machine's byte order."""
    if not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("holds an array of unknown make")
    if isinstance(data, str):  # bytes of a pickle of Python 2
        data = data.encode("latin1")
    flat = np.frombuffer(data, dtype.dtype)
    values = flat.reshape(tuple(int(n) for n in shape), order=order)
    native = dtype.dtype.newbyteorder("=")
    # reshaped, because a contiguous copy of a single number would have an axis
    return np.ascontiguousarray(values, native).reshape(values.shape)


# ---- Files ----

# Errors that unpickling damaged data raises
UNREADABLE = (
    pickle.UnpicklingError,
    RecursionError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
)


def read_nested_pickle(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a pickle of dicts of dicts, their names joined by "/".

    Raises ValueError, which names the file, for one that is damaged or holds anything else.
    """
    advice = "install what brought it again"
    arrays: dict[str, NDArray[Any]] = {}

    def collect(content: object, prefix: str) -> None:
        if isinstance(content, PlainArray):
            arrays[prefix.rstrip("/")] = content.values
        elif isinstance(content, Mapping):
            for name, value in content.items():
                collect(value, f"{prefix}{name}/")
        else:
            raise ValueError(f"{path}: holds something else than arrays; {advice}")

    collect(read_plain_pickle(path, advice), "")
    return arrays


def read_plain_pickle(path: Path, advice: str) -> object:
    """Return the content of a pickle of plain arrays and containers."""
    try:
        return _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except UNREADABLE as err:
        reason = one_line(err)
        raise ValueError(f"{path}: is not a pickle of plain arrays ({reason}); {advice}") from err


def one_line(err: Exception) -> str:
    """Return the first line of an error's text, at most 120 characters."""
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0][:120]

"""Files of weights that cannot be read, whichever library reads them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

from safetensors import SafetensorError

UNREADABLE = (  # raised by reading a damaged file
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    struct.error,
)


def stand_in(path: Path) -> str:
    """Return what stands in the place of a file of weights; "" for nothing known."""
    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError:
        return ""
    start = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: get the file itself with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page: the download failed"
    return ""

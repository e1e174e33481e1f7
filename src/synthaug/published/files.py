"""Files of weights that cannot be read, whichever library reads them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

from safetensors import SafetensorError

from synthaug import stand_ins

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
    return stand_ins.stand_in(head)

"""Errors of files of weights, whichever library reads them."""

from __future__ import annotations

import pickle
import struct

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

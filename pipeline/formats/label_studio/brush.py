"""Masks of Label Studio's brush.

The encoding is that of the npm package @thi.ng/rle-pack: 32 bits number of values, 5 bits width
of a value less one, four times 4 bits widths of lengths less one; then, until there are as many
values, 1 bit "is a run", 2 bits which width, the length less one, and one value or as many as the
length. A value is a channel of a pixel, RGBA; the mask is where alpha is not 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Flags
from synthaug.pipeline.core.boxes import Size

_CHANNELS = 4


def decode(values: Any, size: Size) -> Flags:
    """Return the mask [H, W] of a list of bytes; ValueError for another size."""
    bits = _Bits(_bytes(values))
    height, width = size
    num_values = bits.take(32)
    if num_values != height * width * _CHANNELS:
        raise ValueError(f"it holds {num_values} values, not {width}x{height} pixels of four")
    value_bits = bits.take(5) + 1
    length_bits = [bits.take(4) + 1 for _ in range(4)]
    out = np.zeros(num_values, np.bool_)
    at = 0
    while at < num_values:
        is_run = bits.take(1)
        length = bits.take(length_bits[bits.take(2)]) + 1
        end = at + length
        if end > num_values:
            raise ValueError("its runs are longer than the image")
        if is_run:
            out[at:end] = bits.take(value_bits) != 0
        else:
            out[at:end] = bits.take_many(value_bits, length)
        at = end
    return out.reshape(height, width, _CHANNELS)[:, :, 3]


def _bytes(values: Any) -> Bytes:
    """Return a list of numbers below 256 as bytes."""
    array = np.array(values) if isinstance(values, list) else np.zeros(0)
    is_list = array.ndim == 1 and array.dtype.kind in "iu" and len(array) > 0
    if not is_list or array.min() < 0 or array.max() > 255:
        raise ValueError("its rle is no list of bytes")
    return array.astype(np.uint8)


class _Bits:
    """Bits, read from the highest of each byte on."""

    def __init__(self, data: Bytes) -> None:
        self._data = data.tobytes()
        self._bits = np.unpackbits(data)
        self._at = 0

    def take(self, count: int) -> int:
        """Return the number of the next bits; ValueError at the end."""
        end = self._end(count)
        first = self._at >> 3
        last = (end + 7) >> 3
        number = int.from_bytes(self._data[first:last], "big") >> (8 * last - end)
        self._at = end
        return number & ((1 << count) - 1)

    def take_many(self, width: int, count: int) -> Flags:
        """Return whether each of the next numbers [count] is not 0."""
        end = self._end(width * count)
        rows = self._bits[self._at : end].reshape(count, width)
        self._at = end
        found: Flags = np.any(rows, axis=1)
        return found

    def _end(self, count: int) -> int:
        end = self._at + count
        if end > len(self._bits):
            raise ValueError("its rle is cut short")
        return end

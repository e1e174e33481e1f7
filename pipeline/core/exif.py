"""The EXIF tag that asks viewers to turn an image.

It is read in all formats, and cleared in JPEG.
"""

from __future__ import annotations

import struct
from typing import IO, Any

ORIENTATION = 0x0112  # 1 = as it is stored, 2 to 8 = turned or mirrored
_SHORT = 3  # EXIF type: 16 bits
_BLOCK = b"Exif\0\0"
_IN_PNG = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")  # Pillow's names


def orientation(image: Any, file: IO[bytes]) -> int:
    """Return the orientation, 1 to 8, that a Pillow image opened from `file` asks for.

    1 also where the tag is broken or says something else: no viewer turns such an image.
    """
    if image.format == "PNG":
        is_in_front = any(key in image.info for key in _IN_PNG)
        if not is_in_front and not _ends_with_exif(file):
            return 1  # or Pillow would decode the pixels to look behind them
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, KeyError, TypeError):
        return 1
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    return 1


def _ends_with_exif(file: IO[bytes]) -> bool:
    """Whether a PNG has its EXIF block behind the pixels."""
    here = file.tell()
    file.seek(8)
    found = False
    while not found:
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        found = head[4:] == b"eXIf"
        length = int.from_bytes(head[:4], "big")
        file.seek(length + 4, 1)
    file.seek(here)
    return found


def cleared(data: bytes) -> bytes | None:
    """Return a JPEG whose orientation tag says "as it is", the pixels untouched.

    None where that cannot be done by a change of the tag alone.
    """
    if b"tiff:Orientation" in data:  # XMP says it too
        return None
    start = data.find(_BLOCK)
    if start < 0:
        return None
    tiff = start + len(_BLOCK)
    first_bytes = data[tiff : tiff + 4]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(first_bytes)
    if order is None:
        return None
    try:
        place = _place(data, tiff, order)
    except struct.error:  # cut short
        return None
    if place is None:
        return None
    upright = struct.pack(f"{order}H", 1)
    end = place + len(upright)
    return data[:place] + upright + data[end:]


def _place(data: bytes, tiff: int, order: str) -> int | None:
    """Return where the value of the tag stands in a file; None where there is none."""
    directory: int
    (directory,) = struct.unpack_from(f"{order}I", data, tiff + 4)
    (num_entries,) = struct.unpack_from(f"{order}H", data, tiff + directory)
    for i in range(num_entries):
        entry = tiff + directory + 2 + 12 * i
        tag = struct.unpack_from(f"{order}HHI", data, entry)
        if tag == (ORIENTATION, _SHORT, 1):
            return entry + 8
    return None

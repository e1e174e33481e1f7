"""What a row of the hub says: objects, size of the image, kind of boxes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import header_in
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.formats.hub.columns import Columns
from synthaug.pipeline.formats.validation import Box, BoxUnits, RecordError, is_int, number

_CLEAR = 10  # times as many boxes must fit one way as fail to fit it


def objects_of(record: Json, columns: Columns) -> list[Json]:
    """Return the objects of a row, a record each."""
    value = record[columns.objects] if columns.objects else record
    if value is None:
        return []
    if isinstance(value, list):
        return value
    names = [name for name, inner in value.items() if isinstance(inner, list)]
    if not columns.objects:
        names = [name for name in names if name in (columns.box, columns.category, columns.crowd)]
    lengths = {len(value[name]) for name in names}
    if len(lengths) > 1:
        raise RecordError("bad value", "the lists of its objects differ in length")
    count = lengths.pop() if lengths else 0
    return [{name: value[name][k] for name in names} for k in range(count)]


def convention_of(records: Iterator[Json], columns: Columns, place: Path) -> str:
    """Return "xywh" or "xyxy": what the boxes of all rows can be.

    Boxes that are none are told when they are read. Raises DatasetError where both fit, or neither
    does, and where the boxes are no pixels.
    """
    units = BoxUnits()
    wrong = {"xywh": 0, "xyxy": 0}
    equal = {"xywh": 0, "xyxy": 0}  # boxes of the very area that is told
    count = 0
    for record in records:
        try:
            size = size_of(record, columns)
            found = objects_of(record, columns)
        except RecordError:
            continue  # told when it is read
        for one in found:
            box = one.get(columns.box) if isinstance(one, dict) else None
            if not _is_box(box):
                continue
            count += 1
            units.see(box, size)
            for name in wrong:
                wrong[name] += not _fits(box, name, size)
                equal[name] += _has_area(box, name, one.get("area"))
    if not count:
        return "xywh"
    units.check(place)
    for name, other in (("xywh", "xyxy"), ("xyxy", "xywh")):
        if wrong[name] * _CLEAR < wrong[other]:
            return name
        if wrong[name] == 0 and equal[name] == count > equal[other]:
            return name
    raise DatasetError(
        f"{place}: its boxes may be x, y, width, height or two corners ({wrong['xywh']} and "
        f"{wrong['xyxy']} of {count} do not fit); say boxes=xywh or boxes=xyxy"
    )


def _is_box(value: Any) -> TypeGuard[list[float]]:
    """Whether a value of the file is four numbers."""
    try:
        corners_of(value, "xyxy")
    except RecordError:
        return False
    return True


def _fits(value: Any, convention: str, size: Size) -> bool:
    """Whether a box lies in its image, read by a convention."""
    x1, y1, x2, y2 = corners_of(value, convention)
    height, width = size
    return x1 < x2 <= width + 1 and y1 < y2 <= height + 1


def _has_area(value: Any, convention: str, area: Any) -> bool:
    """Whether a box, read by a convention, has this area."""
    try:
        x1, y1, x2, y2 = corners_of(value, convention)
        told = number(area, "area")
    except RecordError:
        return False
    return abs((x2 - x1) * (y2 - y1) - told) <= 0.01 * told


def corners_of(value: Any, convention: str) -> Box:
    """Return a box of the file as x, y, x, y."""
    if value is None:
        raise RecordError("bad box", "its box is null")
    if not isinstance(value, list) or len(value) != 4:
        raise RecordError("bad box", f"its box {value!r:.100} has no four numbers")
    x, y, third, fourth = (number(one, "its box") for one in value)
    if convention == "xywh":
        return x, y, x + third, y + fourth
    return x, y, third, fourth


def size_of(record: Json, columns: Columns, max_pixels: int = 1 << 31) -> Size:
    """Return the size (H, W) of a row's image as its objects count it."""
    if columns.has_size:
        height = record["height"]
        width = record["width"]
        if not is_int(height) or not is_int(width) or height < 1 or width < 1:
            raise RecordError("bad image size", f"its size {width!r}x{height!r} is none")
        if height * width > max_pixels:
            raise RecordError(
                "image too large", f"{width}x{height} is over max_pixels={max_pixels}"
            )
        return height, width
    try:
        header = header_in(io.BytesIO(bytes_of(record[columns.image])), max_pixels)
    except ValueError as err:
        raise RecordError("bad image", f"the image {err}") from err
    return header.shown


def bytes_of(value: Any) -> bytes:
    """Return the bytes of an image cell; nothing where it only names a file."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, bytes) and data:
        return data
    path = value.get("path") if isinstance(value, dict) else None
    raise ValueError(
        f"is not in the table (path {path!r:.100}); embed it with `embed_external_files`"
    )

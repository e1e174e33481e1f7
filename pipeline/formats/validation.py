"""Checks of single values in data files, which refuse with a RecordError."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json

_TOLERANCE = 1.0  # pixels a box may stick out of its image; it is clipped
_MAX_FLOAT32 = 1e38  # boxes are float32: what overflows there is no coordinate
Box = tuple[float, float, float, float]  # xyxy pixels


class RecordError(Exception):
    """One record is wrong: counted under `reason`, explained by `detail`.

    A `fatal` one makes others doubtful, so it is not left out by any option.
    """

    def __init__(self, reason: str, detail: str, fatal: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.fatal = fatal


def need(record: Any, key: str) -> Any:
    """Return a value that the record must have."""
    if not isinstance(record, dict):
        raise RecordError("missing key", "is no JSON object")
    if key not in record:
        raise RecordError("missing key", f"key '{key}' is missing")
    return record[key]


def optional(record: Json, key: str, default: Any) -> Any:
    """Return a value that a record may lack; null is as if it were not there."""
    value = record.get(key)
    return default if value is None else value


def key_of(record: Any, name: str) -> str:
    """Return an id, a whole number or a text, as text."""
    value = need(record, name)
    if not is_int(value) and not isinstance(value, str):
        raise RecordError("bad value", f"{name} must be a whole number or a text")
    return str(value)


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text that can be stored; JSON can spell half characters."""
    if not isinstance(value, str):
        return False
    return value.isascii() or value.encode("utf-8", "ignore").decode() == value


def is_name(value: object) -> TypeGuard[str]:
    """Whether a value can be the name of a class: text that shows something."""
    return is_text(value) and bool(value.strip())


def number(value: Any, name: str, low: float = -math.inf) -> float:
    """Return a finite number, at least `low`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) < _MAX_FLOAT32 or value < low:
        bound = " >= 0" if low == 0 else ""
        raise RecordError("bad value", f"{name} is {value!r:.100}, not a finite number{bound}")
    return float(value)


def number_in(text: str, name: str) -> float:
    """Return the finite number of a text, spelt as in JSON: no 1_000, no other digits."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < _MAX_FLOAT32 or not text.isascii() or "_" in text:
        raise RecordError("bad value", f"{name} is {text[:40]!r}, not a number")
    return value


def flag(record: Json, name: str, default: bool) -> bool:
    """Return a truth value: 0, 1, true or false; null is as if it were not there."""
    value = record.get(name)
    if value is None:
        return default
    if value not in (0, 1):
        raise RecordError("bad value", f"{name} is {value!r}, not 0 or 1")
    return bool(value)


ROUNDED = "clipped to image"  # it stuck out by rounding
CUT = "box reaching out of its image, cut"  # by more


def clip_reason(excess: float) -> str:
    """Return under what a clipped box is counted that stuck out by so many pixels."""
    return CUT if excess > _TOLERANCE else ROUNDED


def inside_box(box: Box, size: Size, cuts: bool = False) -> tuple[Box, float]:
    """Clip a box to its image (H, W), and return by how many pixels it stuck out.

    By rounding only, unless `cuts`: RecordError for more than a pixel.
    """
    height, width = size
    x1, y1, x2, y2 = box
    excess = max(-x1, -y1, x2 - width, y2 - height)
    if excess > _TOLERANCE and not cuts:
        raise RecordError(
            "box outside the image",
            f"bbox lies {excess:g} pixels outside the image of {width}x{height}",
        )
    x1 = max(x1, 0.0)
    y1 = max(y1, 0.0)
    x2 = min(x2, float(width))
    y2 = min(y2, float(height))
    clipped = (x1, y1, x2, y2)
    if not has_extent(clipped):
        raise RecordError("empty box", "bbox has no extent inside the image")
    return clipped, max(excess, 0.0)


def has_extent(box: Box) -> bool:
    """Whether a box covers something once it is kept as float32."""
    x1, y1, x2, y2 = np.array(box, np.float32)
    return bool(x1 < x2 and y1 < y2)


def part_hint(points: NDArray[np.float64]) -> str:
    """Return what polygons without a pixel may be, for a message: parts of the image."""
    if points.min() >= 0 and points.max() <= 1:
        return " (it lies within the first pixel: are its points parts of the image, 0 to 1?)"
    return ""


_CLOSE = 1e-3  # part by which a box's area may be off
_LEAST_SIDE = 8  # pixels of an image in which boxes within a pixel are a mistake


@dataclass
class BoxUnits:
    """Tells boxes in pixels from parts of their image, 0 to 1, and sides from corners."""

    boxes: int = 0
    parts: int = 0  # boxes within the first pixel of their image
    corners: int = 0  # boxes that fit their area or mask as x1 y1 x2 y2 alone

    def see(self, box: Sequence[float], size: Size, area: Any = None) -> None:
        """Count one box, whose four numbers are as in the file, of an image (H, W).

        `area` is what the file says of a box that should be x, y, width, height.
        """
        self.boxes += 1
        if max(box) <= 1 and min(box) >= 0 and min(size) >= _LEAST_SIDE:
            self.parts += 1
        if not isinstance(area, (int, float)) or isinstance(area, bool):
            return
        x, y, third, fourth = box
        between = (third - x) * (fourth - y)
        are_corners = third > x and fourth > y and math.isclose(area, between, rel_tol=_CLOSE)
        if are_corners and not math.isclose(area, third * fourth, rel_tol=_CLOSE):
            self.corners += 1

    def see_extent(self, box: Sequence[float], extent: Box) -> None:
        """Count a box, as in `see`, that is the very place of its mask as x1 y1 x2 y2."""
        x, y, third, fourth = box
        as_corners = np.abs(np.subtract(box, extent)).max()
        as_sides = np.abs(np.subtract((x, y, x + third, y + fourth), extent)).max()
        if as_corners <= 1 < as_sides / 2:
            self.corners += 1

    def check(self, file: Path) -> None:
        """Raise DatasetError where most boxes are parts of their image."""
        if self.parts * 2 > self.boxes:
            raise DatasetError(
                f"{file}: {self.parts} of {self.boxes} bboxes lie within the first pixel, so they "
                "are parts of the image (0 to 1); multiply them by its width and height"
            )
        if self.corners * 2 > self.boxes:
            raise DatasetError(
                f"{file}: {self.corners} of {self.boxes} bboxes have the area or the mask of two "
                "corners x1 y1 x2 y2; write them as x, y, width, height"
            )

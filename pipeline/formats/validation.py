"""The values of a COCO record, each checked before it is believed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import one_line
from synthaug.pipeline.core.scene import Provenance

_TOLERANCE = 1.0  # pixels a box may stick out of its image; it is clipped
Box = tuple[float, float, float, float]
Segmentation = str | list[NDArray[np.float64]] | None  # compressed counts, or polygons


class RecordError(Exception):
    """One record is wrong: `reason` is what it is counted under, `detail` what the user reads."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def need(record: Any, key: str) -> Any:
    """Return a value that the record must have."""
    if not isinstance(record, dict):
        raise RecordError("missing key", "is no JSON object")
    if key not in record:
        raise RecordError("missing key", f"key '{key}' is missing")
    return record[key]


def key_of(record: Any, name: str) -> str:
    """Return an id, a whole number or a text, as text."""
    value = need(record, name)
    if not is_int(value) and not isinstance(value, str):
        raise RecordError("bad value", f"{name} must be a whole number or a text")
    return str(value)


def is_int(value: Any) -> bool:
    """Whether a JSON value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_text(value: Any) -> bool:
    """Whether a JSON value is text that can be stored; JSON can spell half characters, which cannot."""
    return isinstance(value, str) and value.isascii() | (
        value.encode("utf-8", "ignore").decode() == value
    )


def number(value: Any, name: str, low: float = -math.inf) -> float:
    """Return a finite number, at least `low`."""
    # float32 everywhere in the house: what overflows there is no coordinate
    if not isinstance(value, (int, float)) or not abs(value) < 1e38 or value < low:
        raise RecordError(
            "bad value", f"{name} is {value!r}, not a finite number{' >= 0' if low == 0 else ''}"
        )
    return float(value)


def flag(record: dict[str, Any], name: str, default: bool) -> bool:
    """Return a truth value written as 0, 1, true or false."""
    value = record.get(name, default)
    if value not in (0, 1):
        raise RecordError("bad value", f"{name} is {value!r}, not 0 or 1")
    return bool(value)


def corners(record: dict[str, Any], name: str) -> Box:
    """Return an xywh field as xyxy pixels."""
    value = need(record, name)
    if not isinstance(value, list) or len(value) != 4:
        raise RecordError("bad box", f"{name} {value!r} must be a list [x, y, width, height]")
    x, y, width, height = (number(v, name) for v in value)
    if width <= 0 or height <= 0:
        raise RecordError("empty box", f"{name} {value!r} has no extent")
    # rounded to what is kept, or 0.1 + 319.9 would lie outside an image of 320 pixels
    x2, y2 = float(np.float32(x + width)), float(np.float32(y + height))
    return x, y, x2, y2


def inside_box(box: Box, size: tuple[int, int]) -> tuple[Box, bool]:
    """Clip an xyxy box that sticks out of the image by rounding; return it and whether anything was clipped."""
    height, width = size
    x1, y1, x2, y2 = box
    over = max(-x1, -y1, x2 - width, y2 - height)
    if over > _TOLERANCE:
        raise RecordError(
            "box outside the image",
            f"bbox lies {over:g} pixels outside the image of {width}x{height}",
        )
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if np.float32(clipped[0]) >= np.float32(clipped[2]) or np.float32(clipped[1]) >= np.float32(
        clipped[3]
    ):
        raise RecordError("empty box", "bbox has no extent inside the image")
    return clipped, over > 0


def read_segmentation(value: Any, size: tuple[int, int]) -> Segmentation:
    """Return checked compressed counts or polygons; None where there is no mask."""
    if value is None or value == []:
        return None
    try:
        if not isinstance(value, dict):
            return masks.check_polygons(value)
        if value.get("size") != list(size):
            raise ValueError(
                f"its size {value.get('size')!r} is not that of the image, {list(size)}"
            )
        counts = value.get("counts")
        if isinstance(counts, list):
            return masks.from_uncompressed(counts, size)
        if not isinstance(counts, str):
            raise ValueError("its counts are neither a list nor a text")
        masks.check(counts, size)
        return counts
    except (ValueError, OverflowError) as err:
        raise RecordError("bad mask", f"segmentation: {one_line(err)}") from err


def provenance(record: dict[str, Any]) -> Provenance | None:
    """Return how the image of a record was made; None where it does not say."""
    value = record.get("provenance")
    if value is None:
        return None
    texts = ("generator", "checkpoint", "source_image", "reason")
    if not isinstance(value, dict) or not is_int(value.get("seed")) or abs(value["seed"]) >> 63:
        raise RecordError("bad value", "provenance must be an object with a whole number 'seed'")
    if not all(is_text(value.get(name)) for name in texts):
        raise RecordError("bad value", f"provenance needs texts {', '.join(texts)}")
    return Provenance(value["seed"], *(value[name] for name in texts))

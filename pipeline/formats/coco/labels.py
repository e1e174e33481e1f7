"""The annotations of COCO files, each record checked and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import one_line
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import SOURCES, Category
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.coco.records import Image, ImageReader, count_unread
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    clip_reason,
    flag,
    inside_box,
    is_int,
    need,
    number,
    optional,
    part_hint,
)

EMPTY_MASK = "empty mask, the object keeps its box"
BOX_ONLY = "box_only"  # extra field: the object has no mask, what stands for one is its box
Segmentation = str | list[Floats] | None  # compressed counts, or polygons


@dataclass(frozen=True, slots=True)
class Label:
    """A checked annotation record."""

    id: Any  # as in the file; None where there is none
    object_id: Any
    category: int  # index
    box: Box
    layout_box: Box
    area: float
    iscrowd: bool
    isthing: bool
    segmentation: Segmentation
    score: float
    source: str
    verdict: str | None
    verdict_score: float
    verdict_iou: float


@dataclass(frozen=True, slots=True)
class Target:
    """The image and the category that an annotation names."""

    key: str  # of the image
    image: Image
    category: int  # index


_KNOWN = frozenset(
    (
        "id",
        "image_id",
        "category_id",
        "bbox",
        "area",
        "iscrowd",
        "segmentation",
    )
)
_OWN = frozenset(
    (
        "object_id",
        "layout_bbox",
        "isthing",
        "score",
        "source",
        "verdict",
        "verdict_score",
        "verdict_iou",
        "box_loss",  # follows from source and verdict_iou
        BOX_ONLY,
    )
)


class LabelReader:
    """Checks annotation records."""

    def __init__(
        self,
        images: ImageReader,
        categories: tuple[Category, ...],
        check: Checker,
        is_ours: bool = False,
    ) -> None:
        """`is_ours` says whether fields of our own names are ours."""
        self._images = images
        self._categories = categories
        self._check = check
        self._skipped = check.skipped
        self._is_ours = is_ours
        self._known = _KNOWN | _OWN if is_ours else _KNOWN
        self._index = {category.id: index for index, category in enumerate(categories)}

    def target(self, record: Any) -> Target | None:
        """Return the image and category of a record; None where its image was refused."""
        key = self._images.key_of_image(record, self._skipped)
        if key is None:
            return None
        category = need(record, "category_id")
        if not is_int(category) or category not in self._index:
            raise RecordError(
                "unknown category",
                f"category_id {category!r:.100} is not among the categories",
            )
        return Target(key, self._images.images[key], self._index[category])

    def read(self, record: Json, target: Target) -> Label:
        """Check the values of a record."""
        size = target.image.size
        name = f"annotation {record.get('id')!r:.100}"
        notes: list[tuple[str, str]] = []  # counted when the record is taken
        box = self._box(record, size, notes)
        segmentation = self._segmentation(record, box, size, name, notes)
        own = record if self._is_ours else {}
        source, verdict = read_source_and_verdict(own)
        layout_box = read_layout_box(own)
        box_area = (box[2] - box[0]) * (box[3] - box[1])
        category = self._categories[target.category]
        label = Label(
            id=record.get("id"),
            object_id=own.get("object_id", record.get("id")),
            category=target.category,
            box=box,
            layout_box=layout_box or box,
            area=self._area(record, box_area, name),
            iscrowd=flag(record, "iscrowd", False),
            isthing=flag(own, "isthing", category.isthing),
            segmentation=segmentation,
            score=number(own.get("score", 1.0), "score", low=0.0),
            source=source,
            verdict=verdict,
            verdict_score=read_optional(own, "verdict_score"),
            verdict_iou=read_optional(own, "verdict_iou"),
        )
        for reason, detail in notes:
            self._skipped.note(reason, f"{self._check.file.name}: {name}: {detail}")
        if not record.keys() <= self._known:
            count_unread(record, self._known, "objects", self._skipped)
        return label

    def _area(self, record: Json, box_area: float, name: str) -> float:
        """Return the area of a record, that of its box where it has none that is a number."""

        def checked() -> float:
            return number(optional(record, "area", box_area), "area", low=0.0)

        area = self._check.attempt(name, "", checked)
        return box_area if area is None else area

    def _box(self, record: Json, size: Size, notes: list[tuple[str, str]]) -> Box:
        box = corners(record, "bbox")
        if not self._is_ours:
            self._check.units.see(record["bbox"], size, record.get("area"))
        angle = _rotation(record)
        if angle:
            box = _around_turned(box, angle, size)
            reason = "box drawn at an angle, taken as the upright box around it"
            notes.append((reason, f"attributes.rotation is {angle:g}"))
        try:
            box, excess = inside_box(box, size, self._check.cuts_boxes)
        except RecordError as err:
            raise RecordError(err.reason, err.detail + _hint(record["bbox"], size)) from err
        if excess > 0:
            notes.append((clip_reason(excess), f"bbox {record['bbox']!r}"))
        return box

    def _segmentation(
        self,
        record: Json,
        box: Box,
        size: Size,
        name: str,
        notes: list[tuple[str, str]],
    ) -> Segmentation:
        """Return the mask of a record, None where it has none that can be used."""
        value = record.get("segmentation")
        if value is None or value == [] or (self._is_ours and record.get(BOX_ONLY) == 1):
            return None
        if isinstance(value, list) and self._check.on_bad == "skip":
            value = self._good_polygons(value, name)
        segmentation = self._check.attempt(name, "", lambda: read_segmentation(value, size))
        if segmentation is None:
            return None
        extent = extent_of(segmentation, size)
        if extent is None:
            notes.append(
                (EMPTY_MASK, f"its segmentation covers no pixel{_part_hint(segmentation)}")
            )
            return None
        if self._is_ours:
            return segmentation
        self._check.units.see_extent(record["bbox"], extent)

        def agreeing() -> Segmentation:
            check_place(extent, box)
            return segmentation

        return self._check.attempt(name, "segmentation", agreeing)

    def _good_polygons(self, polygons: list[Any], name: str) -> list[Any] | None:
        """Return the polygons that can be filled, when others beside them cannot."""

        def checked(polygon: Any) -> Any:
            try:
                return masks.check_polygons([polygon])[0]
            except ValueError as err:
                raise RecordError("bad mask", one_line(err)) from err

        if len(polygons) < 2 or not all(isinstance(polygon, list) for polygon in polygons):
            return polygons
        good = []
        for place, polygon in enumerate(polygons, start=1):
            part = f"polygon {place} of its segmentation"
            if self._check.attempt(name, part, partial(checked, polygon)) is not None:
                good.append(polygon)
        return good


def _rotation(record: Json) -> float:
    """Return the degrees by which a box is turned, as CVAT tells them."""
    attributes = record.get("attributes")
    if not isinstance(attributes, dict):
        return 0.0
    return number(optional(attributes, "rotation", 0.0), "attributes.rotation")


def _around_turned(box: Box, degrees: float, size: Size) -> Box:
    """Return the upright box around a turned one, inside the image."""
    x1, y1, x2, y2 = box
    cos = abs(math.cos(math.radians(degrees)))
    sin = abs(math.sin(math.radians(degrees)))
    half_width = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    half_height = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x = (x1 + x2) / 2
    y = (y1 + y2) / 2
    height, width = size
    return (
        max(x - half_width, 0.0),
        max(y - half_height, 0.0),
        min(x + half_width, float(width)),
        min(y + half_height, float(height)),
    )


def _hint(value: Any, size: Size) -> str:
    """Return what a box outside its image may be instead of x, y, width, height."""
    x1, y1, x2, y2 = value
    height, width = size
    if x1 < x2 <= width and y1 < y2 <= height:
        return " (if it is x1 y1 x2 y2, write it as x, y, width, height)"
    return ""


_LEAST_OVERLAP = 0.1  # IoU of a mask's box with the bbox
_INSIDE = 0.9  # of a mask's box: the visible part of an object whose bbox is all of it


def check_place(extent: Box, box: Box) -> None:
    """Raise RecordError where a mask with the box `extent` cannot be that of `box`."""
    if _is_elsewhere(extent, box):
        told = " ".join(f"{value:g}" for value in extent)
        own = " ".join(f"{value:g}" for value in box)
        raise RecordError(
            "mask elsewhere than its box",
            f"it lies at {told} (x1 y1 x2 y2), its bbox at {own}",
        )


def _part_hint(segmentation: Segmentation) -> str:
    """Return what polygons without a pixel may be, for a message."""
    if not isinstance(segmentation, list):
        return ""
    return part_hint(np.concatenate(segmentation))


def _is_elsewhere(extent: Box, box: Box) -> bool:
    """Whether a mask with the box `extent` cannot be that of an object with this box."""
    width = min(extent[2], box[2]) - max(extent[0], box[0])
    height = min(extent[3], box[3]) - max(extent[1], box[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area = _area(extent)
    iou = shared / (area + _area(box) - shared)
    return iou < _LEAST_OVERLAP and shared < _INSIDE * area


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def extent_of(segmentation: Segmentation, size: Size) -> Box | None:
    """Return the box of a mask, for polygons about; None for no pixel."""
    if isinstance(segmentation, str):
        return _tight(segmentation, size)
    assert segmentation is not None
    height, width = size
    points = np.concatenate([polygon.reshape(-1, 2) for polygon in segmentation])
    low = np.maximum(points.min(0), 0)
    high = np.minimum(points.max(0), (width, height))
    may_be_empty = all(masks.may_be_empty(polygon, size) for polygon in segmentation)
    cancels = any(masks.goes_around_again(polygon) for polygon in segmentation)
    if may_be_empty or cancels or (low >= high).any() or (high - low).min() < 1:
        return _tight(masks.from_polygons(segmentation, size), size)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _tight(rle: str, size: Size) -> Box | None:
    x1, y1, x2, y2 = masks.tight_box(rle, size).tolist()
    if x1 == x2:
        return None
    return x1, y1, x2, y2


def corners(record: Json, name: str) -> Box:
    """Return an xywh field as xyxy pixels."""
    value = need(record, name)
    if not isinstance(value, list) or len(value) != 4:
        raise RecordError("bad box", f"{name} {value!r:.200} must be a list [x, y, width, height]")
    x, y, width, height = (number(v, name) for v in value)
    if width <= 0 or height <= 0:
        raise RecordError("empty box", f"{name} {value!r:.200} has no extent")
    # rounded as boxes are kept, or 0.1 + 319.9 would lie outside an image of 320 pixels
    x2 = float(np.float32(x + width))
    y2 = float(np.float32(y + height))
    return x, y, x2, y2


def read_segmentation(value: Any, size: Size) -> Segmentation:
    """Return checked compressed counts or polygons; None where there is no mask."""
    if value is None or value == []:
        return None
    try:
        if not isinstance(value, dict):
            return masks.check_polygons(value)
        if value.get("size") != list(size):
            raise ValueError(
                f"its size {value.get('size')!r:.100} is not that of the image, {list(size)}"
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


def encode_segmentation(segmentation: Segmentation, size: Size) -> str | None:
    """Return the compressed counts of a checked mask in an image (H, W)."""
    if isinstance(segmentation, list):
        return masks.from_polygons(segmentation, size)
    return segmentation


# fields of our own, which other readers pass over


def read_source_and_verdict(record: Json) -> tuple[str, str | None]:
    """Return the source of an object and its verdict, None where there is none."""
    source = record.get("source", "human")
    verdict = record.get("verdict")
    if source not in SOURCES or not isinstance(verdict, str | None):
        raise RecordError(
            "bad value",
            f"source {source!r:.100} must be one of {', '.join(SOURCES)}, verdict a text",
        )
    return source, verdict


def read_optional(record: Json, name: str) -> float:
    """Return a number of a record, NaN where there is none."""
    if name not in record:
        return math.nan
    return number(record[name], name)


def read_layout_box(record: Json) -> Box | None:
    """Return the box of the layout; None where the record has none."""
    if "layout_bbox" not in record:
        return None
    return corners(record, "layout_bbox")


def columns(records: Sequence[Any], names: Iterable[str]) -> dict[str, list[Any]]:
    """Return attributes of records as columns [N] for `Objects.build`."""
    table = {}
    for name in names:
        table[name] = [getattr(record, name) for record in records]
    return table

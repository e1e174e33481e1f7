"""The annotations of COCO files, each record checked and kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import one_line
from synthaug.pipeline.core.scene import SOURCES, Category
from synthaug.pipeline.formats.coco.records import Image, ImageReader
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    flag,
    inside_box,
    is_int,
    need,
    number,
)

BOX_ONLY = "box_only"  # extra field: the object has no mask, what stands for one is its box
Segmentation = str | list[NDArray[np.float64]] | None  # compressed counts, or polygons


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


@dataclass(frozen=True, slots=True)
class Target:
    """The image and the category that an annotation names."""

    key: str  # of the image
    image: Image
    category: int  # index


class LabelReader:
    """Checks annotation records."""

    def __init__(
        self, images: ImageReader, categories: tuple[Category, ...], skipped: Counter[str]
    ) -> None:
        self._images = images
        self._categories = categories
        self._skipped = skipped
        self._index = {category.id: index for index, category in enumerate(categories)}

    def target(self, record: Any) -> Target | None:
        """Return the image and category of a record; None where its image was refused."""
        key = self._images.key_of_image(record, self._skipped)
        if key is None:
            return None
        category = need(record, "category_id")
        if not is_int(category) or category not in self._index:
            raise RecordError(
                "unknown category", f"category_id {category!r} is not among the categories"
            )
        return Target(key, self._images.images[key], self._index[category])

    def read(self, record: dict[str, Any], target: Target) -> Label:
        """Check the values of a record."""
        size = target.image.size
        box, clipped = inside_box(corners(record, "bbox"), size)
        mask = record.get("segmentation")
        if record.get(BOX_ONLY) == 1:
            mask = None
        segmentation = read_segmentation(mask, size)
        source, verdict = read_source_and_verdict(record)
        layout_box = read_layout_box(record)
        box_area = (box[2] - box[0]) * (box[3] - box[1])
        category = self._categories[target.category]
        label = Label(
            id=record.get("id"),
            object_id=record.get("object_id", record.get("id")),
            category=target.category,
            box=box,
            layout_box=layout_box or box,
            area=number(record.get("area", box_area), "area", low=0.0),
            iscrowd=flag(record, "iscrowd", False),
            isthing=flag(record, "isthing", category.isthing),
            segmentation=segmentation,
            score=number(record.get("score", 1.0), "score", low=0.0),
            source=source,
            verdict=verdict,
            verdict_score=read_verdict_score(record),
        )
        self._skipped["clipped to image"] += clipped
        return label


def corners(record: dict[str, Any], name: str) -> Box:
    """Return an xywh field as xyxy pixels."""
    value = need(record, name)
    if not isinstance(value, list) or len(value) != 4:
        raise RecordError("bad box", f"{name} {value!r} must be a list [x, y, width, height]")
    x, y, width, height = (number(v, name) for v in value)
    if width <= 0 or height <= 0:
        raise RecordError("empty box", f"{name} {value!r} has no extent")
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


def encode_segmentation(segmentation: Segmentation, size: Size) -> str | None:
    """Return the compressed counts of a checked mask in an image (H, W)."""
    if isinstance(segmentation, list):
        return masks.from_polygons(segmentation, size)
    return segmentation


# fields of our own, which other readers pass over


def read_source_and_verdict(record: dict[str, Any]) -> tuple[str, str | None]:
    """Return the source of an object and its verdict, None where there is none."""
    source = record.get("source", "human")
    verdict = record.get("verdict")
    if source not in SOURCES or not isinstance(verdict, str | None):
        raise RecordError(
            "bad value",
            f"source {source!r} must be one of {', '.join(SOURCES)}, verdict a text",
        )
    return source, verdict


def read_verdict_score(record: dict[str, Any]) -> float:
    """Return the verdict's score, NaN where there is none."""
    if "verdict_score" not in record:
        return math.nan
    return number(record["verdict_score"], "verdict_score")


def read_layout_box(record: dict[str, Any]) -> Box | None:
    """Return the box of the layout; None where the record has none."""
    if "layout_bbox" not in record:
        return None
    return corners(record, "layout_bbox")


# --- labels of a whole file ---


def columns(records: Sequence[Any], names: Iterable[str]) -> dict[str, list[Any]]:
    """Return attributes of records as columns [N] for `Objects.build`."""
    table = {}
    for name in names:
        table[name] = [getattr(record, name) for record in records]
    return table


def with_ids(labels: Sequence[tuple[str, Label]], skipped: Counter[str]) -> list[tuple[str, Label]]:
    """Give every label a unique id >= 1: our own, the file's, or 1, 2, 3 ..."""
    own_ids = [label.object_id for _, label in labels]
    file_ids = [label.id for _, label in labels]
    if _are_ids(own_ids):
        ids = own_ids
    elif _are_ids(file_ids):
        ids = file_ids
    else:
        skipped["renumbered ids"] += len(labels)
        ids = list(range(1, len(labels) + 1))
    numbered = []
    for (key, label), new_id in zip(labels, ids, strict=True):
        renumbered = label if label.id == new_id else replace(label, id=new_id)
        numbered.append((key, renumbered))
    return numbered


def _are_ids(values: list[Any]) -> bool:
    if not all(is_int(value) and 1 <= value < 1 << 63 for value in values):
        return False
    return len(set(values)) == len(values)

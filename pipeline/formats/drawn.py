"""Objects as annotation tools draw them, for the readers of their files.

Boxes, polygons, ellipses and masks of one image, turned ones too, in pixels of what the tool shows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.boxes import Size, box_areas
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import Header
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import image_ref, located
from synthaug.pipeline.formats.checked import (
    CheckedConfig,
    CheckedDataset,
    first_ids,
    numbered_categories,
)
from synthaug.pipeline.formats.packed import Packed
from synthaug.pipeline.formats.source_files import read_lines
from synthaug.pipeline.formats.validation import (
    ROUNDED,
    Box,
    RecordError,
    clip_reason,
    has_extent,
    inside_box,
    part_hint,
)

TURNED = "box drawn at an angle, taken as the upright box around it"
JOINED = "shapes of one group and class, taken as one object"
_IGNORED = ("crowd", "iscrowd", "is_crowd", "difficult")  # flags of regions to be ignored
_CORNERS = 64  # of the polygon that stands for an ellipse
Points = NDArray[np.float64]  # [K, 2] x, y in pixels


@dataclass(frozen=True, slots=True)
class Canvas:
    """The image on which a shape lies, and the rule for what reaches out of it."""

    size: Size  # (H, W)
    cuts_boxes: bool  # that reach out by over a pixel, masks too; else they are refused
    note: Callable[[str], None]  # counts what was done to the shape, by reason


@dataclass(frozen=True, slots=True)
class Drawn:
    """One object of an image: its class, its box and, where it has one, its mask."""

    name: str
    box: Box
    polygons: tuple[Points, ...] = ()  # of the mask, or
    rle: str | None = None  # compressed counts of it
    is_ignored: bool = False  # a region to be ignored


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """A checked image with what was drawn in it."""

    image_id: str
    path: Path
    num_bytes: int
    size: Size  # (H, W), as the objects count it
    turned: str  # of ImageRef
    objects: tuple[Drawn, ...]


class DrawnDataset(CheckedDataset[DrawnImage]):
    """Images of a tool's own files, in their order."""

    def __init__(
        self, categories: tuple[Category, ...], images: Packed[DrawnImage], skipped: Skipped
    ) -> None:
        super().__init__(categories, images, skipped)
        self._index = {category.name: index for index, category in enumerate(categories)}
        self._first_ids = first_ids(len(image.objects) for image in images)

    def scene(self, index: int, row: DrawnImage) -> Scene:
        """Return a scene; polygons are filled."""
        rles = [counts_of(drawn, row.size) for drawn in row.objects]
        corners = [drawn.box for drawn in row.objects]
        boxes = np.array(corners, np.float32).reshape(-1, 4)
        area = box_areas(boxes)
        for k, rle in enumerate(rles):
            if rle is not None:
                area[k] = masks.area(rle)
        category = [self._index[drawn.name] for drawn in row.objects]
        objects = Objects.build(
            category,
            boxes,
            id=np.arange(len(boxes)) + self._first_ids[index],
            rle=rles,
            area=area,
            iscrowd=[drawn.is_ignored for drawn in row.objects],
            isthing=[self.categories[k].isthing for k in category],
        )
        return Scene(row.image_id, *row.size, self.image(row), objects)

    def image(self, row: DrawnImage) -> ImageRef:
        """Return the image of a row."""
        return image_ref(row.path, row.turned)

    def content(self) -> str:
        """Return the classes, the objects and the sizes of the images."""
        rows = []
        for row in self.rows:
            objects = [_told(drawn) for drawn in row.objects]
            rows.append((row.image_id, row.num_bytes, row.size, row.turned, objects))
        names = [category.name for category in self.categories]
        return json.dumps([names, rows])


def _told(drawn: Drawn) -> list[Any]:
    """Return an object as JSON values; of a mask its digest."""
    shape = hashlib.sha256((drawn.rle or "").encode())
    for polygon in drawn.polygons:
        shape.update(polygon.tobytes() + b";")
    return [drawn.name, drawn.box, drawn.is_ignored, shape.hexdigest()]


def counts_of(drawn: Drawn, size: Size) -> str | None:
    """Return the compressed counts of an object's mask; None where it has none."""
    if drawn.polygons:
        flat = [polygon.ravel() for polygon in drawn.polygons]
        return masks.from_polygons(flat, size)
    return drawn.rle


# --- shapes ---


def drawn_box(name: str, corners: Iterable[float], canvas: Canvas) -> Drawn:
    """Return an object of a box x, y, x, y, in any order of its corners."""
    x1, y1, x2, y2 = corners
    left = min(x1, x2)
    top = min(y1, y2)
    right = max(x1, x2)
    bottom = max(y1, y2)
    box = (left, top, right, bottom)
    if not has_extent(box):
        raise RecordError("empty box", "its box has no extent")
    inner, excess = inside_box(box, canvas.size, canvas.cuts_boxes)
    if excess:
        canvas.note(clip_reason(excess))
    return Drawn(name, _float32(inner))


def turned_box(name: str, corners: Points, canvas: Canvas) -> Drawn:
    """Return the visible upright box around the corners [4, 2] of a turned one."""
    if not has_extent(_around(corners)):
        raise RecordError("empty box", "its box has no extent")
    canvas.note(TURNED)
    return Drawn(name, _box_of(_seen([corners], canvas.size)))


def rotated(corners: Points, center: tuple[float, float], degrees: float) -> Points:
    """Return corners [K, 2] turned clockwise, as seen on the screen, around a point."""
    angle = math.radians(degrees)
    cosine = math.cos(angle)
    sine = math.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    from_center = corners - center
    turned: Points = from_center @ matrix + center
    return turned


def corners_of(x1: float, y1: float, x2: float, y2: float) -> Points:
    """Return the corners [4, 2] of a box."""
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def ellipse(center: tuple[float, float], radii: tuple[float, float], degrees: float = 0) -> Points:
    """Return a polygon [64, 2] in the place of an ellipse."""
    angle = np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
    across = np.cos(angle) * radii[0]
    down = np.sin(angle) * radii[1]
    points = np.stack([across, down], axis=1) + center
    return rotated(points, center, degrees)


def drawn_polygons(name: str, polygons: Iterable[Points], canvas: Canvas) -> Drawn:
    """Return an object of polygons, whose box is that of their visible part.

    Polygons that reach out of the image are cut, never moved, and counted.
    """
    parts = []
    for polygon in polygons:
        if len(polygon) < 3 or not np.isfinite(polygon).all():
            raise RecordError("bad mask", "a polygon needs three points or more")
        parts.append(polygon)
    points = np.concatenate(parts)
    size = canvas.size
    seen = _seen(parts, size)
    flat = [part.ravel() for part in parts]
    if all(masks.may_be_empty(part, size) for part in flat):
        counts = masks.from_polygons(flat, size)
        if not masks.area(counts):
            hint = part_hint(points)
            raise RecordError("empty mask", f"its polygon covers no pixel of the image{hint}")
    height, width = size
    beyond = points.max(0) > (width + 1, height + 1)
    if points.min() < -1 or beyond.any():
        canvas.note(ROUNDED)
    return Drawn(name, _box_of(seen), tuple(parts))


def drawn_mask(name: str, mask: Flags) -> Drawn:
    """Return an object of a mask [H, W]."""
    if not mask.any():
        raise RecordError("empty mask", "its mask covers no pixel")
    counts, boxes = masks.encode_with_boxes(np.ascontiguousarray(mask)[None])
    x1, y1, x2, y2 = boxes[0].tolist()
    return Drawn(name, (x1, y1, x2, y2), rle=counts[0])


def placed_mask(part: Flags, left: int, top: int, canvas: Canvas) -> Flags:
    """Return the mask [H, W] of a part [h, w] whose first pixel lies at `left`, `top`.

    What reaches out of the image is cut and counted, as of boxes, or refused.
    """
    height, width = part.shape
    rows, columns = canvas.size
    excess = max(-left, -top, left + width - columns, top + height - rows)
    if excess > 0 and not canvas.cuts_boxes:
        raise RecordError(
            "bad mask", f"its mask of {width}x{height} at {left} {top} lies outside the image"
        )
    if excess > 0:
        canvas.note(clip_reason(excess))
    whole = np.zeros(canvas.size, np.bool_)
    inner = part[max(-top, 0) : max(rows - top, 0), max(-left, 0) : max(columns - left, 0)]
    bottom = max(top, 0) + inner.shape[0]
    right = max(left, 0) + inner.shape[1]
    whole[max(top, 0) : bottom, max(left, 0) : right] = inner
    return whole


def _around(points: Points) -> Box:
    x1, y1 = points.min(0).tolist()
    x2, y2 = points.max(0).tolist()
    return x1, y1, x2, y2


def _seen(polygons: Iterable[Points], size: Size) -> Points:
    """Return the corners [K, 2] of the part of polygons that lies in the image."""
    inner = [masks.cut_to_image(polygon, size) for polygon in polygons]
    corners: Points = np.concatenate(inner)
    if not len(corners):
        raise RecordError("box outside the image", "it lies outside the image")
    return corners


def _box_of(corners: Points) -> Box:
    """Return the box around corners in the image, as it is kept."""
    if not has_extent(_around(corners)):
        raise RecordError("box outside the image", "it lies outside the image")
    return _float32(_around(corners))


def _float32(box: Box) -> Box:
    """Return a box as it is kept."""
    x1, y1, x2, y2 = np.array(box, np.float32).tolist()
    return x1, y1, x2, y2


def joined(parts: list[Drawn], size: Size) -> Drawn:
    """Return several shapes of one object as one; all have masks."""
    boxes = np.array([part.box for part in parts])
    x1, y1 = boxes[:, :2].min(0).tolist()
    x2, y2 = boxes[:, 2:].max(0).tolist()
    whole = np.zeros(size, np.bool_)
    for part in parts:
        counts = counts_of(part, size)
        assert counts is not None
        whole |= masks.decode(counts, size)
    (rle,) = masks.encode(whole[None])
    is_ignored = any(part.is_ignored for part in parts)
    return Drawn(parts[0].name, (x1, y1, x2, y2), (), rle, is_ignored)


def join_groups(
    shapes: list[tuple[Drawn, Any]], size: Size, note: Callable[[str], None]
) -> tuple[Drawn, ...]:
    """Return the objects of shapes with their groups, None for no group.

    Those of one group and class are one. Boxes stay apart: only shapes with a mask are parts.
    """
    objects: list[Drawn] = []
    members: dict[tuple[str, str], list[Drawn]] = {}
    for drawn, group in shapes:
        has_mask = bool(drawn.polygons) or drawn.rle is not None
        if group is None or not has_mask:
            objects.append(drawn)
        else:
            members.setdefault((drawn.name, str(group)), []).append(drawn)
    for parts in members.values():
        if len(parts) == 1:
            objects.append(parts[0])
        else:
            note(JOINED)
            objects.append(joined(parts, size))
    return tuple(objects)


# --- what tools say of objects, images and classes ---


def is_ignore_flag(name: str, value: Any) -> bool:
    """Whether a flag or attribute says that an object is a region to be ignored."""
    return name.strip().lower() in _IGNORED and _is_true(value)


def _is_true(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes")
    return value is True or (isinstance(value, int) and value == 1)


def count_flags(flags: Mapping[str, Any], skipped: Skipped) -> None:
    """Count flags and attributes of an object by name: a scene has no place for them."""
    for name, value in flags.items():
        says_something = value not in (None, False, "", 0, "false", "0", "False")
        if says_something and not is_ignore_flag(name, value):
            skipped.unread[f"'{name[:60]}' of objects"] += 1


def as_seen(header: Header, size: Size | None, config: CheckedConfig) -> tuple[Size, str]:
    """Return the size (H, W) of an image as a tool's shapes count it, and `turned`.

    Tools draw on what a viewer shows, so that is taken where both would fit. Raises RecordError
    for another size than that of the file.
    """
    turned = config.turned
    if not turned and header.orientation != 1 and size in (None, header.shown):
        turned = "as_shown"
    try:
        as_shown = header.labelled(turned, size)
    except ValueError as err:
        raise RecordError("bad image size", str(err)) from err
    if as_shown:
        return header.shown, turned
    return header.size, turned


def listed_classes(file: Path) -> tuple[Category, ...]:
    """Return the classes of a text file, one per line; labelme's `__ignore__` is none."""
    names = [name for name in read_lines(file) if name not in ("__ignore__", "_background_")]
    if not names or len(set(names)) < len(names):
        raise DatasetError(f"{file}: must list each class once, one per line; correct it")
    return numbered_categories(names)


def occurring_classes(images: Iterable[DrawnImage]) -> tuple[Category, ...]:
    """Return the classes that objects have, by the alphabet, with ids from 1."""
    names: set[str] = set()
    for image in images:
        names.update(drawn.name for drawn in image.objects)
    return numbered_categories(sorted(names))


def image_folder(file: Path, images: str, root: Path) -> Path:
    """Return the folder of an annotation file's pictures.

    It is the one that the option `images` names, else the folder images/ beside the file, else the
    file's own. DatasetError where the named one is not there.
    """
    if images:
        folder = located(root, images)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; correct the option images=")
        return folder.resolve()
    beside = file.parent / "images"
    if beside.is_dir():
        return beside.resolve()
    return file.parent.resolve()

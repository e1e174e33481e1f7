"""Label files of YOLO: what the columns of a line are is told, not guessed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Floats
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.checked import Checker
from synthaug.pipeline.formats.validation import RecordError, clip_reason, inside_box, number_in

TASKS = ("detect", "segment", "pose", "obb")
_BOX = 5  # columns: class cx cy w h
_SNAP = 1e-3  # pixels within which a coordinate is taken for a whole number
_TOLERANCE = 1.0  # pixels a point may stick out of its image; it is clipped
_SLACK = 0.01  # parts of the image by which guessed columns may be off
_VISIBILITY = (0.0, 1.0, 2.0)  # third number of a key point
Shape = NDArray[np.float64]  # a box xyxy [4], or a polygon [K, 2]; pixels


@dataclass(frozen=True)
class Columns:
    """What the columns of a line are."""

    task: str  # one of TASKS; "" = a box of five numbers, a polygon of seven or more
    keypoints: int = 0  # numbers of the key points of an object


@dataclass
class Guess:
    """Whether the lines taken for polygons may be boxes with something behind them.

    That is so where every line has as many numbers and reads so; polygons of a whole set do not.
    """

    counts: set[int] = field(default_factory=set)
    pose: bool = True  # the first four numbers are a box that holds all the other points
    visible_pose: bool = True  # the same for points with a third number, their visibility
    tracked: bool = True  # box, confidence, number of the track
    corners: bool = True  # four corners of a turned box

    def see(self, values: list[float]) -> None:
        """Take one line: class and coordinates."""
        self.counts.add(len(values))
        numbers = np.array(values[1:])
        x, y, width, height = numbers[:4].tolist()
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        is_box = min(width, height) > 0 and min(box) > -_SLACK and max(box) < 1 + _SLACK
        rest = numbers[4:]
        self.pose &= is_box and _holds(box, rest.reshape(-1, 2))
        self.visible_pose &= is_box and _holds_visible(box, rest)
        self.tracked &= (
            is_box and len(rest) == 2 and 0 < rest[0] <= 1 and float(rest[1]).is_integer()
        )
        self.corners &= _is_turned_box(numbers)

    def told(self) -> str:
        """Return what the lines may be, with the way out; "" where they are polygons."""
        if len(self.counts) != 1 or self.corners:
            return ""
        (count,) = self.counts
        if self.tracked:
            return (
                f"every line has {count} numbers that read as class cx cy w h confidence track; "
                "leave the last two out, or say task=segment if they are triangles"
            )
        if self.pose or self.visible_pose:
            return (
                f"every line has {count} numbers of which the first five read as a box that holds "
                "all the other points, so these may be key points; say kpt_shape in data.yaml, "
                "or task=segment if they are polygons"
            )
        return ""


@dataclass
class RowReader:
    """Reads label files of images and remembers what their lines look like."""

    num_classes: int
    columns: Columns
    skipped: Skipped
    cuts_boxes: bool = False  # that reach out of their image, polygons too
    guess: Guess = field(default_factory=Guess)

    def read(
        self, text: str, size: Size, owner: str, check: Checker
    ) -> tuple[tuple[int, ...], tuple[Shape, ...]]:
        """Return the classes and shapes of a label file of the image `owner`."""
        category = []
        shapes = []
        for number, row in enumerate(text.splitlines(), start=1):
            if not row.strip():
                continue
            part = f"line {number} of its labels"

            def parsed(row: str = row, part: str = part) -> tuple[int, Shape]:
                return self._row(row, size, f"{check.file.name}: {owner}: {part}")

            found = check.attempt(owner, part, parsed)
            if found is not None:
                category.append(found[0])
                shapes.append(found[1])
        return tuple(category), tuple(shapes)

    def _row(self, row: str, size: Size, name: str) -> tuple[int, Shape]:
        """Return the class and the shape of a line; RecordError for a bad one."""
        values = self._shape_columns(_numbers(row))
        largest = max(abs(value) for value in values[1:])
        if largest > 2:
            raise RecordError(
                "bad label",
                "a coordinate is not between 0 and 1; they are parts of the image's width and "
                "height",
            )
        label = int(values[0])
        if label != values[0] or not 0 <= label < self.num_classes:
            raise RecordError(
                "bad label", f"class {values[0]:g} is not among the {self.num_classes} names"
            )
        if len(values) == _BOX:
            shape, excess = self._box(values[1:], size)
        else:
            self.guess.see(values)
            shape, excess = _polygon(values[1:], size, self.cuts_boxes)
            if _holds_no_pixel(shape, size):
                self.skipped.note("empty mask, the object keeps its box", name)
                shape = np.concatenate([shape.min(0), shape.max(0)])
        if excess > 0:
            self.skipped.note(clip_reason(excess), name)
        return label, shape

    def _shape_columns(self, values: list[float]) -> list[float]:
        """Return the class and the numbers of the shape."""
        count = len(values)
        task = self.columns.task
        if task == "pose":
            if count not in (_BOX, _BOX + self.columns.keypoints):
                raise RecordError(
                    "bad label",
                    f"{count} numbers; by kpt_shape a line has {_BOX} and "
                    f"{self.columns.keypoints} of its key points",
                )
            if count > _BOX:
                self.skipped.unread["key points of objects"] += 1
            return values[:_BOX]
        if task == "detect" and count != _BOX:
            raise RecordError("bad label", f"{count} numbers; a box has 5 (class cx cy w h)")
        if task == "obb" and count != 9:
            raise RecordError(
                "bad label", f"{count} numbers; a turned box has 9 (class and four corners)"
            )
        if count < _BOX or count % 2 == 0:
            hint = ""
            if count == 6:
                hint = "; a sixth number may be a confidence: leave it out"
            if count > 6:
                hint = "; key points need kpt_shape in data.yaml"
            raise RecordError(
                "bad label",
                f"{count} numbers; a box has 5 (class cx cy w h), a polygon 7, 9, 11 ...{hint}",
            )
        return values

    def _box(self, values: list[float], size: Size) -> tuple[Shape, float]:
        """Return the box [4] in pixels of cx, cy, w, h in parts of an image (H, W)."""
        height, width = size
        center = np.array([values[0] * width, values[1] * height])
        half = np.array([values[2] * width, values[3] * height]) / 2
        if (half <= 0).any():
            raise RecordError("empty box", "the box has no extent")
        corners = np.concatenate([center - half, center + half])
        x1, y1, x2, y2 = np.round(corners, 6).astype(np.float32).astype(np.float64).tolist()
        box, excess = inside_box((x1, y1, x2, y2), size, self.cuts_boxes)
        return np.array(box), excess


def _numbers(row: str) -> list[float]:
    """Return the numbers of a line."""
    try:
        return [number_in(word, "a column") for word in row.split()]
    except RecordError as err:
        hint = "; a line is the class, as its number from 0, and parts of the image"
        if "," in row:
            hint = "; spaces separate the columns, and numbers are written with a point"
        raise RecordError("bad label", err.detail + hint) from err


def _polygon(values: list[float], size: Size, cuts: bool) -> tuple[Shape, float]:
    """Return the polygon [K, 2] in pixels of x, y, ... in parts of an image (H, W)."""
    height, width = size
    points = np.array(values).reshape(-1, 2) * (width, height)
    nearest = np.round(points)
    # outlines of pixels lie on whole numbers
    points = np.where(np.abs(points - nearest) < _SNAP, nearest, points)
    excess = max(-points.min(), (points - (width, height)).max())
    if excess > _TOLERANCE and not cuts:
        raise RecordError(
            "polygon outside the image",
            f"a point lies {excess:g} pixels outside the image of {width}x{height}",
        )
    inner = points
    if excess > 0:
        inner = masks.cut_to_image(points, size)
    if not len(inner) or (inner.min(0) >= inner.max(0)).any():
        raise RecordError("empty box", "the polygon has no extent inside the image")
    return inner, max(float(excess), 0.0)


def _holds_no_pixel(shape: Shape, size: Size) -> bool:
    """Whether a polygon [K, 2] covers no pixel."""
    polygon = shape.ravel()
    if not masks.may_be_empty(polygon, size):
        return False
    return not masks.area(masks.from_polygons([polygon], size))


def _holds(box: tuple[float, float, float, float], points: Floats) -> bool:
    low = np.array(box[:2]) - _SLACK
    high = np.array(box[2:]) + _SLACK
    return bool(((points >= low) & (points <= high)).all())


def _holds_visible(box: tuple[float, float, float, float], rest: Floats) -> bool:
    if len(rest) % 3:
        return False
    triples = rest.reshape(-1, 3)
    if not np.isin(triples[:, 2], _VISIBILITY).all():
        return False
    return _holds(box, triples[triples[:, 2] > 0, :2])


def _is_turned_box(numbers: Floats) -> bool:
    """Whether eight numbers are corners whose diagonals halve each other."""
    if len(numbers) != 8:
        return False
    first, second, third, fourth = numbers.reshape(4, 2)
    return bool((np.abs(first + third - second - fourth) < 2 * _SLACK).all())

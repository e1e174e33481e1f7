"""Pictures of the report: pixels as data URIs, shapes over them as plain numbers."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Bytes, Flags
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.core.scene import Category, Objects, Scene

QUALITY = 85  # of WebP
COLORS = 7  # of the page's palette; a class has color `index % COLORS`
CONTEXT = 0.45  # shown around an instance on each side, share of its longer side
LEAST_CROP = 24  # pixels; a smaller crop shows nothing a person can name
EDGE = 0.75  # units by which shapes keep away from the border of the picture
# A traced outline may be off by this many units of the picture ...
_TOLERANCE = 0.9
# ... or by this many pixels of a mask that is coarser than these units.
_TOLERANCE_PIXELS = 0.45

Window = tuple[int, int, int, int]  # x1, y1, x2, y2: the part of an image that is shown, pixels
Size = tuple[int, int]  # (H, W)


@dataclass(frozen=True)
class Shape:
    """One object over a picture, in the picture's own pixels."""

    # thing | stuff | asked (the planned box of an object) | dropped (a planned box without visible
    # pixels)
    kind: str
    name: str
    color: int
    x: float
    y: float
    width: float
    height: float
    path: str  # SVG path of the mask's outline; "" without a mask
    category: int = -1
    id: int = 0  # of the object
    score: float | None = None  # of a pseudo-label, or of the detection a verdict rests on
    verdict: str = ""


@dataclass(frozen=True)
class Resolution:
    """The pixels of an image that a page keeps; never more than the image has."""

    side: int  # the longer one, pixels
    quality: int = QUALITY


@dataclass(frozen=True)
class Picture:
    """An embedded image with its shapes, in units of which a page may make any size."""

    src: str  # data URI; "" without pixels
    width: int  # in the units of the shapes
    height: int
    shapes: tuple[Shape, ...]
    alt: str

    @property
    def weight(self) -> int:
        """Bytes it adds to a page, about."""
        return len(self.src) + sum(len(shape.path) + 200 for shape in self.shapes)


def full_picture(
    scene: Scene,
    pixels: Bytes,
    categories: Sequence[Category],
    side: int,
    planned: Objects | None = None,
    resolution: Resolution | None = None,
) -> Picture:
    """Show an image [H, W, 3] with all its objects and its `planned` boxes.

    All in the same pixels. Its longer side has `side` units; as many pixels are stored, or those of
    `resolution`.
    """
    frame = _Frame(_full_window(scene), side)
    shapes = _object_shapes(scene, range(len(scene.objects)), categories, frame)
    if planned is not None:
        visible = set(scene.objects.id.tolist())
        shapes += _planned_shapes(planned, visible, categories, frame)
    kind = "Synthetic" if scene.provenance else "Real"
    alt = f"{kind} image {scene.image_id}: {describe(scene.objects, categories)}"
    return _picture(pixels, frame, shapes, alt, resolution or Resolution(side))


def layout_picture(scene: Scene, categories: Sequence[Category], side: int) -> Picture:
    """Show a layout that has no pixels yet."""
    frame = _Frame(_full_window(scene), side)
    height, width = frame.size
    shapes = _object_shapes(scene, range(len(scene.objects)), categories, frame)
    alt = f"Layout {scene.image_id}: {describe(scene.objects, categories)}"
    return Picture("", width, height, tuple(shapes), alt)


def object_picture(
    scene: Scene,
    pixels: Bytes,
    categories: Sequence[Category],
    side: int,
    number: int,
    crop: bool,
) -> Picture:
    """Show one object of an image, in the full image or in a square crop.

    The crop has some context.
    """
    window = _around(scene, number) if crop else _full_window(scene)
    frame = _Frame(window, side)
    shapes = _object_shapes(scene, [number], categories, frame)
    name = categories[int(scene.objects.category[number])].name
    kind = "synthetic" if scene.provenance else "real"
    alt = f"{name}, {kind} image {scene.image_id}"
    return _picture(pixels, frame, shapes, alt, Resolution(side))


def describe(objects: Objects, categories: Sequence[Category]) -> str:
    """Say in words which objects there are: `2 tree, 1 car`."""
    counts = Counter(categories[label].name for label in objects.category.tolist())
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "no objects"


def embed(pixels: Bytes, size: Size, quality: int = QUALITY) -> str:
    """Return an image [H, W, 3] resized to (H, W) as the data URI of a WebP file."""
    from PIL import Image

    height, width = size
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=4)
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{data}"


def outline(mask: Flags, size: Size) -> str:
    """Trace a mask [H, W] as an SVG path with holes, of relative steps.

    In the pixels of a picture of `size` (H, W).
    """
    import cv2

    # Contours run through pixel centres; on the picture's finer grid that is less of a mask's
    # pixel.
    gray = mask.astype(np.uint8) * 255
    height, width = size
    interpolation = cv2.INTER_NEAREST if height >= mask.shape[0] else cv2.INTER_AREA
    resized = cv2.resize(gray, (width, height), interpolation=interpolation)
    inside = (resized > 127).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    tolerance = max(_TOLERANCE, _TOLERANCE_PIXELS * height / mask.shape[0])
    pieces = []
    for contour in contours:
        simplified = cv2.approxPolyDP(contour, tolerance, True)
        points = simplified.reshape(-1, 2)  # [P, 2] x, y
        if len(points) <= 2:
            continue
        x, y = points[0].tolist()
        offsets = np.diff(points, axis=0).tolist()
        steps = [f"{dx} {dy}" for dx, dy in offsets]
        piece = f"M{x} {y}l{' '.join(steps)}z"
        pieces.append(piece.replace(" -", "-"))
    return "".join(pieces)


@dataclass(frozen=True)
class _Frame:
    """A window of an image shown with `side` units on its longer side."""

    window: Window
    side: int

    @property
    def size(self) -> Size:
        """(H, W) of the picture in units."""
        x1, y1, x2, y2 = self.window
        scale = self.side / max(x2 - x1, y2 - y1)
        height = round((y2 - y1) * scale)
        width = round((x2 - x1) * scale)
        return max(1, height), max(1, width)

    def place(self, box: Boxes) -> tuple[float, float, float, float]:
        """Return a box (xyxy, image pixels) as x, y, width, height in units.

        Clipped to the window.
        """
        x1, y1, x2, y2 = self.window
        height, width = self.size
        x_scale = width / (x2 - x1)
        y_scale = height / (y2 - y1)
        scale = np.array([x_scale, y_scale] * 2)
        corner = np.array([x1, y1] * 2)
        moved = (box.astype(np.float64) - corner) * scale  # [4] xyxy
        limit = [width - EDGE, height - EDGE] * 2
        inside = np.clip(moved, EDGE, limit).round(1)
        left, top, right, bottom = inside.tolist()
        return left, top, round(right - left, 1), round(bottom - top, 1)


def _full_window(scene: Scene) -> Window:
    return 0, 0, scene.width, scene.height


def _around(scene: Scene, number: int) -> Window:
    """Return a square about an object with context, moved inside the image."""
    x1, y1, x2, y2 = scene.objects.boxes[number].tolist()
    longer = max(x2 - x1, y2 - y1)
    side = max(LEAST_CROP, round(longer * (1 + 2 * CONTEXT)))
    width = min(side, scene.width)
    height = min(side, scene.height)
    left = max(0, round((x1 + x2 - width) / 2))
    top = max(0, round((y1 + y2 - height) / 2))
    left = min(left, scene.width - width)
    top = min(top, scene.height - height)
    return left, top, left + width, top + height


def _picture(
    pixels: Bytes,
    frame: _Frame,
    shapes: Sequence[Shape],
    alt: str,
    resolution: Resolution,
) -> Picture:
    """Embed the window of an image with its shapes."""
    x1, y1, x2, y2 = frame.window
    height, width = frame.size
    longer = max(x2 - x1, y2 - y1)
    stored = _Frame(frame.window, min(resolution.side, longer)).size
    window = pixels[y1:y2, x1:x2]
    src = embed(window, stored, resolution.quality)
    return Picture(src, width, height, tuple(shapes), alt)


def _object_shapes(
    scene: Scene, numbers: Iterable[int], categories: Sequence[Category], frame: _Frame
) -> list[Shape]:
    """Return the shapes of some objects; stuff comes first, below the things.

    Crowds are no instances and are left out.
    """
    objects = scene.objects
    x1, y1, x2, y2 = frame.window
    shapes = []
    for number in sorted(numbers, key=lambda i: (bool(objects.isthing[i]), i)):
        if objects.iscrowd[number]:
            continue
        path = ""
        rle = objects.rle[number]
        if rle is not None:
            mask = masks.decode(rle, scene.size)
            path = outline(mask[y1:y2, x1:x2], frame.size)
        kind = "thing" if objects.isthing[number] else "stuff"
        shape = _shape(kind, objects, number, categories, frame)
        score = _shown_score(objects, number)
        verdict = objects.verdict[number] or ""
        shapes.append(replace(shape, path=path, score=score, verdict=verdict))
    return shapes


def _shown_score(objects: Objects, number: int) -> float | None:
    """Return the score a verdict rests on, or a pseudo-label's own."""
    verdict_score = float(objects.verdict_score[number])
    if not np.isnan(verdict_score):
        return round(verdict_score, 3)
    if objects.source[number] == "pseudo":
        return round(float(objects.score[number]), 3)
    return None


def _planned_shapes(
    planned: Objects, visible: set[int], categories: Sequence[Category], frame: _Frame
) -> list[Shape]:
    """Return the boxes that were planned for things.

    Those without visible pixels are marked as dropped.
    """
    shapes = []
    for number in np.flatnonzero(planned.isthing).tolist():
        kind = "asked" if int(planned.id[number]) in visible else "dropped"
        shapes.append(_shape(kind, planned, number, categories, frame))
    return shapes


def _shape(
    kind: str, objects: Objects, number: int, categories: Sequence[Category], frame: _Frame
) -> Shape:
    """Return an object's box with its class and id."""
    category = int(objects.category[number])
    x, y, width, height = frame.place(objects.boxes[number])
    return Shape(
        kind=kind,
        name=categories[category].name,
        color=category % COLORS,
        x=x,
        y=y,
        width=width,
        height=height,
        path="",
        category=category,
        id=int(objects.id[number]),
    )

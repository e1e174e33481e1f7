"""Pictures of the report: pixels as data URIs, and what is drawn over them; shapes are plain numbers."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, Objects, Scene

QUALITY = 85  # of WebP
COLOURS = 7  # of the page's palette; a class has colour `index % COLOURS`
CONTEXT = 0.45  # shown around an instance on each side, share of its longer side
LEAST_CROP = 24  # pixels; a smaller cut-out shows nothing a person can name
_OFF = 0.9  # units of the picture by which a traced outline may be off ...
_OFF_PIXELS = 0.45  # ... and pixels of a mask that is coarser than these units

Window = tuple[int, int, int, int]  # x1, y1, x2, y2: the part of an image that is shown, pixels


@dataclass(frozen=True)
class Shape:
    """One object over a picture, in the picture's own pixels."""

    kind: str  # thing | stuff | asked (the planned box of an object) | dropped (a planned box without visible pixels)
    name: str
    colour: int
    x: float
    y: float
    width: float
    height: float
    path: str  # SVG path of the mask's outline; "" without a mask
    category: int = -1
    id: int = 0  # of the object
    score: float | None = None  # of a pseudo-label, or of what a verdict rests on
    verdict: str = ""


@dataclass(frozen=True)
class Grain:
    """How much of an image a page keeps; never more pixels than the image has."""

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


def whole(
    scene: Scene,
    pixels: NDArray[np.uint8],
    categories: Sequence[Category],
    side: int,
    planned: Objects | None = None,
    grain: Grain | None = None,
) -> Picture:
    """Show an image [H, W, 3] with all its objects, and the boxes `planned` for it in the same pixels.

    Its longer side has `side` units; as many pixels are stored, or what `grain` says.
    """
    window = (0, 0, scene.width, scene.height)
    shapes = _shapes(scene, range(len(scene.objects)), categories, window, side)
    if planned is not None:
        shapes += _asked(planned, set(scene.objects.id.tolist()), categories, window, side)
    kind = "Synthetic" if scene.provenance else "Real"
    alt = f"{kind} image {scene.image_id}: {describe(scene.objects, categories)}"
    return _picture(pixels, window, side, shapes, alt, grain)


def blank(scene: Scene, categories: Sequence[Category], side: int) -> Picture:
    """Show a layout that has no pixels yet."""
    window = (0, 0, scene.width, scene.height)
    height, width = _size(window, side)
    shapes = _shapes(scene, range(len(scene.objects)), categories, window, side)
    return Picture(
        "",
        width,
        height,
        tuple(shapes),
        f"Layout {scene.image_id}: {describe(scene.objects, categories)}",
    )


def single(
    scene: Scene,
    pixels: NDArray[np.uint8],
    categories: Sequence[Category],
    side: int,
    place: int,
    crop: bool,
) -> Picture:
    """Show one object of an image, in the whole of it or in a square cut-out with some context."""
    window = _around(scene, place) if crop else (0, 0, scene.width, scene.height)
    name = categories[int(scene.objects.category[place])].name
    kind = "synthetic" if scene.provenance else "real"
    return _picture(
        pixels,
        window,
        side,
        _shapes(scene, [place], categories, window, side),
        f"{name}, {kind} image {scene.image_id}",
    )


def describe(objects: Objects, categories: Sequence[Category]) -> str:
    """Say in words what is there: `2 tree, 1 car`."""
    counts = Counter(categories[c].name for c in objects.category.tolist())
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "no objects"


def embed(pixels: NDArray[np.uint8], size: tuple[int, int], quality: int = QUALITY) -> str:
    """Return an image [H, W, 3] resized to (H, W) as the data URI of a WebP file."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    image.save(out, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def outline(mask: NDArray[np.bool_], size: tuple[int, int]) -> str:
    """Trace a mask [H, W] as an SVG path with holes, of relative steps, in the pixels of a picture of `size` (H, W)."""
    import cv2

    # Contours run through pixel centres; on the picture's finer grid that is less of a mask's pixel.
    enlarged = cv2.resize(
        mask.astype(np.uint8) * 255, (size[1], size[0]), interpolation=_interpolation(mask, size)
    )
    contours, _ = cv2.findContours(
        (enlarged > 127).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    off = max(_OFF, _OFF_PIXELS * size[0] / mask.shape[0])
    pieces = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, off, True).reshape(-1, 2)  # [P, 2] x, y
        if len(points) > 2:
            first, steps = points[0].tolist(), np.diff(points, axis=0).tolist()
            pieces.append(
                f"M{first[0]} {first[1]}l{' '.join(f'{x} {y}' for x, y in steps)}z".replace(
                    " -", "-"
                )
            )
    return "".join(pieces)


def _interpolation(mask: NDArray[np.bool_], size: tuple[int, int]) -> int:
    import cv2

    return int(cv2.INTER_NEAREST if size[0] >= mask.shape[0] else cv2.INTER_AREA)


def _picture(
    pixels: NDArray[np.uint8],
    window: Window,
    side: int,
    shapes: Sequence[Shape],
    alt: str,
    grain: Grain | None = None,
) -> Picture:
    x1, y1, x2, y2 = window
    height, width = _size(window, side)
    grain = grain or Grain(side)
    stored = _size(window, min(grain.side, max(x2 - x1, y2 - y1)))
    return Picture(
        embed(pixels[y1:y2, x1:x2], stored, grain.quality), width, height, tuple(shapes), alt
    )


def _size(window: Window, side: int) -> tuple[int, int]:
    """The picture's (H, W): its longer side is `side`."""
    width, height = window[2] - window[0], window[3] - window[1]
    scale = side / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _around(scene: Scene, place: int) -> Window:
    """A square about an object with context, moved inside the image."""
    x1, y1, x2, y2 = scene.objects.boxes[place].tolist()
    side = max(LEAST_CROP, round(max(x2 - x1, y2 - y1) * (1 + 2 * CONTEXT)))
    width, height = min(side, scene.width), min(side, scene.height)
    left = min(max(0, round((x1 + x2 - width) / 2)), scene.width - width)
    top = min(max(0, round((y1 + y2 - height) / 2)), scene.height - height)
    return left, top, left + width, top + height


def _shapes(
    scene: Scene, places: Sequence[int], categories: Sequence[Category], window: Window, side: int
) -> list[Shape]:
    """Crowds are no instances and are left out; stuff comes first, so that things lie above it."""
    objects, (x1, y1, x2, y2) = scene.objects, window
    found = []
    for place in sorted(places, key=lambda i: (bool(objects.isthing[i]), i)):
        if objects.iscrowd[place]:
            continue
        rle, path = objects.rle[place], ""
        if rle is not None:
            mask = masks.decode(rle, (scene.height, scene.width))
            path = outline(mask[y1:y2, x1:x2], _size(window, side))
        kind = "thing" if objects.isthing[place] else "stuff"
        shape = _shape(
            kind, int(objects.category[place]), objects.boxes[place], categories, window, side, path
        )
        found.append(
            replace(
                shape,
                id=int(objects.id[place]),
                score=_score(objects, place),
                verdict=objects.verdict[place] or "",
            )
        )
    return found


def _score(objects: Objects, place: int) -> float | None:
    """What a verdict rests on, or a pseudo-label's own score."""
    judged = float(objects.verdict_score[place])
    if judged == judged:  # not NaN
        return round(judged, 3)
    return round(float(objects.score[place]), 3) if objects.source[place] == "pseudo" else None


def _asked(
    planned: Objects, made: set[int], categories: Sequence[Category], window: Window, side: int
) -> list[Shape]:
    things = np.flatnonzero(planned.isthing).tolist()
    kinds = ["asked" if int(planned.id[i]) in made else "dropped" for i in things]
    found = [
        _shape(kind, int(planned.category[i]), planned.boxes[i], categories, window, side, "")
        for i, kind in zip(things, kinds, strict=True)
    ]
    return [replace(shape, id=int(planned.id[i])) for shape, i in zip(found, things, strict=True)]


def _shape(
    kind: str,
    category: int,
    box: NDArray[np.float32],
    categories: Sequence[Category],
    window: Window,
    side: int,
    path: str,
) -> Shape:
    """Clip a box (xyxy, image pixels) to the window and scale it to the picture."""
    height, width = _size(window, side)
    scale = np.array([width / (window[2] - window[0]), height / (window[3] - window[1])] * 2)
    moved = (
        box.astype(np.float64) - np.array([window[0], window[1]] * 2)
    ) * scale  # [4] xyxy, picture pixels
    x1, y1, x2, y2 = np.clip(moved, 0.75, [width - 0.75, height - 0.75] * 2).round(1).tolist()
    size = round(x2 - x1, 1), round(y2 - y1, 1)
    return Shape(kind, categories[category].name, category % COLOURS, x1, y1, *size, path, category)

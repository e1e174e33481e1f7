"""One image of a data set looked at: its file, its pixels, its objects."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.boxes import Boxes, Size, box_areas, intersection_areas
from synthaug.pipeline.core.images import ImageFile, Pixels, decode_with_file
from synthaug.pipeline.core.readable import read_scene
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.core.skipped import Skipped

# kinds of oddities
TURNED = "turned"
DEEP = "deep"
SEVERAL = "several pictures"
ONE_COLOR = "one color"
MASK_ELSEWHERE = "mask elsewhere"
TWO_CLASSES = "two classes"
TWICE = "twice"
THIN = "thin"
WHOLE = "whole image"

LEAST_SIDE = 2.0  # pixels: thinner objects are called thin
LEAST_MASK_IOU = 0.5  # of a mask's own box with the object's box
_WHOLE = 0.99  # of an image's area
_DEEP_MODES = ("I", "F")  # first letters of Pillow's modes of more than 8 bits


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a survey keeps of one image; a few hundred bytes."""

    index: int
    size: Size  # (H, W) as labelled
    kind: str  # of the file and its pixels: "JPEG RGB"
    num_bytes: int
    file_mark: int  # 64 bits of a digest: equal for equal files
    pixel_mark: int  # the same of size and pixels
    label_mark: int  # the same of classes and boxes
    classes: dict[int, int]  # objects of each class, crowds among them
    crowds: int
    masks: int  # objects that have one
    sides: tuple[int, ...]  # shorter side of each object, whole pixels
    smallest: tuple[float, str]  # shorter side of the smallest object, and its name
    oddities: tuple[tuple[str, str], ...]  # kind and what has it


def examine(table: Dataset, index: int, skipped: Skipped) -> ImageFacts | None:
    """Return the facts of an image; None, counted, for one that cannot be read.

    Raises DatasetError where the set says that such images are not to be left out.
    """
    found: list[ImageFacts] = []

    def look(scene: Scene) -> None:
        pixels, file = decode_with_file(scene)
        found.append(image_facts(index, scene, pixels, file))

    read_scene(table, index, skipped, otherwise=True, look=look)
    return found[0] if found else None


def image_facts(index: int, scene: Scene, pixels: Pixels, file: ImageFile) -> ImageFacts:
    """Return the facts of a scene from its decoded pixels and its file."""
    objects = scene.objects
    extents = objects.boxes[:, 2:] - objects.boxes[:, :2]
    sides = extents.min(axis=1)
    smallest = (math.inf, "")
    if len(objects):
        at = int(sides.argmin())
        smallest = (float(sides[at]), object_name(scene, at))
    oddities = (*_of_file(scene, pixels, file), *_of_objects(scene, sides))
    shape = f"{pixels.shape}".encode()
    return ImageFacts(
        index=index,
        size=scene.size,
        kind=f"{file.format} {file.mode}",
        num_bytes=len(file.data),
        file_mark=_mark(file.data),
        pixel_mark=_mark(shape, np.ascontiguousarray(pixels).data),
        label_mark=_mark(_labels(objects)),
        classes=dict(Counter(objects.category.tolist())),
        crowds=int(objects.iscrowd.sum()),
        masks=sum(rle is not None for rle in objects.rle),
        sides=tuple(sides.astype(int).tolist()),
        smallest=smallest,
        oddities=oddities,
    )


def image_name(scene: Scene) -> str:
    """Return the name of an image: its file, with its id where that differs."""
    if scene.image.path is None:
        return scene.image_id
    path = Path(scene.image.path)
    last = scene.image_id.rsplit("/", 1)[-1]
    if last in (path.name, path.stem):
        return scene.image_id
    if path.stem.startswith(f"{last}_"):
        return path.name
    return f"{path.name} (id {scene.image_id})"


def object_name(scene: Scene, at: int) -> str:
    """Return the name of an object in a list of many."""
    x1, y1, x2, y2 = scene.objects.boxes[at].tolist()
    key = scene.objects.id[at]
    return f"object {key} of {image_name(scene)}: {x2 - x1:.4g}x{y2 - y1:.4g} at {x1:.4g},{y1:.4g}"


def _mark(*parts: bytes | memoryview) -> int:
    """Return 64 bits of a digest."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "big")


def _labels(objects: Objects) -> bytes:
    """Return what the labels of an image say, in an order of their own."""
    boxes = np.round(objects.boxes, 2).tolist()
    category = objects.category.tolist()
    is_crowd = objects.iscrowd.tolist()
    rows = zip(category, boxes, is_crowd, strict=True)
    return repr(sorted(rows)).encode()


def _of_file(scene: Scene, pixels: Pixels, file: ImageFile) -> Iterator[tuple[str, str]]:
    name = image_name(scene)
    if file.orientation != 1:
        yield TURNED, name
    if file.mode.startswith(_DEEP_MODES):
        yield DEEP, name
    if file.pictures > 1:
        yield SEVERAL, f"{name}: {file.pictures}"
    if _has_one_color(pixels):
        yield ONE_COLOR, name


def _has_one_color(pixels: Pixels) -> bool:
    sparse = pixels[::16, ::16]
    if (sparse != pixels[0, 0]).any():
        return False
    return not (pixels != pixels[0, 0]).any()


def _of_objects(scene: Scene, sides: Boxes) -> Iterator[tuple[str, str]]:
    objects = scene.objects
    image_area = scene.height * scene.width
    seen: dict[tuple[object, ...], int] = {}  # box and mask -> the class that has them
    for at in np.flatnonzero(~objects.iscrowd).tolist():
        box = objects.boxes[at]
        rle = objects.rle[at]
        category = int(objects.category[at])
        place = (*box.tolist(), rle)
        name = object_name(scene, at)
        if place in seen and seen[place] == category:
            yield TWICE, name
        elif place in seen:
            yield TWO_CLASSES, name
        seen.setdefault(place, category)
        if sides[at] < LEAST_SIDE:
            yield THIN, name
        if objects.isthing[at] and box_areas(box) >= _WHOLE * image_area:
            yield WHOLE, name
        if rle is not None and _mask_iou(rle, box, scene.size) < LEAST_MASK_IOU:
            yield MASK_ELSEWHERE, name


def _mask_iou(rle: str, box: Boxes, size: Size) -> float:
    """Return the IoU of a mask's tight box with a box [4]."""
    tight = masks.tight_box(rle, size)
    shared = float(intersection_areas(box, tight[None])[0])
    union = float(box_areas(box)) + float(box_areas(tight)) - shared
    return shared / union

"""Panoptic maps as arrays: segments, class maps and instance maps.

A segment id map [H, W] is what a panoptic PNG holds: id = R + 256 G + 65536 B, 0 where nothing is
labelled. Its ids are the low 24 bits of `Objects.id`; the bits above tell the images of a table
apart, so ids of official files, unique in their image only, stay as they are.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.boxes import Boxes, Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import UNREADABLE, read_file, reason
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene

BITS = 24  # of a panoptic PNG's pixel
MOST = (1 << BITS) - 1  # largest segment id

Ids = NDArray[np.int64]  # [N] of segments, or a map of them [H, W]


@dataclass(frozen=True)
class Maps:
    """The conditioning of a map-driven generator for one image, both [H, W] int64."""

    labels: Ints  # index of the class, num_classes = don't care
    instances: Ints  # of a thing num_classes + 1, + 2, ...; elsewhere the label


def table_ids(number: int, segments: Sequence[int] | NDArray[Any]) -> Ids:
    """Return object ids [N], unique in a table, of the segments of an image.

    `number` counts the images from 0.
    """
    offset = np.int64(number) << BITS
    return np.asarray(segments, np.int64) + offset


def segment_ids(objects: Objects) -> Ids:
    """Return the ids [N] that objects have in the panoptic map of their scene."""
    return objects.id & MOST


def pixels_of(ref: ImageRef, size: Size, label: str, colors: bool = False) -> Ints:
    """Decode a PNG of integers: [H, W], or [H, W, 3] where it has colours.

    Programs that shrink files turn a map of few values into a palette: greys are what they were; of
    colours it is the index that counts, with `colors` the colour. Raises DatasetError when the map
    is missing, broken, of another size than (H, W), or has an alpha channel.
    """
    from PIL import Image

    name = ref.path or label
    height, width = size
    data = b""
    try:
        data = read_file(ref)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size decides what is too large
            image = Image.open(io.BytesIO(data), formats=("PNG",))
        # before decoding: the header may promise gigapixels
        if image.size != (width, height):
            raise DatasetError(
                f"{name}: the map is {image.width}x{image.height} pixels, "
                f"its image {width}x{height}; correct one of them"
            )
        is_deep = data[24:26] == _DEEP_RGB
        if is_deep or image.mode not in ("1", "L", "P", "RGB", "I", "I;16", "I;16B"):
            kind = "16 bits per colour" if is_deep else f"mode {image.mode}"
            raise DatasetError(
                f"{name}: a map of {kind}; write it as grey or 8-bit RGB PNG without alpha"
            )
        values = np.asarray(image).astype(np.int64)
    except FileNotFoundError as err:
        raise DatasetError(f"{name}: the map is missing; restore it or remove its image") from err
    except (*UNREADABLE, Image.DecompressionBombError) as err:
        fault = reason(data, err)
        if "BytesIO" in str(err) and data:
            fault = "it is no PNG"
        raise DatasetError(
            f"{name}: the map cannot be decoded ({fault}); replace the file"
        ) from err
    if image.mode == "1":
        return values * 255
    if image.mode == "P":
        return _by_palette(values, image.getpalette("RGB") or [], colors)
    return values


_DEEP_RGB = b"\x10\x02"  # bits and kind of colours in the header of a PNG


def _by_palette(index: Ints, palette: list[int], colors: bool) -> Ints:
    """Return the content of an indexed map [H, W]: grey values, indices or colors."""
    table = np.zeros((256, 3), np.int64)
    values = np.array(palette, np.int64)
    listed = values.reshape(-1, 3)
    table[: len(listed)] = listed
    used = table[np.unique(index)]
    held: Ints = index
    is_grey = used == used[:, :1]
    if bool(is_grey.all()):
        held = table[index, 0]
    elif colors:
        held = table[index]
    return held


def map_of(scene: Scene) -> Ids:
    """Return the segment ids [H, W] of a scene.

    Raises DatasetError when it has no map, a bad one, or one of other objects.
    """
    if scene.panoptic is None:
        raise DatasetError(
            f"image {scene.image_id!r} has no panoptic map; use a data set whose images have one"
        )
    ids = ids_of(scene.panoptic, scene.size, scene.image_id)
    labelled = ids[ids != 0]
    known = np.isin(labelled, segment_ids(scene.objects))
    unknown = labelled[~known]
    if len(unknown):
        name = scene.panoptic.path or scene.image_id
        raise DatasetError(
            f"{name}: pixels of id {int(unknown[0])} belong to no object; "
            "correct the map or the objects"
        )
    return ids


def ids_of(ref: ImageRef, size: Size, label: str) -> Ids:
    """Return the segment ids [H, W] of a panoptic PNG.

    Raises DatasetError as `pixels_of`, and when it has no colours.
    """
    pixels = pixels_of(ref, size, label, colors=True)
    if pixels.ndim != 3:
        raise DatasetError(
            f"{ref.path or label}: a panoptic map is an RGB PNG, this one is grey; "
            "name the other folder"
        )
    red = pixels[..., 0]
    green = pixels[..., 1]
    blue = pixels[..., 2]
    ids: Ids = red | green << 8 | blue << 16
    return ids


@dataclass(frozen=True)
class Segments:
    """The segments of a map, by ascending id."""

    ids: Ids  # [N]
    boxes: Boxes  # [N, 4] xyxy pixels, tight
    area: Ints  # [N] pixels
    rle: tuple[str, ...]  # COCO compressed counts


def segments_of(ids: NDArray[np.integer[Any]]) -> Segments:
    """Return the segments of an id map [H, W]; 0 is none.

    All run lengths come from one pass over the map column by column, so memory does not grow with
    the number of segments.
    """
    size = (ids.shape[0], ids.shape[1])
    flat = np.ascontiguousarray(ids.T).reshape(-1)  # [W * H], columns first
    differs = flat[1:] != flat[:-1]
    changes = np.flatnonzero(differs) + 1
    starts = np.concatenate(([0], changes))  # [R] of the runs of one id
    ends = np.append(changes, len(flat))
    order = np.argsort(flat[starts], kind="stable")  # runs by id, then by place
    ordered = flat[starts][order]
    run_ids, first = np.unique(ordered, return_index=True)
    runs_of_each = np.split(order, first[1:])

    segments = []
    boxes = []
    areas = []
    codes = []
    of_segments = zip(run_ids.tolist(), runs_of_each, strict=True)
    for segment, runs in of_segments:
        if segment == 0:
            continue
        counts = _counts(starts[runs], ends[runs], len(flat))
        code = masks.from_uncompressed(counts, size)
        segments.append(segment)
        boxes.append(masks.tight_box(code, size))
        areas.append(sum(counts[1::2]))
        codes.append(code)
    numbers = np.array(segments, np.int64)
    all_boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Segments(numbers, all_boxes, np.array(areas, np.int64), tuple(codes))


def _counts(starts: Ints, ends: Ints, length: int) -> list[int]:
    """Return the run lengths of a mask that is on from each start to its end."""
    borders = np.stack([starts, ends], 1).reshape(-1)
    counts: list[int] = np.diff(borders, prepend=0).tolist()
    rest = length - int(ends[-1])
    if rest:
        counts.append(rest)
    return counts


def pick(segments: Segments, ids: Sequence[int]) -> Segments:
    """Return the segments of some ids, in that order; all must be there."""
    wanted = np.asarray(ids, np.int64)
    index = np.searchsorted(segments.ids, wanted)
    return Segments(
        segments.ids[index],
        segments.boxes[index],
        segments.area[index],
        tuple(segments.rle[i] for i in index),
    )


def objects_of(
    segments: Segments, number: int, category: Sequence[int] | NDArray[Any], **columns: Any
) -> Objects:
    """Make the objects of image `number` from its segments and their categories [N].

    Columns as in `Objects.build`.
    """
    columns.setdefault("id", table_ids(number, segments.ids))
    area = segments.area.astype(np.float32)
    return Objects.build(category, segments.boxes, rle=segments.rle, area=area, **columns)


@lru_cache(64)
def nearest(length: int, wanted: int) -> Ints:
    """Return the index of the sample that each of `wanted` takes of `length`.

    It is the centre sample, in Pillow's own rounding.
    """
    from PIL import Image

    positions = np.arange(length, dtype=np.int32)
    line = Image.fromarray(positions[None])
    resized = line.resize((wanted, 1), Image.Resampling.NEAREST)
    index: Ints = np.asarray(resized)[0].astype(np.int64)
    index.setflags(write=False)  # it is shared by all callers
    return index


def resize_map(values: NDArray[Any], size: Size) -> NDArray[Any]:
    """Resize a map [h, w] of any integers to (H, W), nearest, as Pillow does.

    Torch would take the corner sample.
    """
    rows = nearest(values.shape[0], size[0])
    columns = nearest(values.shape[1], size[1])
    resized: NDArray[Any] = values[rows[:, None], columns[None, :]]
    return resized


def maps_of(scene: Scene, num_classes: int, size: Size | None = None) -> Maps:
    """Return the class and instance maps of a scene, resized to (H, W) where given.

    Raises DatasetError for a bad map. Pixels of crowds and of stuff have their class for an
    instance, so every value of `instances` is one identity.
    """
    ids = map_of(scene)
    if size:
        ids = resize_map(ids, size)
    return maps_from(ids, scene, num_classes)


def maps_from(ids: Ids, scene: Scene, num_classes: int) -> Maps:
    """Return the maps of segment ids [H, W] of a scene, resized or cropped or not."""
    objects = scene.objects
    known = segment_ids(objects)
    category = objects.category.astype(np.int64)
    is_instance = objects.isthing & ~objects.iscrowd
    number = num_classes + 1 + np.arange(len(objects))
    instance = np.where(is_instance, number, category)
    labels = replace_ids(ids, known, category, num_classes)
    instances = replace_ids(ids, known, instance, num_classes)
    return Maps(labels, instances)


def replace_ids(ids: Ids, known: Ids, values: Ints, other: int) -> Ints:
    """Replace the ids [N] in a map [H, W] by values [N], all others by `other`."""
    order = np.argsort(known, kind="stable")
    sorted_ids = np.append(known[order], MOST + 1)
    sorted_values = np.append(values[order], other)
    insertion = np.searchsorted(sorted_ids, ids)
    position = insertion.clip(0, len(known))
    is_known = sorted_ids[position] == ids
    replaced: Ints = np.where(is_known, sorted_values[position], other)
    return replaced

"""Sketches as layout files, which `synthaug generate` reads too, and read again."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.formats.validation import RecordError, is_int, need, number
from synthaug.pipeline.studio.layout_files import (
    STUDIO,
    GivenLayout,
    layout_of,
    mapping,
    only,
    text,
)
from synthaug.pipeline.studio.map_layers import check_ground
from synthaug.pipeline.studio.sketch import (
    SEEDS,
    Item,
    Shape,
    Sketch,
    Style,
    inside,
    of_objects,
)

VERSION = 1
MOST_PIXELS = 1 << 26  # of an image, and of a shape
MOST_PARTS = 64  # seeds in a style
ITEM_KEYS = ("number", "style", "locked", "origin", "real", "shape")


def record_of(sketch: Sketch) -> Json:
    """Return a sketch as the JSON of a layout file."""
    objects = [{"class": item.label, "box": list(item.box)} for item in sketch.items]
    own: Json = {
        "version": VERSION,
        "seed": sketch.seed,
        "style": _style_record(sketch.style),
        "born": sketch.born,
        "objects": [_item_record(item) for item in sketch.items],
    }
    if sketch.photo:
        own["photo"] = sketch.photo
    if sketch.ground:
        own["ground"] = base64.b64encode(sketch.ground).decode("ascii")
    return {"size": list(sketch.size), "objects": objects, STUDIO: own}


def _style_record(style: Style) -> list[list[float]]:
    return [[seed, weight] for seed, weight in style]


def _item_record(item: Item) -> Json:
    record: Json = {"number": item.number, "style": _style_record(item.style)}
    if item.locked:
        record["locked"] = True
    if item.origin >= 0:
        record["origin"] = item.origin
        record["real"] = item.real
    if item.shape is not None:
        record["shape"] = {"rle": item.shape.rle, "size": list(item.shape.size)}
    return record


def sketch_of(document: Any, usual_size: Size, seed: int) -> Sketch:
    """Return the sketch of a layout file's JSON; RecordError says what is wrong.

    Of a file that no studio wrote, all styles are those of `seed`, and boxes in shares of the image
    are taken for an image of `usual_size` (H, W).
    """
    content = mapping(document, "the layout")
    layout = layout_of(content, "the layout")
    size = layout.size or usual_size
    _check_pixels(size, "size")
    own = content.get(STUDIO)
    if own is None:
        return _of_layout(layout, size, seed)
    own = mapping(own, STUDIO)
    only(own, ("version", "seed", "style", "born", "objects", "photo", "ground"), STUDIO)
    if own.get("version") != VERSION:
        raise RecordError(
            "bad value", f"{STUDIO}.version is {own.get('version')!r}, this studio reads {VERSION}"
        )
    records = need(own, "objects")
    if not isinstance(records, list) or len(records) != len(layout.names):
        raise RecordError("bad value", f"{STUDIO}.objects must have an entry for each object")
    items = []
    for place, record in enumerate(records):
        where = f"{STUDIO}.objects {place}"
        try:
            box = inside(layout.boxes[place], size)
        except ValueError as err:
            raise RecordError("bad box", f"object {place}: {err}") from err
        items.append(_item(mapping(record, where), layout.names[place], box, where))
    numbers = [item.number for item in items]
    born = _whole(own, "born", STUDIO)
    if len(set(numbers)) != len(numbers) or max(numbers, default=-1) >= born:
        raise RecordError(
            "bad value", f"{STUDIO}: numbers of objects must differ and be below born"
        )
    sketch = Sketch(
        size=size,
        items=tuple(items),
        seed=_seed(own.get("seed"), f"{STUDIO}.seed"),
        style=_style(own.get("style"), f"{STUDIO}.style"),
        born=born,
    )
    if "photo" in own:
        sketch = replace(sketch, photo=text(own, "photo", STUDIO))
    if "ground" in own:
        sketch = replace(sketch, ground=_ground(text(own, "ground", STUDIO), size))
    return sketch


def _of_layout(layout: GivenLayout, size: Size, seed: int) -> Sketch:
    height, width = size
    objects = []
    for name, (x0, y0, x1, y1) in layout.objects():
        objects.append((name, (x0 * width, y0 * height, x1 * width, y1 * height)))
    return of_objects(size, objects, seed)


def _item(record: Json, label: str, box: tuple[float, float, float, float], where: str) -> Item:
    only(record, ITEM_KEYS, where)
    origin = -1
    if "origin" in record:
        origin = _whole(record, "origin", where)
    shape = None
    if "shape" in record:
        shape = _shape(mapping(record["shape"], f"{where}.shape"), where)
    return Item(
        number=_whole(record, "number", where),
        label=label,
        box=box,
        style=_style(record.get("style"), where),
        locked=record.get("locked") is True,
        origin=origin,
        real=record.get("real") is True and origin >= 0,
        shape=shape,
    )


def _shape(record: Json, where: str) -> Shape:
    only(record, ("rle", "size"), where)
    size = record.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(is_int(side) for side in size):
        raise RecordError("bad value", f"{where}: a shape's size must be [height, width]")
    shape = Shape(text(record, "rle", where), (size[0], size[1]))
    _check_pixels(shape.size, f"{where}: a shape's size")
    try:
        masks.check(shape.rle, shape.size)
    except ValueError as err:
        raise RecordError("bad mask", f"{where}: {err}") from err
    return shape


def _style(value: Any, where: str) -> Style:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_PARTS:
        raise RecordError("bad value", f"{where}: a style is a list of [seed, weight] pairs")
    style = []
    for part in value:
        if not isinstance(part, list) or len(part) != 2:
            raise RecordError("bad value", f"{where}: a style is a list of [seed, weight] pairs")
        style.append((_seed(part[0], where), number(part[1], where)))
    return tuple(style)


def _check_pixels(size: Size, where: str) -> None:
    """Raise RecordError before a small file makes large arrays."""
    height, width = size
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise RecordError(
            "bad value", f"{where} {height} x {width} is not of 1 to {MOST_PIXELS} pixels"
        )


def _seed(value: Any, where: str) -> int:
    if not is_int(value) or not 0 <= value < SEEDS:
        raise RecordError("bad value", f"{where}: seed {value!r} is not from 0 to {SEEDS - 1}")
    return int(value)


def _whole(record: Json, key: str, where: str) -> int:
    value = record.get(key)
    if not is_int(value) or value is None or not 0 <= value < SEEDS:
        raise RecordError("bad value", f"{where}: '{key}' must be a whole number from 0")
    return int(value)


def _ground(encoded: str, size: Size) -> bytes:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as err:
        raise RecordError("bad value", f"{STUDIO}.ground is no base64") from err
    try:
        check_ground(data, size)
    except ValueError as err:
        raise RecordError("bad value", f"{STUDIO}.ground: {err}") from err
    return data

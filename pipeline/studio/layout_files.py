"""Reading one layout to generate from.

A small JSON file, a sheet.json, a COCO file, or an image of any data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, JobError, suggest
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.formats import FORMATS
from synthaug.pipeline.formats.coco.labels import corners
from synthaug.pipeline.formats.json_files import load_object, section
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.validation import (
    RecordError,
    inside_box,
    is_int,
    key_of,
    need,
    number,
)

SHEET = "synthaug_sheets"  # the key by which a sheet.json is known
STUDIO = "synthaug_studio"  # styles and all that `synthaug studio` adds to a layout
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class GivenLayout:
    """Class names and xyxy boxes as a user gave them.

    Pixels of an image of `size` (H, W), or shares without a size.
    """

    origin: str  # where it comes from, for titles and messages
    names: tuple[str, ...]
    boxes: tuple[Box, ...]
    size: Size | None = None
    things: frozenset[str] | None = None  # names of classes that are things; None = not known
    options: Mapping[str, Any] = field(default_factory=dict)  # how a sheet.json was made

    def objects(self) -> list[tuple[str, Box]]:
        """Return class names with boxes as shares of the image."""
        height, width = self.size or (1, 1)
        objects = []
        for name, (x0, y0, x1, y1) in zip(self.names, self.boxes, strict=True):
            box = (x0 / width, y0 / height, x1 / width, y1 / height)
            objects.append((name, box))
        return objects

    def record(self) -> Json:
        """Return the layout as the JSON file that `read_layout` reads."""
        pairs = zip(self.names, self.boxes, strict=True)
        objects = [{"class": name, "box": list(box)} for name, box in pairs]
        record: Json = {"objects": objects}
        if self.size:
            record["size"] = list(self.size)
        return record

    def is_thing(self, name: str) -> bool:
        """Return whether a class is a thing; where that is not known, every class is."""
        return self.things is None or name in self.things


def read_layout(reference: str, image: str | None) -> GivenLayout:
    """Read a layout file, or an image of the data set format:path.

    Of a COCO file, the image with the id `image`.

    Of a data set, `image` is a position, or `id:` and an image id; the first image without it.
    Raises JobError or DatasetError in one line for what is missing, broken or not understood.
    """
    if Path(reference).is_file():
        return _read_file(Path(reference), image)
    name, colon, _ = reference.partition(":")
    if not colon or not name.isidentifier():
        formats = ", ".join(FORMATS)
        raise JobError(
            f"LAYOUT: no such file {reference}; give a JSON file, or format:path with a format of "
            f"{formats}"
        )
    dataset = open_dataset(reference, Path(), key="LAYOUT")
    scene = _pick(dataset, reference, image)
    objects = scene.objects.without_crowds()
    names = [dataset.categories[c].name for c in objects.category.tolist()]
    boxes: list[Box] = []
    for x0, y0, x1, y1 in objects.layout_boxes.tolist():
        boxes.append((x0, y0, x1, y1))
    things = frozenset(category.name for category in dataset.categories if category.isthing)
    origin = f"image {scene.image_id} of {reference}"
    return GivenLayout(origin, tuple(names), tuple(boxes), scene.size, things)


def _pick(dataset: Dataset, reference: str, image: str | None) -> Scene:
    """Return the scene at a position, or with an id; JobError where there is none."""
    asked = image or "0"
    if asked.isdecimal():
        position = int(asked)
        if position >= len(dataset):
            raise JobError(
                f"--image: {reference} has {len(dataset)} images, counted from 0; there is no "
                f"{asked} (for the image whose id is {asked} write id:{asked})"
            )
        return dataset[position]
    asked = asked.removeprefix("id:")
    for scene in dataset:
        if scene.image_id == asked:
            return scene
    raise JobError(
        f"--image: {reference} has no image '{asked}'; give an id of it, or a position from 0"
    )


def _read_file(file: Path, image: str | None) -> GivenLayout:
    document, _ = load_object(file)
    try:
        if SHEET in document:
            options = mapping(document[SHEET], SHEET)
            layout = mapping(need(options, "layout"), "layout")
            return _from_record(layout, str(file), options)
        if "annotations" in document:
            return _from_coco(document, file, image)
        if image is not None:
            raise JobError(f"--image: {file} is one layout, not a data set; leave --image out")
        return _from_record(document, str(file), {})
    except RecordError as err:
        advice = "" if err.detail.endswith("?") else "; correct the file"
        raise DatasetError(f"{file}: {err.detail}{advice}") from err


def _from_record(document: Json, origin: str, options: Mapping[str, Any]) -> GivenLayout:
    """Return the layout of our own JSON form; RecordError for a wrong key or value."""
    only(document, ("objects", "size", STUDIO), "the layout")
    records = need(document, "objects")
    if not isinstance(records, list):
        raise RecordError("bad value", "'objects' must be a list")
    names = []
    boxes = []
    for position, record in enumerate(records):
        where = f"object {position}"
        only(mapping(record, where), ("class", "box"), where)
        names.append(text(record, "class", where))
        boxes.append(box_of(record, where))
    return GivenLayout(origin, tuple(names), tuple(boxes), _size(document), options=options)


def layout_of(document: Json, origin: str) -> GivenLayout:
    """Return the layout of our own JSON form; RecordError says what is wrong with it."""
    return _from_record(document, origin, {})


def _from_coco(document: Json, file: Path, image: str | None) -> GivenLayout:
    """Return the layout of an image of a COCO file; its image files need not be there."""
    images = {key_of(record, "id"): record for record in section(document, "images", file)}
    if not images:
        raise RecordError("missing key", "it lists no images")
    asked = next(iter(images)) if image is None else image.removeprefix("id:")
    if asked not in images:
        hint = suggest(asked, list(images)[:1000])
        raise JobError(f"--image: {file} has no image with the id {asked}{hint}")
    size = _image_size(images[asked], asked)
    categories = {key_of(record, "id"): record for record in section(document, "categories", file)}
    names = []
    boxes = []
    for record in section(document, "annotations", file):
        if key_of(record, "image_id") != asked or record.get("iscrowd"):
            continue
        where = f"annotation {record.get('id')!r}"
        names.append(_class_name(record, categories, where))
        boxes.append(_box_inside(record, size, where))
    things = set()
    for category in categories.values():
        name = category.get("name")
        if isinstance(name, str) and category.get("isthing", True):
            things.add(name)
    origin = f"image {asked} of {file}"
    return GivenLayout(origin, tuple(names), tuple(boxes), size, frozenset(things))


def _image_size(record: Json, image: str) -> Size:
    """Return the size (H, W) of an image record."""
    height = need(record, "height")
    width = need(record, "width")
    if not (_is_positive(height) and _is_positive(width)):
        raise RecordError(
            "bad image size", f"image {image}: width and height must be whole numbers above 0"
        )
    return height, width


def _class_name(record: Json, categories: Mapping[str, Json], where: str) -> str:
    """Return the class name of an annotation."""
    category = key_of(record, "category_id")
    if category not in categories:
        raise RecordError(
            "unknown category", f"{where}: category_id {category} is not among the categories"
        )
    return text(categories[category], "name", f"category {category}")


def _box_inside(record: Json, size: Size, where: str) -> Box:
    """Return the xyxy box of an annotation, cut off at the border of the image."""
    try:
        box, _ = inside_box(corners(record, "bbox"), size)
    except RecordError as err:
        raise RecordError(err.reason, f"{where}: {err.detail}") from err
    return box


def _size(document: Json) -> Size | None:
    size = document.get("size")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(_is_positive(n) for n in size):
        raise RecordError("bad value", f"size {size!r} must be [height, width] in whole pixels")
    return size[0], size[1]


def _is_positive(value: Any) -> bool:
    return is_int(value) and value > 0


def box_of(record: Json, where: str) -> Box:
    """Return the xyxy `box` of a record.

    That it lies in the image is the generator's to judge.
    """
    box = need(record, "box")
    if not isinstance(box, list) or len(box) != 4:
        raise RecordError("bad box", f"{where}: box {box!r} must be a list [x0, y0, x1, y1]")
    x0, y0, x1, y1 = (number(v, f"{where}: box") for v in box)
    return x0, y0, x1, y1


def text(record: Json, key: str, where: str) -> str:
    """Return a text that the record must have."""
    value = record.get(key)
    if not isinstance(value, str):
        raise RecordError("bad value", f"{where}: '{key}' must be a text, not {value!r}")
    return value


def mapping(value: Any, where: str) -> Json:
    """Return a JSON value that must be an object."""
    if not isinstance(value, dict):
        raise RecordError("bad value", f"{where} is no JSON object")
    return value


def only(record: Json, keys: tuple[str, ...], where: str) -> None:
    """Refuse keys that mean nothing."""
    for key in record:
        if key not in keys:
            raise RecordError(
                "unknown key", f"{where} has an unknown key '{key}'{suggest(key, keys)}"
            )

"""One layout to generate from: a small JSON file, a sheet.json made earlier, a COCO file, or an image of any data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.errors import DatasetError, JobError, suggest
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.formats import FORMATS
from synthaug.pipeline.formats.json_files import load_object, section
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.formats.validation import (
    RecordError,
    corners,
    inside_box,
    is_int,
    key_of,
    need,
    number,
)

SHEET = "synthaug_sheets"  # the key by which a sheet.json is known
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class GivenLayout:
    """Class names and xyxy boxes as a user gave them: pixels of an image of `size` (H, W), or shares without a size."""

    origin: str  # where it comes from, for titles and messages
    names: tuple[str, ...]
    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None
    things: frozenset[str] | None = (
        None  # classes of the data set that are things; None where nobody says
    )
    options: Mapping[str, Any] = field(default_factory=dict)  # how a sheet.json was made

    def objects(self) -> list[tuple[str, Box]]:
        """Class names with boxes as shares of the image."""
        height, width = self.size or (1, 1)
        shares = [
            (x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in self.boxes
        ]
        return list(zip(self.names, shares, strict=True))

    def record(self) -> dict[str, Any]:
        """The layout as the JSON file that `read_layout` reads."""
        listed = [
            {"class": name, "box": list(box)}
            for name, box in zip(self.names, self.boxes, strict=True)
        ]
        return {"objects": listed} | ({"size": list(self.size)} if self.size else {})


def read_layout(reference: str, image: str | None) -> GivenLayout:
    """Read a layout file (of a COCO file, the image with the id `image`), or an image of the data set format:path.

    Of a data set, `image` is a position, or `id:` and an image id; the first image without it. Raises JobError or
    DatasetError in one line for what is missing, broken or not understood.
    """
    if Path(reference).is_file():
        return _read_file(Path(reference), image)
    name, colon, _ = reference.partition(":")
    if not colon or not name.isidentifier():
        formats = ", ".join(FORMATS)
        raise JobError(
            f"LAYOUT: no such file {reference}; give a JSON file, or format:path with a format of {formats}"
        )
    dataset = open_dataset(reference, Path(), key="LAYOUT")
    scene = _pick(dataset, reference, image)
    objects = scene.objects.select(~scene.objects.iscrowd)
    return GivenLayout(
        f"image {scene.image_id} of {reference}",
        tuple(dataset.categories[c].name for c in objects.category.tolist()),
        tuple(tuple(row) for row in objects.layout_boxes.tolist()),
        (scene.height, scene.width),
        frozenset(c.name for c in dataset.categories if c.isthing),
    )


def _pick(dataset: Dataset, reference: str, image: str | None) -> Scene:
    wanted = image or "0"
    if wanted.isdecimal():
        if int(wanted) >= len(dataset):
            raise JobError(
                f"--image: {reference} has {len(dataset)} images, counted from 0; there is no {wanted} "
                f"(for the image whose id is {wanted} write id:{wanted})"
            )
        return dataset[int(wanted)]
    wanted = wanted.removeprefix("id:")
    found = next((i for i in range(len(dataset)) if dataset[i].image_id == wanted), None)
    if found is None:
        raise JobError(
            f"--image: {reference} has no image '{wanted}'; give an id of it, or a position from 0"
        )
    return dataset[found]


def _read_file(file: Path, image: str | None) -> GivenLayout:
    document, _ = load_object(file)
    try:
        if SHEET in document:
            options = mapping(document[SHEET], SHEET)
            return _from_record(mapping(need(options, "layout"), "layout"), str(file), options)
        if "annotations" in document:
            return _from_coco(document, file, image)
        if image is not None:
            raise JobError(f"--image: {file} is one layout, not a data set; leave --image out")
        return _from_record(document, str(file), {})
    except RecordError as bad:
        raise DatasetError(
            f"{file}: {bad.detail}" + ("" if bad.detail.endswith("?") else "; correct the file")
        ) from bad


def _from_record(document: dict[str, Any], origin: str, options: Mapping[str, Any]) -> GivenLayout:
    only(document, ("objects", "size"), "the layout")
    listed = need(document, "objects")
    if not isinstance(listed, list):
        raise RecordError("bad value", "'objects' must be a list")
    names, boxes = [], []
    for place, record in enumerate(listed):
        where = f"object {place}"
        only(mapping(record, where), ("class", "box"), where)
        names.append(text(record, "class", where))
        boxes.append(box_of(record, where))
    return GivenLayout(origin, tuple(names), tuple(boxes), _size(document), options=options)


def _from_coco(document: dict[str, Any], file: Path, image: str | None) -> GivenLayout:
    """Only sizes, boxes and names are read: the image files need not be there."""
    images = {key_of(record, "id"): record for record in section(document, "images", file)}
    if not images:
        raise RecordError("missing key", "it lists no images")
    wanted = next(iter(images)) if image is None else image.removeprefix("id:")
    if wanted not in images:
        raise JobError(
            f"--image: {file} has no image with the id {wanted}{suggest(wanted, list(images)[:1000])}"
        )
    size = (need(images[wanted], "height"), need(images[wanted], "width"))
    if not all(is_int(n) and n > 0 for n in size):
        raise RecordError(
            "bad image size", f"image {wanted}: width and height must be whole numbers above 0"
        )
    known = {key_of(c, "id"): c for c in section(document, "categories", file)}
    mine = [r for r in section(document, "annotations", file) if key_of(r, "image_id") == wanted]
    names, boxes = [], []
    for record in (r for r in mine if not r.get("iscrowd")):
        where = f"annotation {record.get('id')!r}"
        category = key_of(record, "category_id")
        if category not in known:
            raise RecordError(
                "unknown category", f"{where}: category_id {category} is not among the categories"
            )
        names.append(text(known[category], "name", f"category {category}"))
        try:
            boxes.append(inside_box(corners(record, "bbox"), size)[0])
        except RecordError as bad:
            raise RecordError(bad.reason, f"{where}: {bad.detail}") from bad
    things = frozenset(
        c["name"]
        for c in known.values()
        if isinstance(c.get("name"), str) and c.get("isthing", True)
    )
    return GivenLayout(f"image {wanted} of {file}", tuple(names), tuple(boxes), size, things)


def _size(document: dict[str, Any]) -> tuple[int, int] | None:
    size = document.get("size")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(is_int(n) and n > 0 for n in size):
        raise RecordError("bad value", f"size {size!r} must be [height, width] in whole pixels")
    return size[0], size[1]


def box_of(record: dict[str, Any], where: str) -> Box:
    """Return the xyxy `box` of a record; that it lies in the image is the generator's to judge."""
    box = need(record, "box")
    if not isinstance(box, list) or len(box) != 4:
        raise RecordError("bad box", f"{where}: box {box!r} must be a list [x0, y0, x1, y1]")
    x0, y0, x1, y1 = (number(v, f"{where}: box") for v in box)
    return x0, y0, x1, y1


def text(record: dict[str, Any], key: str, where: str) -> str:
    """Return a text that the record must have."""
    value = record.get(key)
    if not isinstance(value, str):
        raise RecordError("bad value", f"{where}: '{key}' must be a text, not {value!r}")
    return value


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON value that must be an object."""
    if not isinstance(value, dict):
        raise RecordError("bad value", f"{where} is no JSON object")
    return value


def only(record: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Refuse keys that mean nothing."""
    for key in record:
        if key not in keys:
            raise RecordError(
                "unknown key", f"{where} has an unknown key '{key}'{suggest(key, keys)}"
            )

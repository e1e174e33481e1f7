"""CVAT's own export "CVAT for images 1.1", read.

Reference: `cvat:task.zip`, as CVAT hands it out, or `cvat:annotations.xml?images=folder`. The
file is read image by image. Points, polylines, cuboids, skeletons and tags have no place in a
scene and are counted. "CVAT for video" holds tracks instead of images and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.images import header_of_file
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import located
from synthaug.pipeline.formats.checked import BoxConfig, Checker, numbered_categories
from synthaug.pipeline.formats.drawn import (
    Canvas,
    Drawn,
    DrawnDataset,
    DrawnImage,
    Points,
    as_seen,
    corners_of,
    count_flags,
    drawn_box,
    drawn_mask,
    drawn_polygons,
    ellipse,
    image_folder,
    is_ignore_flag,
    join_groups,
    occurring_classes,
    placed_mask,
    rotated,
    turned_box,
)
from synthaug.pipeline.formats.shape_reader import ShapeReader
from synthaug.pipeline.formats.source_files import find_file, images_below, spelling
from synthaug.pipeline.formats.validation import RecordError, is_name, is_text, number_in
from synthaug.pipeline.formats.voc.xml_tree import children, text_of

_REGIONS = ("box", "polygon", "ellipse", "mask")
_SHAPES = (*_REGIONS, "polyline", "points", "cuboid", "skeleton", "tag")
_XML = "annotations.xml"


@dataclass(frozen=True)
class Config(BoxConfig):
    """Options of a reference; `path` is the XML file, or what holds it."""

    images: str = ""  # folder of the images; "" = `images/` beside the file, else beside it
    subset: str = ""  # of an export of a whole project; "" = all


def read(config: Config, root: Path = Path()) -> DrawnDataset:
    """Open an export; bad images and shapes stop the reading or are counted."""
    file = located(root, config.path)
    if file.is_dir():
        file = file / _XML
    check = Checker(file, config.on_bad, cuts_boxes=config.cuts_boxes)
    folder = image_folder(file, config.images, root)
    reader = _Reader(folder, config, check)
    check.each(_elements(file, reader), "image", reader.add, key="name")
    reader.count_unlisted(images_below(folder, folder, config.follows_links, Skipped()))
    occurring = occurring_classes(reader.images)
    categories = reader.categories or occurring
    names = {category.name for category in categories}
    for category in occurring:
        if category.name not in names:
            raise DatasetError(
                f"{file}: the label {category.name!r} is not in its last 'meta'; export it again"
            )
    return DrawnDataset(categories, reader.images, check.skipped)


def _elements(file: Path, reader: _Reader) -> Iterator[Json]:
    """Yield the images of a file as records; classes go to the reader."""
    try:
        with file.open("rb") as stream:
            for element in children(stream, file.name):
                if element.tag == "meta":
                    reader.categories = _classes(element, file)
                elif element.tag == "image":
                    yield {"name": element.get("name"), "element": element}
                elif element.tag == "track":
                    raise DatasetError(
                        f"{file}: it holds tracks of a video; export it as 'CVAT for images 1.1'"
                    )
    except OSError as err:
        raise DatasetError(f"{file}: cannot be read ({one_line(err)}); check the path") from err
    except RecordError as err:
        raise DatasetError(f"{file}: {err.detail}; export it again") from err


def _classes(meta: Element, file: Path) -> tuple[Category, ...]:
    """Return the classes of a task or project, without parts of skeletons."""
    names = []
    for label in meta.iterfind(".//labels/label"):
        name = text_of(label, "name")
        if name and text_of(label, "parent") is None:
            names.append(name)
    if len(set(names)) < len(names) or not all(is_text(name) for name in names):
        raise DatasetError(f"{file}: two of its labels have one name; rename one")
    return numbered_categories(names)


class _Reader(ShapeReader):
    """Checks images and keeps the good ones."""

    def __init__(self, folder: Path, config: Config, check: Checker) -> None:
        super().__init__(check)
        self.categories: tuple[Category, ...] = ()
        self._folder = folder
        self._config = config

    def add(self, record: Json) -> None:
        """Check one image."""
        element: Element = record["element"]
        name = element.get("name") or ""
        subset = element.get("subset") or ""
        self.listed.add(spelling(self._folder, name))
        if subset:
            self.listed.add(spelling(self._folder, f"{subset}/{name}"))
        if self._config.subset and subset != self._config.subset:
            self.skipped["image of another subset"] += 1
            return
        shapes = [child for child in element if child.tag in _SHAPES]
        try:
            image = self._image(element, name, subset)
        except RecordError:
            self.skipped["object of a skipped image"] += len(shapes)
            raise
        self.keep(image, self._objects(shapes, image.size, f"image {name!r}"))

    def _image(self, element: Element, name: str, subset: str) -> DrawnImage:
        """Return the image of an element, without objects."""
        size = _whole(element, "height"), _whole(element, "width")
        if not is_text(name):
            raise RecordError("unsafe file name", "its name is not Unicode text")
        folder = self._folder
        if subset and (folder / subset).is_dir() and not (folder / name).is_file():
            folder = folder / subset  # a project's images lie in folders by subset
        inner = name.removeprefix(f"{folder.name}/")
        if not (folder / name).is_file() and (folder / inner).is_file():
            name = inner  # it counts from above the folder of the images
        path, num_bytes = find_file(
            folder, name, "image file", named_by="name", follow=self._config.follows_links
        )
        try:
            header = header_of_file(path, self._config.max_pixels)
        except ValueError as err:
            raise RecordError("bad image", f"the image {err}") from err
        shown, turned = as_seen(header, size, self._config)
        image_id = path.relative_to(self._folder).as_posix().rsplit(".", 1)[0]
        self.check_id(image_id, "another image has the same name")
        self.listed.add(path.relative_to(self._folder).as_posix())
        return DrawnImage(image_id, path, num_bytes, shown, turned, ())

    def _objects(self, shapes: list[Element], size: Size, owner: str) -> tuple[Drawn, ...]:
        known = {category.name for category in self.categories}

        def draw(shape: Element, canvas: Canvas) -> Drawn | None:
            return _drawn(shape, known, canvas, self.skipped)

        named = []
        for position, shape in enumerate(shapes, start=1):
            named.append((f"{shape.tag} at position {position}", shape))
        drawn = self.drawn(owner, size, named, draw)
        grouped = [(one, _group(shape)) for one, shape in drawn]
        return join_groups(grouped, size, lambda reason: self.note(reason, owner))


def _group(shape: Element) -> str | None:
    """Return the group of a shape; 0 is none."""
    group = shape.get("group_id", "0")
    return None if group in ("", "0") else group


def _drawn(shape: Element, known: set[str], canvas: Canvas, skipped: Skipped) -> Drawn | None:
    """Return the object of a shape; None, counted, for one without a region."""
    if shape.tag not in _REGIONS:
        skipped.unread[f"shapes of the kind '{shape.tag}'"] += 1
        return None
    name = shape.get("label")
    if not is_name(name) or (known and name not in known):
        raise RecordError("unknown category", f"its label {name!r:.100} is not among the labels")
    found = _of_kind(shape, name, canvas)
    flags: Json = {"occluded": shape.get("occluded", "0")}
    for attribute in shape.iterfind("attribute"):
        flags[attribute.get("name", "")] = (attribute.text or "").strip()
    count_flags(flags, skipped)
    if any(is_ignore_flag(key, value) for key, value in flags.items()):
        return Drawn(found.name, found.box, found.polygons, found.rle, True)
    return found


def _of_kind(shape: Element, name: str, canvas: Canvas) -> Drawn:
    degrees = _number(shape, "rotation") if "rotation" in shape.attrib else 0.0
    if shape.tag == "box":
        x1, y1, x2, y2 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if degrees % 360:  # around its center
            center = (x1 + x2) / 2, (y1 + y2) / 2
            corners = rotated(corners_of(x1, y1, x2, y2), center, degrees)
            return turned_box(name, corners, canvas)
        return drawn_box(name, (x1, y1, x2, y2), canvas)
    if shape.tag == "ellipse":
        center = _number(shape, "cx"), _number(shape, "cy")
        radii = _number(shape, "rx"), _number(shape, "ry")
        return drawn_polygons(name, [ellipse(center, radii, degrees)], canvas)
    if shape.tag == "mask":
        return drawn_mask(name, _mask(shape, canvas))
    return drawn_polygons(name, [_points(shape)], canvas)


def _points(shape: Element) -> Points:
    """Return the points [K, 2] of `x,y;x,y;...`."""
    rows = []
    for pair in shape.get("points", "").split(";"):
        x, comma, y = pair.partition(",")
        if not comma:
            raise RecordError("bad mask", f"its points are {pair[:40]!r}, not x,y;x,y")
        rows.append((number_in(x, "a point"), number_in(y, "a point")))
    return np.array(rows, np.float64)


def _mask(shape: Element, canvas: Canvas) -> Flags:
    """Return the mask [H, W] of run lengths by row in a part of the image."""
    height = _whole(shape, "height")
    width = _whole(shape, "width")
    top, left = (_whole(shape, key, least=0) for key in ("top", "left"))
    texts = shape.get("rle", "").split(",")
    are_counts = all(len(text) < 20 and text.strip().isdecimal() for text in texts)
    counts = []
    if are_counts:
        counts = [int(text) for text in texts]
    if not are_counts or sum(counts) != height * width:
        raise RecordError("bad mask", f"its rle does not fill {width}x{height} pixels")
    is_mask = np.arange(len(counts)) % 2 == 1
    part = np.repeat(is_mask, counts).reshape(height, width)
    return placed_mask(part, left, top, canvas)


def _number(element: Element, name: str) -> float:
    text = element.get(name)
    if text is None:
        raise RecordError("missing key", f"a {element.tag} has no {name}")
    return number_in(text, name)


def _whole(element: Element, name: str, least: int = 1) -> int:
    text = (element.get(name) or "").strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise RecordError("bad value", f"{name} is {text[:40]!r}, no whole number from {least} on")
    return int(text)

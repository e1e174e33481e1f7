"""labelme folders, read: a JSON file beside each image, or holding it.

Reference: `labelme:folder`. Polygons, masks, circles and rectangles become objects; shapes of one
class and group are one object, as labelme means them. Points and lines have no place in a scene.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.images import UNREADABLE, Header, header_in, header_of_file
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import ImageRef
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import located
from synthaug.pipeline.formats.checked import BoxConfig, Checker
from synthaug.pipeline.formats.drawn import (
    Canvas,
    Drawn,
    DrawnDataset,
    DrawnImage,
    Points,
    as_seen,
    count_flags,
    drawn_box,
    drawn_mask,
    drawn_polygons,
    ellipse,
    is_ignore_flag,
    join_groups,
    listed_classes,
    occurring_classes,
    placed_mask,
    turned_box,
)
from synthaug.pipeline.formats.json_files import load_json
from synthaug.pipeline.formats.shape_reader import ShapeReader
from synthaug.pipeline.formats.source_files import files_below, find_file, folded, images_below
from synthaug.pipeline.formats.validation import (
    RecordError,
    is_int,
    is_name,
    is_text,
    need,
    number,
)

_WITHOUT_REGION = ("point", "points", "line", "linestrip")
_KNOWN = frozenset(("label", "points", "shape_type", "group_id", "flags", "mask", "attributes"))
_OTHER_IMAGE = "imagePath of another image, passed over for the JSON file's own name"
_WITHOUT_JSON = "image without a JSON file, left out"


@dataclass(frozen=True)
class Config(BoxConfig):
    """Options of a reference; `path` is the folder of the JSON files."""

    images: str = ""  # folder of the images; "" = where `imagePath` leads, in the folder itself
    classes: str = ""  # text file with a class per line; "" = the names that occur, by the alphabet


class LabelmeDataset(DrawnDataset):
    """The images of a folder, by the names of their JSON files."""

    def image(self, row: DrawnImage) -> ImageRef:
        """Return the image of a row, out of its JSON where it lies there."""
        if row.path.suffix.lower() != ".json":
            return super().image(row)
        document, _ = load_json(row.path)
        try:
            data = _embedded(document)
        except RecordError as err:
            raise DatasetError(f"{row.path}: {err.detail}; restore the file") from err
        return ImageRef(data, None, row.turned)


def read(config: Config, root: Path = Path()) -> LabelmeDataset:
    """Open a labelme folder; bad files and shapes stop the reading or are counted."""
    folder = located(root, config.path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name one that holds labelme's JSON files")
    folder = folder.resolve()
    images = folder
    if config.images:
        images = located(root, config.images).resolve()
        if not images.is_dir():
            raise DatasetError(f"{images}: no such folder; correct the option images=")
    check = Checker(folder, config.on_bad, cuts_boxes=config.cuts_boxes)
    reader = _Reader(folder, images, config, check)
    found = []
    for path in files_below(folder, folder, config.follows_links, check.skipped):
        if path.suffix == ".json":
            found.append(path.relative_to(folder).as_posix().removesuffix(".json"))
    check.each([{"id": name} for name in sorted(found)], "image", reader.add)
    reader.count_left_out()
    categories = occurring_classes(reader.images)
    if config.classes:
        categories = listed_classes(located(root, config.classes))
        names = {category.name for category in categories}
        for image in reader.images:
            _check_listed(image, names, folder)
    return LabelmeDataset(categories, reader.images, check.skipped)


def _check_listed(image: DrawnImage, names: set[str], folder: Path) -> None:
    for drawn in image.objects:
        if drawn.name not in names:
            raise DatasetError(
                f"{folder}: image {image.image_id!r} shows {drawn.name!r}, which is not among the "
                "classes; add it to the file that classes= names"
            )


class _Reader(ShapeReader):
    """Checks JSON files and keeps the good ones."""

    def __init__(self, folder: Path, images: Path, config: Config, check: Checker) -> None:
        super().__init__(check)
        self._folder = folder
        self._image_folder = images
        self._config = config
        self._names = images_below(images, images, config.follows_links, Skipped())
        self._pictures: dict[str, list[str]] = {}  # by name without suffix, in small letters
        for name in self._names:
            self._pictures.setdefault(folded(_stem(name)), []).append(name)

    def add(self, record: dict[str, str]) -> None:
        """Check one JSON file, named without its suffix."""
        name = record["id"]
        if not is_text(name):
            raise RecordError("unsafe file name", "its name is not Unicode text")
        file, _ = find_file(
            self._folder, f"{name}.json", "JSON file", follow=self._config.follows_links
        )
        try:
            document, _ = load_json(file)
        except DatasetError as err:
            raise RecordError("bad JSON", str(err).removeprefix(f"{file}: ")) from err
        if isinstance(document, dict) and "shapes" not in document:
            raise RecordError(
                "missing key",
                "key 'shapes' is missing: it is no file of labelme and may belong elsewhere",
            )
        shapes = need(document, "shapes")
        if not isinstance(shapes, list):
            raise RecordError("bad value", "shapes must be a list; this is no file of labelme")
        try:
            path, num_bytes, header = self._image(document, name, file)
            size, turned = as_seen(header, _told_size(document), self._config)
        except RecordError:
            self.skipped["object of a skipped image"] += len(shapes)
            raise
        objects = self._objects(shapes, size, f"image {name!r}")
        count_flags(_mapping(document.get("flags")), self.skipped)
        self.keep(DrawnImage(name, path, num_bytes, size, turned, ()), objects)

    def count_left_out(self) -> None:
        """Count images without a JSON file: nobody looked at them."""
        for name in self._names:
            if name not in self.listed:
                self.skipped.note(_WITHOUT_JSON, name)

    def _image(self, document: Any, name: str, file: Path) -> tuple[Path, int, Header]:
        """Return the file that holds the image, its size in bytes and its header.

        The image is the one called like the JSON file. `imagePath` outlives renaming, so it is only
        asked where there is none.
        """
        told = document.get("imagePath")
        if not isinstance(told, str):
            told = ""
        found = self._found(name, told)
        most = self._config.max_pixels
        try:
            if found is not None:
                self.listed.add(found)
                follow = self._config.follows_links
                path, num_bytes = find_file(self._image_folder, found, "image", follow=follow)
                return path, num_bytes, header_of_file(path, most)
            if document.get("imageData"):
                data = _embedded(document)
                return file, len(data), header_in(io.BytesIO(data), most)
        except ValueError as err:
            raise RecordError("bad image", f"the image {err}") from err
        raise RecordError(
            "missing image file",
            f"its image (imagePath {told[:200]!r}) is not in {self._image_folder}, "
            "and no imageData is embedded; name the folder with images=FOLDER",
        )

    def _found(self, name: str, told: str) -> str | None:
        """Return the name of the image below the folder of images; None without one."""
        own = self._pictures.get(folded(name), [])
        path = told.replace("\\", "/")
        beside = _joined(name, path)
        if len(own) > 1:
            same = [picture for picture in own if picture == beside]
            own = same or own[:1]
        last = path.rsplit("/", 1)[-1]
        elsewhere = [beside, path, last]
        others = [picture for picture in elsewhere if self._is_picture(picture)]
        if not own and not others:
            return None
        if not own:
            return others[0]
        if others and others[0] != own[0] and _stem(others[0]) != name:
            self.note(_OTHER_IMAGE, f"image {name!r}: its imagePath is {told[:100]!r}")
        return own[0]

    def _is_picture(self, name: str) -> bool:
        return name in self._pictures.get(folded(_stem(name)), [])

    def _objects(self, shapes: list[Any], size: Size, owner: str) -> tuple[Drawn, ...]:
        def draw(shape: Any, canvas: Canvas) -> Drawn | None:
            return _drawn(shape, canvas, self.skipped)

        def tell(reason: str) -> None:
            self.note(reason, owner)

        named = []
        for position, shape in enumerate(shapes, start=1):
            named.append((f"shape {position}", shape))
        grouped = []
        for one, shape in self.drawn(owner, size, named, draw):
            grouped.append((one, shape.get("group_id")))
        return join_groups(grouped, size, tell)


def _drawn(shape: Any, canvas: Canvas, skipped: Skipped) -> Drawn | None:
    """Return the object of a shape; None, counted, for one without a region."""
    name = need(shape, "label")
    if not is_name(name):
        raise RecordError("bad value", f"label is {name!r:.100}, no name of a class")
    kind = shape.get("shape_type") or "polygon"
    if kind in _WITHOUT_REGION:
        skipped.unread[f"shapes of the kind '{kind}'"] += 1
        return None
    points = _points(need(shape, "points"))
    found = _of_kind(kind, name, points, shape, canvas)
    flags = _mapping(shape.get("flags")) | _mapping(shape.get("attributes"))
    for key in shape.keys() - _KNOWN:
        flags[key] = shape[key]
    count_flags(flags, skipped)
    if any(is_ignore_flag(key, value) for key, value in flags.items()):
        return Drawn(found.name, found.box, found.polygons, found.rle, True)
    return found


def _of_kind(kind: str, name: str, points: Points, shape: Json, canvas: Canvas) -> Drawn:
    if kind == "rectangle" and len(points) == 4 and not _is_upright(points):
        return turned_box(name, points, canvas)
    if kind == "rectangle" and len(points) in (2, 4):
        corners = (*points.min(0).tolist(), *points.max(0).tolist())
        return drawn_box(name, corners, canvas)
    if kind == "circle" and len(points) == 2:
        middle, on_edge = points
        radius = float(np.hypot(*(on_edge - middle)))
        center = (float(middle[0]), float(middle[1]))
        circle = ellipse(center, (radius, radius))
        return drawn_polygons(name, [circle], canvas)
    if kind in ("polygon", "rotation"):
        return drawn_polygons(name, [points], canvas)
    if kind == "mask" and len(points) == 2:
        mask = _mask(shape.get("mask"))
        left, top = np.round(points.min(0)).astype(int).tolist()
        return drawn_mask(name, placed_mask(mask, left, top, canvas))
    raise RecordError("bad shape", f"a {kind!r:.40} of {len(points)} points is not known")


def _is_upright(corners: Points) -> bool:
    """Whether four corners are those of the upright box around them."""
    edges = np.stack([corners.min(0), corners.max(0)])
    distances = np.abs(corners[:, None] - edges).min(axis=1)  # [4, 2]
    return bool(distances.max() < _UPRIGHT)


_UPRIGHT = 0.5  # pixels by which a corner may be off


def _points(value: Any) -> Points:
    """Return the points [K, 2] of a shape."""
    if not isinstance(value, list) or not value:
        raise RecordError("bad shape", "points must be a list of [x, y]")
    rows = []
    for point in value:
        if not isinstance(point, list) or len(point) != 2:
            raise RecordError("bad shape", "points must be a list of [x, y]")
        rows.append([number(point[0], "a point"), number(point[1], "a point")])
    return np.array(rows, np.float64)


def _mask(text: Any) -> Flags:
    """Return the mask [h, w] of the part of an image that a shape covers."""
    from PIL import Image

    try:
        data = base64.b64decode(text, validate=True)
        header = header_in(io.BytesIO(data), _LARGEST_MASK)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            assert header.size == (image.height, image.width)
            return np.asarray(image.convert("L")) > 0
    except (binascii.Error, *UNREADABLE) as err:
        raise RecordError("bad mask", f"its mask is no PNG in base64 ({one_line(err)})") from err


_LARGEST_MASK = 100_000_000  # pixels


def _embedded(document: Any) -> bytes:
    """Return the image that a JSON file holds."""
    try:
        return base64.b64decode(document["imageData"], validate=True)
    except (KeyError, TypeError, ValueError) as err:
        raise RecordError("bad image", f"its imageData is no base64 ({one_line(err)})") from err


def _told_size(document: Any) -> Size | None:
    """Return the size (H, W) that a file says; None where it says none."""
    height = document.get("imageHeight")
    width = document.get("imageWidth")
    if height is None or width is None:
        return None
    if not is_int(height) or not is_int(width) or height < 1 or width < 1:
        raise RecordError(
            "bad image size",
            f"imageWidth {width!r:.100} and imageHeight {height!r:.100} "
            "must be whole numbers above 0",
        )
    return height, width


def _mapping(value: Any) -> Json:
    return dict(value) if isinstance(value, dict) else {}


def _joined(name: str, path: str) -> str:
    """Return a path that starts beside a JSON file, below the folder of both."""
    parts = name.split("/")[:-1]
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]

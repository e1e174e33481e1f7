"""Label Studio's JSON export, read.

Reference: `label_studio:export.json?images=folder`. Coordinates are percent of the image. The
export names images by their address on the server; they are looked for by ever shorter ends of
it, also without the prefix that an upload adds. JSON-MIN is read too.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.images import header_of_file
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import located
from synthaug.pipeline.formats.checked import BoxConfig, Checker
from synthaug.pipeline.formats.drawn import (
    Canvas,
    Drawn,
    DrawnDataset,
    DrawnImage,
    as_seen,
    corners_of,
    drawn_box,
    drawn_mask,
    drawn_polygons,
    ellipse,
    image_folder,
    listed_classes,
    occurring_classes,
    rotated,
    turned_box,
)
from synthaug.pipeline.formats.json_files import load_json
from synthaug.pipeline.formats.label_studio import brush
from synthaug.pipeline.formats.shape_reader import ShapeReader
from synthaug.pipeline.formats.source_files import SUFFIXES, find_file, images_below
from synthaug.pipeline.formats.validation import (
    RecordError,
    is_int,
    is_name,
    is_text,
    need,
    number,
)

_REGIONS = ("rectangle", "polygon", "ellipse", "brush")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what an upload puts before a file's name
_NOT_LABELLED = "task without an annotation, left out"
_OTHERS = "another annotation of the same image, left out for the newest"
_PREDICTED = "'predictions' of images"


@dataclass(frozen=True)
class Config(BoxConfig):
    """Options of a reference; `path` is the JSON file."""

    images: str = ""  # folder of the images; "" = beside the file, or in `images/` there
    classes: str = ""  # text file with a class per line; "" = the names that occur, by the alphabet


def read(config: Config, root: Path = Path()) -> DrawnDataset:
    """Open an export; bad tasks and regions stop the reading or are counted."""
    file = located(root, config.path)
    document, _ = load_json(file)
    tasks = document if isinstance(document, list) else None
    if tasks is None:
        raise DatasetError(
            f"{file}: the top level must be a list of tasks; this is no JSON export of Label Studio"
        )
    check = Checker(file, config.on_bad, cuts_boxes=config.cuts_boxes)
    reader = _Reader(image_folder(file, config.images, root), config, check)
    check.each(tasks, "task", reader.add)
    reader.count_unlisted(reader.names)
    categories = occurring_classes(reader.images)
    if config.classes:
        categories = listed_classes(located(root, config.classes))
        known = {category.name for category in categories}
        for name in sorted({drawn.name for image in reader.images for drawn in image.objects}):
            if name not in known:
                raise DatasetError(
                    f"{file}: the class {name!r} is not in {config.classes}; add it there"
                )
    return DrawnDataset(categories, reader.images, check.skipped)


class _Reader(ShapeReader):
    """Checks tasks and keeps the good ones."""

    def __init__(self, folder: Path, config: Config, check: Checker) -> None:
        super().__init__(check)
        self._folder = folder
        self._config = config
        self.names = images_below(folder, folder, config.follows_links, Skipped())
        self._pictures = _by_ends(self.names)

    def add(self, task: Any) -> None:
        """Check one task."""
        if not isinstance(task, dict):
            raise RecordError("missing key", "is no JSON object")
        name = f"task {task.get('id')!r:.100}"
        regions = self._regions(task, name)
        if regions is None:
            with contextlib.suppress(RecordError):  # it may have no image
                self._candidates(_address(task))
            self.note(_NOT_LABELLED, name)
            return
        try:
            image = self._image(task, regions)
        except RecordError:
            self.skipped["object of a skipped image"] += len(regions)
            raise
        self.keep(image, self._objects(regions, image.size, name))

    def _regions(self, task: Json, name: str) -> list[Any] | None:
        """Return the regions of the newest annotation of a task; None where it has none."""
        if task.get("predictions"):
            self.skipped.unread[_PREDICTED] += 1
        if "annotations" not in task and "completions" not in task:
            return _regions_of_short_form(task)
        annotations = task.get("annotations", task.get("completions"))
        if not isinstance(annotations, list):
            raise RecordError("bad value", "annotations must be a list")
        done = [one for one in annotations if isinstance(one, dict) and not _is_cancelled(one)]
        if not done:
            return None
        chosen = max(done, key=_rank)
        for other in done:
            if other is not chosen:
                self.note(_OTHERS, f"{name}: annotation {other.get('id')!r:.100}")
        regions = chosen.get("result")
        if not isinstance(regions, list):
            raise RecordError("bad value", "the result of its annotation must be a list")
        return regions

    def _image(self, task: Json, regions: list[Any]) -> DrawnImage:
        """Return the image of a task, without objects."""
        address = _address(task)
        found = self._candidates(address)
        if len(found) > 1:
            raise RecordError(
                "two images of one name",
                f"{found[0]!r} and {found[1]!r} both end like {address[-200:]!r}; "
                "name the folder of one with images=FOLDER",
            )
        wanted = found[0] if found else _names(address)[-1]
        path, num_bytes = find_file(
            self._folder, wanted, "image file", follow=self._config.follows_links
        )
        try:
            header = header_of_file(path, self._config.max_pixels)
        except ValueError as err:
            raise RecordError("bad image", f"the image {err}") from err
        size, turned = as_seen(header, _told_size(regions), self._config)
        image_id = wanted.rsplit(".", 1)[0]
        if not is_text(image_id):
            raise RecordError("unsafe file name", "the name of its image is not Unicode text")
        self.check_id(image_id, f"its image {wanted!r} is another task's too")
        return DrawnImage(image_id, path, num_bytes, size, turned, ())

    def _candidates(self, address: str) -> list[str]:
        """Return the names of the images that end like an address, by the longest end."""
        for end in _names(address):
            found = self._pictures.get(unicodedata.normalize("NFC", end))
            if found:
                self.listed.update(found)
                return found
        return []

    def _objects(self, regions: list[Any], size: Size, owner: str) -> list[Drawn]:
        labels = _labels_of_regions(regions)

        def draw(region: Any, canvas: Canvas) -> Drawn | None:
            return _drawn(region, labels, canvas, self.skipped)

        named = [(f"region {position}", region) for position, region in enumerate(regions, start=1)]
        return [drawn for drawn, _ in self.drawn(owner, size, named, draw)]


def _is_cancelled(annotation: Json) -> bool:
    return annotation.get("was_cancelled") is True


def _rank(annotation: Json) -> tuple[bool, str, int]:
    """Return what decides between annotations: ground truth first, then the newest."""
    changed = annotation.get("updated_at") or annotation.get("created_at") or ""
    number_of = annotation.get("id")
    key = number_of if is_int(number_of) else 0
    return annotation.get("ground_truth") is True, str(changed), key


def _regions_of_short_form(task: Json) -> list[Any] | None:
    """Return the regions of a task in JSON-MIN, as those of the long form."""
    regions: list[Any] = []
    found = False
    for value in task.values():
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            continue
        for one in value:
            if "original_width" not in one:
                continue
            found = True
            kind = next((key for key in one if key.endswith("labels")), "labels")
            if kind == "labels":
                kind = _kind_by_keys(one)
            regions.append(
                {
                    "type": kind,
                    "value": one,
                    "original_width": one["original_width"],
                    "original_height": one.get("original_height"),
                    "image_rotation": one.get("image_rotation", 0),
                }
            )
    return regions if found else None


def _kind_by_keys(value: Json) -> str:
    for key, kind in (("points", "polygon"), ("radiusX", "ellipse"), ("rle", "brush")):
        if key in value:
            return kind
    return "rectangle"


# --- the image of a task ---


def _address(task: Json) -> str:
    """Return the address of a task's image: the value of its data that names one."""
    data = task.get("data", task)
    if not isinstance(data, dict):
        raise RecordError("bad value", "data must be an object that names the image")
    found = {}
    for key, value in data.items():
        if isinstance(value, str) and _names(value)[-1].lower().endswith(SUFFIXES):
            found[key] = value
    for key in ("image", "img", *found):
        if key in found:
            return found[key]
    raise RecordError("missing image file", "no value of its data names an image file")


def _names(address: str) -> list[str]:
    """Return the names that an image may have, longest first."""
    parts = urlsplit(address) if "://" in address or address.startswith("/data/") else None
    path = address
    if parts is not None:
        local = parse_qs(parts.query).get("d")  # of a local storage
        path = local[0] if local else unquote(parts.path)
    path = path.replace("\\", "/").strip("/")
    steps = [step for step in path.split("/") if step not in ("", ".", "..")]
    names = ["/".join(steps[k:]) for k in range(len(steps))] or [""]
    bare = _UPLOAD.sub("", names[-1])
    return names if bare == names[-1] or not bare else [*names, bare]


def _by_ends(names: Iterable[str]) -> dict[str, list[str]]:
    """Return names of images by every end of their paths, as NFC."""
    found: dict[str, list[str]] = {}
    for name in names:
        steps = unicodedata.normalize("NFC", name).split("/")
        ends = {"/".join(steps[k:]) for k in range(len(steps))}
        for end in ends:
            found.setdefault(end, []).append(name)
    return found


def _told_size(regions: Iterable[Any]) -> Size | None:
    """Return the size (H, W) that the regions say; None where none does."""
    for region in regions:
        if not isinstance(region, dict) or "original_width" not in region:
            continue
        height = region.get("original_height")
        width = region["original_width"]
        if is_int(height) and is_int(width) and height > 0 and width > 0:
            return height, width
        raise RecordError(
            "bad image size",
            f"original_width {width!r:.100} and original_height {height!r:.100} "
            "must be whole numbers above 0",
        )
    return None


# --- regions ---


def _labels_of_regions(regions: list[Any]) -> dict[Any, list[Any]]:
    """Return the labels of shapes by their id.

    A plain shape has them in a result beside it.
    """
    labels: dict[Any, list[Any]] = {}
    for region in regions:
        if not isinstance(region, dict) or not isinstance(region.get("value"), dict):
            continue
        for key, value in region["value"].items():
            if key.endswith("labels") and isinstance(value, list):
                labels.setdefault(str(region.get("id")), []).extend(value)
    return labels


def _drawn(
    region: Any, labels: dict[Any, list[Any]], canvas: Canvas, skipped: Skipped
) -> Drawn | None:
    """Return the object of a region; None, counted, for one that is no shape."""
    kind = str(need(region, "type"))
    shape = kind.removesuffix("labels")
    if not shape:  # the labels of a plain shape
        return None
    if shape not in _REGIONS:
        skipped.unread[f"results of the kind '{kind[:40]}'"] += 1
        return None
    value = need(region, "value")
    if not isinstance(value, dict):
        raise RecordError("bad value", "its value must be an object")
    if number(region.get("image_rotation") or 0, "image_rotation"):
        raise RecordError(
            "turned image",
            f"its image_rotation is {region['image_rotation']}: its shapes count a turned image; "
            "turn it back in Label Studio and export again",
        )
    names = value.get(kind) or value.get("labels") or labels.get(str(region.get("id")), [])
    if not isinstance(names, list) or len(set(map(str, names))) != 1 or not is_name(names[0]):
        raise RecordError("bad label", f"it needs one label, not {names!r:.100}")
    return _of_kind(shape, names[0], value, canvas)


def _of_kind(kind: str, name: str, value: Json, canvas: Canvas) -> Drawn:
    height, width = canvas.size
    if kind == "brush":
        try:
            return drawn_mask(name, brush.decode(value.get("rle"), canvas.size))
        except ValueError as err:
            raise RecordError("bad mask", one_line(err)) from err
    if kind == "polygon":
        points = np.array([_point(point) for point in _list(need(value, "points"))])
        return drawn_polygons(name, [points.reshape(-1, 2) * (width, height) / 100], canvas)
    x = _percent(value, "x") * width
    y = _percent(value, "y") * height
    degrees = number(value.get("rotation") or 0, "rotation")
    if kind == "ellipse":
        radii = _percent(value, "radiusX") * width, _percent(value, "radiusY") * height
        return drawn_polygons(name, [ellipse((x, y), radii, degrees)], canvas)
    far_x = x + _percent(value, "width") * width
    far_y = y + _percent(value, "height") * height
    if degrees % 360:  # around its first corner
        corners = rotated(corners_of(x, y, far_x, far_y), (x, y), degrees)
        return turned_box(name, corners, canvas)
    return drawn_box(name, _settled((x, y, far_x, far_y)), canvas)


def _percent(value: Json, name: str) -> float:
    return number(need(value, name), name) / 100


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise RecordError("bad mask", "points must be a list of [x, y]")
    return value


def _point(value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise RecordError("bad mask", "points must be a list of [x, y]")
    return number(value[0], "a point"), number(value[1], "a point")


_DIGITS = 6  # after the point: percent of an image of 10,000 pixels are exact to 1e-12


def _settled(box: tuple[float, ...]) -> list[float]:
    """Return pixels without what percent of them add: 3, not 2.9999999999999996."""
    return [round(value, _DIGITS) for value in box]

"""COCO instances JSON, read: boxes, polygons and run lengths, every record checked when the file is opened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError, one_line
from synthaug.pipeline.core.scene import (
    SOURCES,
    Category,
    Dataset,
    ImageRef,
    Objects,
    Provenance,
    Scene,
)
from synthaug.pipeline.core.storage import inside
from synthaug.pipeline.formats.coco.write import BOX_ONLY, CocoWriter, write
from synthaug.pipeline.formats.json_files import Checker, check_limits, load_object, section
from synthaug.pipeline.formats.validation import (
    RecordError,
    Segmentation,
    corners,
    flag,
    inside_box,
    is_int,
    is_text,
    key_of,
    need,
    number,
    provenance,
    read_segmentation,
)

__all__ = ["CocoDataset", "CocoWriter", "Config", "read", "write"]

_DECODERS = (
    "PNG",
    "JPEG",
    "BMP",
    "WEBP",
    "TIFF",
    "GIF",
)  # others start programs or are not photographs


@dataclass(frozen=True)
class Config:
    """Options of a COCO reference; `path` is the JSON file."""

    path: str
    images: str = (
        ""  # folder; by default beside the JSON, in `images/` there, or in `images/` one level up
    )
    on_bad: str = "stop"  # or "skip": leave bad records out and count them
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        check_limits(self.on_bad, self.max_pixels)


@dataclass(frozen=True)
class Image:
    """A checked image record."""

    image_id: str
    path: Path
    name: str
    size: int  # bytes of the file
    height: int
    width: int
    provenance: Provenance | None


@dataclass(frozen=True, slots=True)
class Label:
    """A checked annotation record."""

    id: Any  # as in the file; None where there is none
    object_id: Any
    category: int
    box: tuple[float, float, float, float]  # xyxy pixels
    layout_box: tuple[float, float, float, float]
    area: float
    iscrowd: bool
    isthing: bool
    segmentation: Segmentation
    score: float
    source: str
    verdict: str | None
    verdict_score: float


class CocoDataset(Dataset):
    """A checked COCO file; masks given as polygons are rasterised when a scene is asked for."""

    def __init__(
        self,
        file: Path,
        config: Config,
        digest: str,
        categories: tuple[Category, ...],
        images: dict[str, Image],
        labels: Iterable[tuple[str, Label]],
    ) -> None:
        """Take the images by key, in order, and their labels, each with the key of its image."""
        self.categories = categories
        self.skipped: Counter[str] = Counter()
        self._file, self._config, self._digest, self._images = (
            file,
            config,
            digest,
            list(images.values()),
        )
        of: dict[str, list[Label]] = {key: [] for key in images}
        for key, label in labels:
            of[key].append(label)
        self._labels = list(of.values())

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, labels = self._images[index], self._labels[index]
        size = (image.height, image.width)
        objects = Objects.build(
            [label.category for label in labels],
            [label.box for label in labels],
            rle=[_rle(label.segmentation, size) for label in labels],
            layout_boxes=[label.layout_box for label in labels],
            **{name: [getattr(label, name) for label in labels] for name in _COLUMNS},
        )
        ref = ImageRef(None, str(image.path))
        return Scene(
            image.image_id, image.height, image.width, ref, objects, provenance=image.provenance
        )

    def fingerprint(self) -> str:
        """Digest of the JSON bytes and of the name and size of every image file."""
        files = [(image.name, image.size) for image in self._images]
        return hashlib.sha256(f"{self._digest} {json.dumps(files)}".encode()).hexdigest()

    def verify(self, index: int) -> None:
        """Decode the image of one scene; raises DatasetError when it is broken, too large or of another size."""
        image = self._images[index]
        width, height = _decoded_size(image.path, self._config.max_pixels)
        if (width, height) != (image.width, image.height):
            raise DatasetError(
                f"{image.path}: the image is {width}x{height} pixels, {self._file} says {image.width}x{image.height}; "
                "correct the annotation file"
            )


_COLUMNS = ("id", "area", "iscrowd", "isthing", "score", "source", "verdict", "verdict_score")


def _rle(segmentation: Segmentation, size: tuple[int, int]) -> str | None:
    return (
        masks.from_polygons(segmentation, size) if isinstance(segmentation, list) else segmentation
    )


def _decoded_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Decode all pixels and return (width, height); the size is checked before anything is decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            with Image.open(path, formats=_DECODERS) as image:
                if image.width * image.height > max_pixels:
                    raise DatasetError(
                        f"{path}: {image.width}x{image.height} pixels are over max_pixels={max_pixels}; shrink it"
                    )
                image.load()
                return image.size
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as err:
        raise DatasetError(
            f"{path}: the image cannot be decoded ({one_line(err)}); replace the file"
        ) from err


def read(config: Config, root: Path = Path()) -> CocoDataset:
    """Open a COCO instances file and check every record; bad ones stop the reading or are counted in `skipped`."""
    file = root / config.path
    return read_document(*load_object(file), file, config, root)


def read_document(
    document: dict[str, Any], digest: str, file: Path, config: Config, root: Path
) -> CocoDataset:
    """Check the parsed content of a COCO file; the rest is as in `read`."""
    skipped: Counter[str] = Counter()
    check = Checker(file, config.on_bad, skipped)
    categories: dict[int, Category] = {}
    check.each(
        section(document, "categories", file),
        "category",
        lambda record: add_category(record, categories),
    )
    ordered = tuple(categories[key] for key in sorted(categories))
    images = read_images(document, config, root, check)
    labels = Labels(images, ordered, skipped)
    found: list[tuple[str, Label]] = []

    def add(record: Any) -> None:
        place = labels.place(record)
        if place is not None:
            found.append((place.key, labels.read(record, place)))

    check.each(section(document, "annotations", file), "annotation", add)
    dataset = CocoDataset(file, config, digest, ordered, images.images, with_ids(found, skipped))
    dataset.skipped = +skipped
    return dataset


def read_images(document: dict[str, Any], config: Config, root: Path, check: Checker) -> Images:
    """Check the image records of a COCO file, and that each has its image file."""
    listed = section(document, "images", check.file)
    images = Images(_image_folder(check.file, config, root, listed), config.max_pixels)
    check.each(listed, "image", images.add)
    return images


def add_category(record: Any, categories: dict[int, Category]) -> None:
    """Check one category record and keep it under its id."""
    key, name = need(record, "id"), need(record, "name")
    if not is_int(key) or not isinstance(name, str):
        raise RecordError("bad category", "its id must be a whole number and its name a text")
    if key in categories:
        raise RecordError("duplicate category id", "another category has the same id")
    parent = record.get("supercategory") or ""
    if not isinstance(parent, str):
        raise RecordError("bad category", "its supercategory must be a text")
    categories[key] = Category(key, name, parent, flag(record, "isthing", True))


def _image_folder(file: Path, config: Config, root: Path, listed: list[Any]) -> Path:
    """Return the images folder: the given one, else the first of three places that has the first image of the file."""
    if config.images:
        folder = root / config.images
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; correct the option images=")
        return folder.resolve()
    places = [file.parent, file.parent / "images", file.parent.parent / "images"]
    first = next(
        (str(r["file_name"]) for r in listed if isinstance(r, dict) and "file_name" in r), None
    )
    for place in places:
        with contextlib.suppress(
            OSError, ValueError
        ):  # a name no file can have; reported when the image is checked
            if first and (place / first.lstrip("/")).is_file():
                return place.resolve()
    return next((place for place in places[1:] if place.is_dir()), file.parent).resolve()


class Images:
    """Checks image records and keeps the good ones; knows the refused ones, so that their labels can be counted."""

    def __init__(self, folder: Path, max_pixels: int) -> None:
        self._folder, self._max_pixels = folder, max_pixels
        self.images: dict[str, Image] = {}  # by the id in the file
        self.refused: set[str] = set()
        self._scene_ids: set[str] = set()

    def add(self, record: Any) -> None:
        """Check one image record."""
        key = key_of(record, "id")
        if key in self.images:
            raise RecordError("duplicate image id", "another image has the same id")
        try:
            self.images[key] = self._checked(key, record)
        except RecordError:
            self.refused.add(key)
            raise

    def _checked(self, key: str, record: dict[str, Any]) -> Image:
        name, height, width = (need(record, k) for k in ("file_name", "height", "width"))
        if not all(is_int(n) and n > 0 for n in (height, width)):
            raise RecordError(
                "bad image size",
                f"width {width!r} and height {height!r} must be whole numbers above 0",
            )
        if height * width > self._max_pixels:
            raise RecordError(
                "image too large", f"{width}x{height} is over max_pixels={self._max_pixels}"
            )
        if not isinstance(name, str):
            raise RecordError("missing image file", "its file_name is no text")
        try:
            path, size = inside(self._folder, name)
        except PermissionError as err:
            raise RecordError("unsafe file name", f"its file_name {err}") from err
        except FileNotFoundError as err:
            raise RecordError("missing image file", f"its image file {err}") from err
        scene_id = record.get("scene_id", key)
        if not isinstance(scene_id, str) or scene_id in self._scene_ids:
            raise RecordError(
                "duplicate image id", f"its scene_id {scene_id!r} is no text or not unique"
            )
        if not is_text(scene_id):
            raise RecordError("bad value", f"its id {scene_id!r} is not Unicode text")
        self._scene_ids.add(scene_id)
        return Image(scene_id, path, name, size, height, width, provenance(record))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an annotation belongs."""

    key: str  # of the image
    image: Image
    category: int  # index


class Labels:
    """Checks annotation records."""

    def __init__(
        self, images: Images, categories: tuple[Category, ...], skipped: Counter[str]
    ) -> None:
        self._images, self._categories, self._skipped = images, categories, skipped
        self._index = {category.id: index for index, category in enumerate(categories)}

    def place(self, record: Any) -> Place | None:
        """Return the image and the category of a record; None, and it is counted, when its image was refused."""
        key = key_of(record, "image_id")
        if key in self._images.refused and key not in self._images.images:
            self._skipped["annotation of a skipped image"] += 1
            return None
        if key not in self._images.images:
            raise RecordError(
                "unknown image", f"image_id {record['image_id']!r} is not among the images"
            )
        category = need(record, "category_id")
        if not is_int(category) or category not in self._index:
            raise RecordError(
                "unknown category", f"category_id {category!r} is not among the categories"
            )
        return Place(key, self._images.images[key], self._index[category])

    def read(self, record: dict[str, Any], place: Place) -> Label:
        """Check the values of a record."""
        image, category = place.image, place.category
        size = (image.height, image.width)
        box, clipped = inside_box(corners(record, "bbox"), size)
        given = None if record.get(BOX_ONLY) == 1 else record.get("segmentation")
        segmentation = read_segmentation(given, size)
        score, source, verdict = (
            record.get("score", 1.0),
            record.get("source", "human"),
            record.get("verdict"),
        )
        if source not in SOURCES or not isinstance(verdict, str | None):
            raise RecordError(
                "bad value",
                f"source {source!r} must be one of {', '.join(SOURCES)}, verdict a text",
            )
        default_area = (box[2] - box[0]) * (box[3] - box[1])
        label = Label(
            id=record.get("id"),
            object_id=record.get("object_id", record.get("id")),
            category=category,
            box=box,
            layout_box=corners(record, "layout_bbox") if "layout_bbox" in record else box,
            area=number(record.get("area", default_area), "area", low=0.0),
            iscrowd=flag(record, "iscrowd", False),
            isthing=flag(record, "isthing", self._categories[category].isthing),
            segmentation=segmentation,
            score=number(score, "score", low=0.0),
            source=source,
            verdict=verdict,
            verdict_score=number(record["verdict_score"], "verdict_score")
            if "verdict_score" in record
            else math.nan,
        )
        self._skipped["clipped to image"] += clipped
        return label


def with_ids(found: list[tuple[str, Label]], skipped: Counter[str]) -> Iterable[tuple[str, Label]]:
    """Give every label an id that is unique in the table and >= 1: our own, else the file's, else 1, 2, 3 ..."""
    for name in ("object_id", "id"):
        ids = [getattr(label, name) for _, label in found]
        if all(is_int(i) and 1 <= i < 1 << 63 for i in ids) and len(set(ids)) == len(ids):
            break
    else:
        skipped["renumbered ids"] += len(found)
        ids = list(range(1, len(found) + 1))
    return [
        (image, label if label.id == i else replace(label, id=i))
        for (image, label), i in zip(found, ids, strict=True)
    ]

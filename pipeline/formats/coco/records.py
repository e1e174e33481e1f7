"""The categories and images of COCO files, each record checked and kept."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Provenance
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import located
from synthaug.pipeline.formats.checked import BoxConfig, Checker
from synthaug.pipeline.formats.json_files import is_list, section
from synthaug.pipeline.formats.json_stream import RecordList
from synthaug.pipeline.formats.source_files import find_file, spelling
from synthaug.pipeline.formats.validation import (
    RecordError,
    flag,
    is_int,
    is_text,
    key_of,
    need,
)

WRITER = "written by synthaug"  # in the info of the files that we write
ORIGINAL_NAME = "original_file_name"  # extra field of images that are written under another name


@dataclass(frozen=True)
class Config(BoxConfig):
    """Options of a COCO reference; `path` is the JSON file."""

    # folder; by default beside the JSON, in `images/` there or one level up, or called like the
    # split
    images: str = ""
    annotations: str = field(
        default="required", kw_only=True
    )  # optional: unlabelled images are fine

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annotations not in ("required", "optional"):
            raise ValueError(f"annotations is '{self.annotations}'; use required or optional")


def is_ours(document: Json) -> bool:
    """Whether we wrote a file: only then are its fields of our own names ours."""
    info = document.get("info")
    return isinstance(info, dict) and info.get("description") == WRITER


@dataclass(frozen=True, slots=True)
class Image:
    """A checked image record."""

    image_id: str
    folder: Path  # of all images
    place: str  # of the file in it
    name: str
    num_bytes: int
    height: int
    width: int
    provenance: Provenance | None
    original_name: str  # what the file was called before we wrote it; else its name

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.folder / self.place

    @property
    def size(self) -> Size:
        """The size (H, W) in pixels."""
        return self.height, self.width


# --- categories ---


def read_categories(
    document: Json, check: Checker, needs_isthing: bool = False
) -> tuple[Category, ...]:
    """Check the category records of a file and return the categories by id.

    `needs_isthing`: nothing but that field tells things from stuff.
    """
    categories: dict[int, Category] = {}

    def add(record: Any) -> None:
        try:
            add_category(record, categories)
            if needs_isthing and record.get("isthing") is None:
                raise RecordError(
                    "bad category", "isthing is missing: 1 for things that are counted, 0 for stuff"
                )
        except RecordError as err:  # without it its objects would be lost, or another's
            raise RecordError(err.reason, err.detail, fatal=True) from err

    check.each(section(document, "categories", check.file), "category", add)
    _leave_out_empty_twins(document, categories, check)
    _leave_out_root(document, categories, check)
    return tuple(categories[key] for key in sorted(categories))


def add_category(record: Any, categories: dict[int, Category]) -> None:
    """Check one category record and keep it under its id."""
    key = need(record, "id")
    name = need(record, "name")
    if not is_int(key) or not is_text(name):
        raise RecordError(
            "bad category",
            f"its id {key!r:.100} must be a whole number and its name {name!r:.100} a Unicode text",
        )
    if not name.strip():
        raise RecordError("bad category", "its name is empty")
    if key in categories:
        raise RecordError("duplicate category id", "another category has the same id", fatal=True)
    parent = record.get("supercategory") or ""
    if not is_text(parent):
        raise RecordError("bad category", "its supercategory must be a text")
    categories[key] = Category(key, name, parent, flag(record, "isthing", True))


def _leave_out_empty_twins(document: Json, categories: dict[int, Category], check: Checker) -> None:
    """Leave out categories without objects that are called like another one.

    Roboflow writes such a root class. Raises DatasetError where two of one name have objects.
    """
    ids_of: dict[str, list[int]] = {}
    for key, category in categories.items():
        ids_of.setdefault(category.name, []).append(key)
    repeated = {name: ids for name, ids in ids_of.items() if len(ids) > 1}
    if not repeated:
        return
    used = _used_ids(document)
    for name, ids in repeated.items():
        with_objects = [key for key in ids if key in used]
        if len(with_objects) > 1:
            raise DatasetError(
                f"{check.file}: categories {with_objects[0]} and {with_objects[1]} are both called "
                f"{name!r} and both have objects; give them different names, or one id"
            )
        kept = (with_objects or ids)[0]
        for key in ids:
            if key != kept:
                del categories[key]
                check.skipped.note(
                    "category without objects that is called like another",
                    f"{check.file.name}: category {key}: {name!r}",
                )


def _leave_out_root(document: Json, categories: dict[int, Category], check: Checker) -> None:
    """Leave out Roboflow's root class: id 0, above all others, without an object."""
    root = categories.get(0)
    if root is None or root.supercategory != "none" or len(categories) < 2:
        return
    parents = {category.supercategory for key, category in categories.items() if key}
    if parents == {root.name} and 0 not in _used_ids(document):
        del categories[0]
        check.skipped.note(
            "category without objects above all others",
            f"{check.file.name}: category 0: {root.name!r}",
        )


def _used_ids(document: Json) -> set[int]:
    """Return the category ids that annotations or their segments name."""
    records = document.get("annotations")
    used: set[int] = set()
    if not is_list(records):
        return used
    for record in records:
        if not isinstance(record, dict):
            continue
        parts = [record]
        segments = record.get("segments_info")
        if isinstance(segments, list):
            parts += segments
        for part in parts:
            key = None
            if isinstance(part, dict):
                key = part.get("category_id")
            if is_int(key):
                used.add(key)
    return used


# --- images ---


def read_images(document: Json, config: Config, root: Path, check: Checker) -> ImageReader:
    """Check the image records of a COCO file, and that each has its image file."""
    records = section(document, "images", check.file)
    folder = _image_folder(check.file, config, root, records)
    reader = ImageReader(folder, config.max_pixels, is_ours(document), config.follows_links)

    def add(record: Any) -> None:
        if isinstance(record, dict) and not record.keys() <= _KNOWN:
            count_unread(record, _KNOWN, "images", check.skipped)
        reader.add(record)

    try:
        check.each(records, "image", add)
    except DatasetError as err:
        if config.images or reader.images or not reader.missing:
            raise
        name = _first_file_name(records)
        places = ", ".join(str(place) for place in _folders(check.file))
        raise DatasetError(
            f"{check.file}: not one of its images is there; {name!r:.200} was looked for in "
            f"{places}: name the folder with images=FOLDER"
        ) from err
    return reader


_KNOWN = frozenset(("id", "file_name", "width", "height", "scene_id", "provenance", ORIGINAL_NAME))


def count_unread(record: Json, known: frozenset[str], kind: str, skipped: Skipped) -> None:
    """Count the fields of a record that say something and have no place in a scene."""
    for name in record.keys() - known:
        value = record[name]
        if isinstance(value, dict):
            value = any(value.values())
        if value:
            skipped.unread[f"'{name[:60]}' of {kind}"] += 1


def _image_folder(file: Path, config: Config, root: Path, records: RecordList) -> Path:
    """Return the option's folder, else the first of three that has the first image."""
    if config.images:
        folder = located(root, config.images)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; correct the option images=")
        return folder.resolve()
    folders = _folders(file)
    name = _first_file_name(records)
    for folder in folders:
        # a name that no file can have is reported when the image is checked
        with contextlib.suppress(OSError, ValueError):
            if name and (folder / spelling(folder, name.lstrip("/"))).is_file():
                return folder.resolve()
    for folder in folders[1:]:
        if folder.is_dir():
            return folder.resolve()
    return file.parent.resolve()


def _folders(file: Path) -> list[Path]:
    """Return where images are looked for that no option names.

    CVAT and the official sets have a folder by the name of the split, FiftyOne has `data`.
    """
    home = file.parent.parent
    split = file.stem.split("_", 1)[-1]
    folders = [file.parent, file.parent / "images", file.parent / "data", home / "images"]
    return [*folders, home / "images" / split, home / split]


def _first_file_name(records: RecordList) -> str:
    for record in records:
        if isinstance(record, dict) and "file_name" in record:
            return str(record["file_name"])
    return ""


OTHER_TYPE = "image_id that is a text where ids are numbers, or the reverse, taken as the same"


class ImageReader:
    """Checks image records and keeps the good ones, and the keys of those it refused."""

    def __init__(
        self, folder: Path, max_pixels: int, is_ours: bool = False, follow: bool = False
    ) -> None:
        """`is_ours` says whether fields of our own names are ours."""
        self._folder = folder
        self._max_pixels = max_pixels
        self._is_ours = is_ours
        self._follow = follow
        self.images: dict[str, Image] = {}  # by the id in the file
        self.refused: set[str] = set()
        self.missing = 0  # images without a file
        self._id_types: set[type] = set()  # of the ids in the file: numbers, texts
        self._scene_ids: set[str] = set()

    def add(self, record: Any) -> None:
        """Check one image record."""
        key = key_of(record, "id")
        self._id_types.add(type(record["id"]))
        if key in self.images:
            same = self.images[key].name == record.get("file_name")
            raise RecordError(
                "duplicate image id",
                "another image has the same id, so nothing tells whose the objects are",
                fatal=not same,
            )
        try:
            self.images[key] = self._read(key, record)
        except RecordError as err:
            self.refused.add(key)
            self.missing += err.reason == "missing image file"
            raise

    def key_of_image(self, record: Any, skipped: Skipped) -> str | None:
        """Return the key of an annotation's image; None, counted, where it was refused.

        Raises RecordError where the file has no such image.
        """
        key = key_of(record, "image_id")
        if key in self.images:
            if type(record["image_id"]) not in self._id_types:
                skipped.note(OTHER_TYPE, f"annotation {record.get('id')!r:.100}: image_id {key!r}")
            return key
        if key in self.refused:
            skipped["annotation of a skipped image"] += 1
            return None
        raise RecordError(
            "unknown image", f"image_id {record['image_id']!r:.100} is not among the images"
        )

    def _read(self, key: str, record: Json) -> Image:
        name = need(record, "file_name")
        height = need(record, "height")
        width = need(record, "width")
        if not is_int(height) or not is_int(width) or height < 1 or width < 1:
            raise RecordError(
                "bad image size",
                f"width {width!r:.100} and height {height!r:.100} must be whole numbers above 0",
            )
        if height * width > self._max_pixels:
            raise RecordError(
                "image too large", f"{width}x{height} is over max_pixels={self._max_pixels}"
            )
        if not isinstance(name, str):
            raise RecordError("missing image file", f"its file_name {name!r:.100} is no text")
        path, num_bytes = find_file(
            self._folder, name, "image file", named_by="file_name", follow=self._follow
        )
        provenance = read_provenance(record) if self._is_ours else None
        scene_id = self._scene_id(key, record)
        original = record.get(ORIGINAL_NAME) if self._is_ours else None
        original_name = original if is_text(original) else name
        place = str(path.relative_to(self._folder))
        if place == name:
            place = name  # one text, not two equal ones
        folder = self._folder
        return Image(
            scene_id, folder, place, name, num_bytes, height, width, provenance, original_name
        )

    def _scene_id(self, key: str, record: Json) -> str:
        scene_id = key
        if self._is_ours:
            scene_id = record.get("scene_id", key)
        if not isinstance(scene_id, str) or scene_id in self._scene_ids:
            raise RecordError(
                "duplicate image id", f"its scene_id {scene_id!r:.100} is no text or not unique"
            )
        if not is_text(scene_id):
            raise RecordError("bad value", f"its id {scene_id!r:.100} is not Unicode text")
        self._scene_ids.add(scene_id)
        return scene_id


def read_provenance(record: Json) -> Provenance | None:
    """Return the provenance of an image record; None where it has none."""
    value = record.get("provenance")
    if value is None:
        return None
    seed = value.get("seed") if isinstance(value, dict) else None
    if not is_int(seed) or abs(seed) >> 63:
        raise RecordError("bad value", "provenance must be an object with a whole number 'seed'")
    names = ("generator", "checkpoint", "source_image", "reason")
    texts = [value.get(name) for name in names]
    if not all(is_text(text) for text in texts):
        raise RecordError("bad value", f"provenance needs texts {', '.join(names)}")
    return Provenance(seed, *texts)

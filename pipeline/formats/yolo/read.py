"""Ultralytics YOLO folders, read: data.yaml, images/<split>/ and labels/<split>/.

Reference: `yolo:folder?split=train`. A line of a label file is `class cx cy w h`, or `class x1 y1
x2 y2 ...` for a polygon, in parts of the image's width and height; an image without a label file,
or with an empty one, shows nothing. Where data.yaml has `kpt_shape`, a line is a box with key
points, which are not kept.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.boxes import Size, box_areas
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.images import header_of_file
from synthaug.pipeline.core.scene import Category, Objects, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.formats.archive import image_ref, located
from synthaug.pipeline.formats.checked import BoxConfig, CheckedDataset, Checker, first_ids
from synthaug.pipeline.formats.packed import Packed
from synthaug.pipeline.formats.source_files import decoded, find_file, read_bytes
from synthaug.pipeline.formats.validation import RecordError, is_text
from synthaug.pipeline.formats.yolo.layout import (
    Described,
    Listed,
    categories_of,
    columns_of,
    describe,
    label_file,
    listed_images,
)
from synthaug.pipeline.formats.yolo.rows import TASKS, RowReader, Shape
from synthaug.pipeline.formats.yolo.write import SPLITS, write, write_splits

__all__ = ["Config", "YoloDataset", "read", "write", "write_splits"]


@dataclass(frozen=True)
class Config(BoxConfig):
    """Options of a reference; `path` is the folder of data.yaml, or the file itself."""

    split: str = "train"
    images: str = ""  # folder of the images, instead of what data.yaml says
    task: str = ""  # detect, segment, pose or obb; "" = what data.yaml or the lines say
    annotations: str = field(
        default="required", kw_only=True
    )  # optional: no label file at all is fine

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task and self.task not in TASKS:
            raise ValueError(f"task is '{self.task}'; use {', '.join(TASKS)}")
        if self.annotations not in ("required", "optional"):
            raise ValueError(f"annotations is '{self.annotations}'; use required or optional")
        if self.split not in SPLITS:
            raise ValueError(f"split is '{self.split}'; use {', '.join(SPLITS)}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A checked image with its labels."""

    image_id: str
    path: Path
    num_bytes: int
    size: Size  # (H, W)
    category: tuple[int, ...]
    shapes: tuple[Shape, ...]
    labels_digest: str  # sha256 of the label file


class YoloDataset(CheckedDataset[Frame]):
    """The images of one split, by name."""

    def __init__(
        self,
        categories: tuple[Category, ...],
        frames: Packed[Frame],
        digest: str,
        skipped: Skipped,
    ) -> None:
        """`digest` is that of data.yaml."""
        super().__init__(categories, frames, skipped)
        self._digest = digest
        self._first_ids = first_ids(len(frame.category) for frame in frames)

    def scene(self, index: int, row: Frame) -> Scene:
        """Return a scene; polygons are filled."""
        corners = [box_of(shape) for shape in row.shapes]
        boxes = np.array(corners, np.float32).reshape(-1, 4)
        area = box_areas(boxes)
        rle: list[str | None] = []
        for k, shape in enumerate(row.shapes):
            counts = None
            if shape.ndim == 2:
                counts = masks.from_polygons([shape.ravel()], row.size)
                area[k] = masks.area(counts)
            rle.append(counts)
        objects = Objects.build(
            row.category,
            boxes,
            id=np.arange(len(boxes)) + self._first_ids[index],
            rle=rle,
            area=area,
            isthing=[self.categories[k].isthing for k in row.category],
        )
        return Scene(row.image_id, *row.size, image_ref(row.path), objects)

    def content(self) -> str:
        """Return the digests of data.yaml and of all labels, and the sizes of the images."""
        files = [(frame.image_id, frame.num_bytes, frame.labels_digest) for frame in self.rows]
        return json.dumps([self._digest, files])


def box_of(shape: Shape) -> Shape:
    """Return the xyxy box [4] of a box or a polygon."""
    if shape.ndim == 1:
        return shape
    return np.concatenate([shape.min(0), shape.max(0)])


def read(config: Config, root: Path = Path()) -> YoloDataset:
    """Open one split of a YOLO folder; bad images and labels stop it or are counted."""
    described = describe(located(root, config.path))
    categories = categories_of(described.document, described.file)
    images = located(root, config.images) if config.images else None
    skipped = Skipped()
    columns = columns_of(described, config.task)
    rows = RowReader(len(categories), columns, skipped, config.cuts_boxes)
    reader = _Reader(rows, config, skipped)
    listed = list(listed_images(described, config.split, images, config.follows_links, skipped))
    for part in listed:
        check = Checker(part.root / part.strip, config.on_bad, skipped)
        records = [{"file_name": name.removeprefix(part.strip)} for name in part.names]
        check.each(records, "image", partial(reader.add, part, check), key="file_name")
    _check_labels(reader, listed, described, config, skipped)
    told = rows.guess.told()
    is_open = not rows.columns.task and not described.is_ours
    if told and is_open:
        raise DatasetError(f"{described.file}: {told}")
    dataset = YoloDataset(categories, reader.frames, described.digest, skipped)
    dataset.has_labels = bool(reader.labelled) or config.annotations == "required"
    return dataset


class _Reader:
    """Checks images with their label files and keeps the good ones."""

    def __init__(self, rows: RowReader, config: Config, skipped: Skipped) -> None:
        self.frames: Packed[Frame] = Packed()
        self.labelled = 0  # images that have a label file
        # where one was looked for -> name of the image
        self.label_files: dict[str, str] = {}
        self.first_place: Path | None = None  # the first of them
        self.folders: set[Path] = set()  # of them all
        self._ids: set[str] = set()
        self.unlabelled: list[str] = []  # names of images without one
        self._rows = rows
        self._config = config
        self._skipped = skipped

    def add(self, part: Listed, check: Checker, record: dict[str, str]) -> None:
        """Check one image of a list."""
        short_name = record["file_name"]
        name = part.strip + short_name
        image_id = short_name.rsplit(".", 1)[0]
        if not is_text(image_id):
            raise RecordError("unsafe file name", "its name is not Unicode text")
        follow = self._config.follows_links
        path, num_bytes = find_file(part.root, name, "image file", named_by="name", follow=follow)
        place = label_file(part.root, name, part.label_root)
        self.first_place = self.first_place or place
        self.folders.add(place.parent)
        other = self.label_files.setdefault(str(place), name)
        if image_id in self._ids and other == name:
            raise RecordError("duplicate image id", "it is listed twice")
        if image_id in self._ids or other != name:
            raise RecordError(
                "duplicate image id", "another image has the same name and so the same labels"
            )
        text, digest = self._labels(place, part)
        if digest:
            self.labelled += 1
        else:
            self.unlabelled.append(str(path))
        try:
            size = self._size(path)
        except RecordError:
            lost = sum(bool(row.strip()) for row in text.splitlines())
            self._skipped["object of a skipped image"] += lost
            raise
        category, shapes = self._rows.read(text, size, f"image {short_name!r}", check)
        self._ids.add(image_id)
        frame = Frame(image_id, path, num_bytes, size, category, shapes, digest)
        self.frames.append(frame)

    def _size(self, path: Path) -> Size:
        """Return the size of an image as its labels count it."""
        try:
            header = header_of_file(path, self._config.max_pixels)
            as_shown = header.labelled(self._config.turned, None)
        except ValueError as err:
            raise RecordError("bad image", f"the image {err}") from err
        return header.shown if as_shown else header.size

    def _labels(self, place: Path, part: Listed) -> tuple[str, str]:
        """Return the text of a label file and its sha256; empty without one."""
        name = str(place.relative_to(part.label_root))
        try:
            file, _ = find_file(
                part.label_root, name, "label file", follow=self._config.follows_links
            )
        except RecordError as err:
            if err.reason == "unsafe file name":
                raise
            if place.is_symlink() or place.exists():
                raise RecordError("unreadable labels", f"{place} is no ordinary file") from None
            return "", ""
        self.label_files.setdefault(str(file), name)  # it may be spelt in another way
        data, digest = read_bytes(file)
        try:
            return decoded(data), digest
        except ValueError as err:
            raise RecordError("unreadable labels", f"{place.name} {err}; save it as UTF-8") from err


def _check_labels(
    reader: _Reader, listed: list[Listed], described: Described, config: Config, skipped: Skipped
) -> None:
    """Count images without labels and labels without images.

    Raises DatasetError where no image has a label file.
    """
    if config.annotations == "required" and reader.unlabelled and not reader.labelled:
        place = reader.first_place
        assert place is not None  # of the first image that has no labels
        raise DatasetError(
            f"{described.file}: not one of {len(reader.unlabelled)} images has a label file; "
            f"{place} was looked for{_nearby(place, described.home)}"
        )
    if not reader.labelled:
        return
    for name in reader.unlabelled:
        skipped.note("image without a label file, taken as one without objects", name)
    whole = [part.label_root for part in listed if part.is_whole]
    if len(whole) < len(listed):
        return  # a list may leave out images on purpose
    for folder in sorted(reader.folders):
        if not folder.is_dir():
            continue
        for file in sorted(folder.glob("*.txt")):
            is_of_the_system = file.name.startswith(".")
            is_label = not is_of_the_system and file.name not in _NO_LABELS
            if is_label and str(file) not in reader.label_files:
                skipped.note("label file without an image", str(file))


_NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt")
_LOOKED_THROUGH = 20_000  # files, for a hint


def _nearby(place: Path, home: Path) -> str:
    """Return where a label file of that name lies instead, for a message."""
    wanted = place.stem.casefold()
    files = itertools.islice(home.rglob("*"), _LOOKED_THROUGH)
    for file in files:
        if file.name.casefold().startswith(f"{wanted}.") and file.suffix.casefold() == ".txt":
            return f"; there is {file}: Ultralytics would not find it either, so move the labels"
    return "; put the labels there, or read the images with annotations=optional"

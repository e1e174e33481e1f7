"""Cityscapes, read and written: street scenes with maps of 16-bit instance ids.

Reference: `cityscapes:cityscapes?split=train`. Images are
leftImg8bit/<split>/<city>/<name>_leftImg8bit.png, maps
gtFine/<split>/<city>/<name>_gtFine_instanceIds.png: a pixel is the id of its class, or 1000 x class
+ number for the instances of a class that has them; without a number it is a group, here a crowd.
Ids are read as integers wider than the 16 bits of the file. A map is checked when its scene is
asked for.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.checked import CheckedConfig, CheckedDataset, Checker
from synthaug.pipeline.formats.image_files import encoded_image
from synthaug.pipeline.formats.source_files import find_file
from synthaug.pipeline.formats.validation import RecordError

_PER_CLASS = 1000  # an instance is class x 1000 + number
_IMAGE, _MAP, _LABELS = "_leftImg8bit.png", "_gtFine_instanceIds.png", "_gtFine_labelIds.png"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Label:
    """One class of the published label table; its id is its place there."""

    name: str
    group: str
    instances: bool = False  # its pixels are told apart by instance
    ignored: bool = False  # in the evaluation


LABELS = (
    Label("unlabeled", "void", ignored=True),
    Label("ego vehicle", "void", ignored=True),
    Label("rectification border", "void", ignored=True),
    Label("out of roi", "void", ignored=True),
    Label("static", "void", ignored=True),
    Label("dynamic", "void", ignored=True),
    Label("ground", "void", ignored=True),
    Label("road", "flat"),
    Label("sidewalk", "flat"),
    Label("parking", "flat", ignored=True),
    Label("rail track", "flat", ignored=True),
    Label("building", "construction"),
    Label("wall", "construction"),
    Label("fence", "construction"),
    Label("guard rail", "construction", ignored=True),
    Label("bridge", "construction", ignored=True),
    Label("tunnel", "construction", ignored=True),
    Label("pole", "object"),
    Label("polegroup", "object", ignored=True),
    Label("traffic light", "object"),
    Label("traffic sign", "object"),
    Label("vegetation", "nature"),
    Label("terrain", "nature"),
    Label("sky", "sky"),
    Label("person", "human", instances=True),
    Label("rider", "human", instances=True),
    Label("car", "vehicle", instances=True),
    Label("truck", "vehicle", instances=True),
    Label("bus", "vehicle", instances=True),
    Label("caravan", "vehicle", instances=True, ignored=True),
    Label("trailer", "vehicle", instances=True, ignored=True),
    Label("train", "vehicle", instances=True),
    Label("motorcycle", "vehicle", instances=True),
    Label("bicycle", "vehicle", instances=True),
)
# "license plate" has the id -1: never drawn, or stored as what is left of -1 in 8 or 16 bits
_NO_CLASS = (255, 65535)
_UNLABELED = len(LABELS)  # segment id of the class 0, which a panoptic map cannot spell
CATEGORIES = tuple(
    Category(k, label.name, label.group, label.instances) for k, label in enumerate(LABELS)
)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Options of a reference; `path` is the folder of leftImg8bit and gtFine."""

    split: str = "train"
    # all 34 ids, as SPADE takes them | evaluated: 19, pixels of the others are unlabelled
    classes: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes not in ("all", "evaluated"):
            raise ValueError(f"classes is '{self.classes}'; use all or evaluated")
        if not _PLAIN_NAME.fullmatch(self.split):
            raise ValueError(
                f"split is '{self.split}'; use the name of a folder such as train or val"
            )


@dataclass(frozen=True, slots=True)
class Frame:
    """A checked pair of files."""

    image_id: str
    image: Path
    map: Path
    num_bytes: tuple[int, int]  # of both files
    size: Size  # (H, W)


class CityscapesDataset(CheckedDataset[Frame]):
    """The frames of one split, by city and name."""

    def __init__(self, config: Config, frames: list[Frame], skipped: Skipped) -> None:
        keep = [config.classes == "all" or not label.ignored for label in LABELS]
        categories = tuple(category for category in CATEGORIES if keep[category.id])
        super().__init__(categories, frames, skipped)
        self._config = config
        self._index = {category.id: index for index, category in enumerate(categories)}
        self._segment_of_value = _segment_table(keep)

    def scene(self, index: int, row: Frame) -> Scene:
        """Return a scene; DatasetError when its map is broken or has an id that is none."""
        values = _instance_ids(row)  # [H, W]
        id_map = self._segment_of_value[values]  # [H, W]
        wrong = values[id_map < 0]
        if len(wrong):
            raise DatasetError(
                f"{row.map}: pixels of id {int(wrong[0])}, which is no Cityscapes id; correct the "
                "map"
            )
        segments = panoptic.segments_of(id_map)
        classes = _classes(segments.ids).tolist()
        isthing = np.array([LABELS[k].instances for k in classes], bool)
        objects = panoptic.objects_of(
            segments,
            index,
            [self._index[k] for k in classes],
            isthing=isthing,
            iscrowd=isthing & (segments.ids < _PER_CLASS),
        )
        png = ImageRef(masks.panoptic_png(id_map), f"{row.image_id}_panoptic.png")
        return Scene(row.image_id, *row.size, ImageRef(None, str(row.image)), objects, png)

    def content(self) -> str:
        """Return the split, the classes and the names and sizes of all files."""
        files = [(frame.image_id, frame.num_bytes) for frame in self.rows]
        return json.dumps([self._config.split, self._config.classes, files])


def _instance_ids(frame: Frame) -> Ints:
    """Decode the instance ids [H, W] of a frame."""
    ids = panoptic.pixels_of(ImageRef(None, str(frame.map)), frame.size, frame.image_id)
    if ids.ndim != 2:
        raise DatasetError(
            f"{frame.map}: instance ids are a grey PNG, this one has colours; replace the file"
        )
    return ids


def _segment_table(keep: list[bool]) -> Ints:
    """Return the segment id of every 16-bit value: 0 for none, -1 for a wrong value."""
    table = np.full(1 << 16, -1, np.int64)
    for k, label in enumerate(LABELS):
        values = [k]
        table[k] = k or _UNLABELED
        if label.instances:
            numbers = np.arange(_PER_CLASS * k, _PER_CLASS * (k + 1))
            table[numbers] = numbers
            values += numbers.tolist()
        if not keep[k]:
            table[values] = 0
    table[list(_NO_CLASS)] = 0
    return table


def _classes(segments: Ints) -> Ints:
    """Return the Cityscapes class [N] of segment ids [N]."""
    plain = np.where(segments == _UNLABELED, 0, segments)
    return np.where(segments < _PER_CLASS, plain, segments // _PER_CLASS)


def read(config: Config, root: Path = Path()) -> CityscapesDataset:
    """Find the frames of a split; bad ones stop the reading or are counted."""
    base = (root / config.path).resolve()
    image_folder = base / "leftImg8bit" / config.split
    map_folder = base / "gtFine" / config.split
    for folder in (image_folder, map_folder):
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; a Cityscapes folder holds leftImg8bit and gtFine with "
                "splits"
            )
    frames: dict[str, Frame] = {}

    def add(record: Json) -> None:
        frame = _frame(image_folder, map_folder, record["file_name"], config)
        if frame.image_id in frames:
            raise RecordError("duplicate image id", "another city has an image of the same name")
        frames[frame.image_id] = frame

    paths = image_folder.glob(f"*/*{_IMAGE}")
    names = sorted(path.relative_to(image_folder).as_posix() for path in paths)
    check = Checker(image_folder, config.on_bad)
    check.each([{"file_name": name} for name in names], "image", add, key="file_name")
    return CityscapesDataset(config, list(frames.values()), check.skipped)


def _frame(image_folder: Path, map_folder: Path, name: str, config: Config) -> Frame:
    stem = name.removesuffix(_IMAGE)
    max_pixels = config.max_pixels
    follow = config.follows_links
    image, image_bytes = find_file(
        image_folder, name, "file", named_by="name", missing="missing map", follow=follow
    )
    instances, map_bytes = find_file(
        map_folder, stem + _MAP, "file", named_by="name", missing="missing map", follow=follow
    )
    with image.open("rb") as file:
        head = file.read(24)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR" or len(head) < 24:
        raise RecordError("bad image", "it is no PNG file")
    width = int.from_bytes(head[16:20], "big")
    height = int.from_bytes(head[20:24], "big")
    if not 0 < width * height <= max_pixels:
        raise RecordError(
            "image too large", f"{width}x{height} is empty or over max_pixels={max_pixels}"
        )
    return Frame(Path(stem).name, image, instances, (image_bytes, map_bytes), (height, width))


JOINED = "regions of a class without numbers, joined to one in an image"


def write(dataset: Dataset, out: Folder, split: str = "train") -> None:
    """Write one split; see `write_splits`."""
    write_splits({split: dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write scenes with panoptic maps as leftImg8bit and gtFine; return what is lost.

    An image goes to the folder of the city that its name begins with.

    The classes must be Cityscapes'. Instances keep their numbers where they came from Cityscapes,
    else they are counted per class. Raises DatasetError for a class, a name or a scene that the
    format has no place for.
    """
    lost: Counter[str] = Counter()
    for split, dataset in splits.items():
        lost += _write_split(dataset, out, split)
    return lost


def _write_split(dataset: Dataset, out: Folder, split: str) -> Counter[str]:
    lost: Counter[str] = Counter()
    for category in dataset.categories:
        if category.id not in range(len(LABELS)) or LABELS[category.id].name != category.name:
            raise DatasetError(
                f"class '{category.name}' (id {category.id}) is none of Cityscapes'; write it as "
                "coco_panoptic"
            )
    image_folder = out.sub("leftImg8bit").sub(split).create()
    map_folder = out.sub("gtFine").sub(split).create()
    for scene in dataset:
        name = scene.image_id
        if not _PLAIN_NAME.fullmatch(name):
            raise DatasetError(
                f"image id {name!r} is no file name; use letters, digits, '_', '-' and '.'"
            )
        city = name.split("_")[0]
        instances = instance_map(scene, dataset.categories)
        labels = np.where(instances < _PER_CLASS, instances, instances // _PER_CLASS)
        labels[instances == _NO_CLASS[1]] = _NO_CLASS[0]
        image_folder.sub(city).write_bytes(name + _IMAGE, _png_of(scene), durable=False)
        maps = map_folder.sub(city)
        maps.write_bytes(name + _MAP, _grey_png(instances.astype(np.uint16)), durable=False)
        maps.write_bytes(name + _LABELS, _grey_png(labels.astype(np.uint8)), durable=False)
        num_regions = len(np.setdiff1d(instances, [_NO_CLASS[1]]))
        lost[JOINED] += len(scene.objects) - num_regions
    return +lost


def instance_map(scene: Scene, categories: tuple[Category, ...]) -> Ints:
    """Return the instance ids [H, W] of a scene whose classes are Cityscapes'."""
    objects = scene.objects
    id_map = panoptic.map_of(scene)
    segments = panoptic.segment_ids(objects)  # [N]
    label = np.array([categories[k].id for k in objects.category], np.int64)  # [N]
    has_instances = np.array([LABELS[k].instances for k in label], bool)
    numbered = objects.isthing & ~objects.iscrowd & has_instances
    value = np.where(numbered, segments, label)
    if not np.array_equal(segments[numbered] // _PER_CLASS, label[numbered]):
        instances: Counter[int] = Counter()
        for i in np.flatnonzero(numbered):
            k = int(label[i])
            value[i] = _PER_CLASS * k + instances[k]
            instances[k] += 1
        if max(instances.values(), default=0) > _PER_CLASS:
            raise DatasetError(
                f"image {scene.image_id!r} has over {_PER_CLASS} instances of a class; write "
                "coco_panoptic"
            )
    return panoptic.replace_ids(id_map, segments, value, _NO_CLASS[1])


def _png_of(scene: Scene) -> bytes:
    data = encoded_image(scene)
    if data.startswith(b"\x89PNG"):
        return data
    return images.encode(images.decode(scene), "png")


def _grey_png(values: NDArray[Any]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()

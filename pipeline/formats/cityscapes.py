"""Cityscapes: street scenes with pixel maps of 16-bit instance ids, read and written.

Reference: `cityscapes:cityscapes?split=train`. Images are leftImg8bit/<split>/<city>/<name>_leftImg8bit.png, maps
gtFine/<split>/<city>/<name>_gtFine_instanceIds.png: a pixel is the id of its class, or 1000 x class + number for the
instances of a class that has them; without a number it is a group, here a crowd. Ids are read as integers wider than the
16 bits of the file. A map is checked when its scene is asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Scene
from synthaug.pipeline.core.storage import Folder, inside
from synthaug.pipeline.formats.coco.write import encoded_image
from synthaug.pipeline.formats.json_files import Checker, check_limits
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
class Config:
    """Options of a Cityscapes reference; `path` is the folder that holds leftImg8bit and gtFine."""

    path: str
    split: str = "train"
    classes: str = "all"  # all 34 ids, as SPADE takes them | evaluated: 19, pixels of the others are unlabelled
    on_bad: str = "stop"  # as in coco
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        check_limits(self.on_bad, self.max_pixels)
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
    bytes: tuple[int, int]  # sizes of both files
    size: tuple[int, int]  # (H, W)


class CityscapesDataset(Dataset):
    """The frames of one split, by city and name."""

    def __init__(self, config: Config, frames: list[Frame], skipped: Counter[str]) -> None:
        keep = [config.classes == "all" or not label.ignored for label in LABELS]
        self.categories = tuple(c for c in CATEGORIES if keep[c.id])
        self.skipped = skipped
        self._config, self._frames = config, frames
        self._index = {category.id: index for index, category in enumerate(self.categories)}
        self._segment = _segment_table(keep)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Scene:
        """Return a scene; DatasetError when its map is broken or has an id that is none."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = self._frames[index]
        ids = panoptic.pixels_of(ImageRef(None, str(frame.map)), frame.size, frame.image_id)
        if ids.ndim != 2:
            raise DatasetError(
                f"{frame.map}: instance ids are a grey PNG, this one has colours; replace the file"
            )
        segments = self._segment[ids]
        if (wrong := ids[segments < 0]).size:
            raise DatasetError(
                f"{frame.map}: pixels of id {int(wrong[0])}, which is no Cityscapes id; correct the map"
            )
        found = panoptic.segments_of(segments)
        label = _classes(found.ids)
        things = np.array([LABELS[k].instances for k in label], bool)
        objects = panoptic.objects_of(
            found,
            index,
            [self._index[int(k)] for k in label],
            isthing=things,
            iscrowd=things & (found.ids < _PER_CLASS),
        )
        png = ImageRef(masks.panoptic_png(segments), f"{frame.image_id}_panoptic.png")
        return Scene(frame.image_id, *frame.size, ImageRef(None, str(frame.image)), objects, png)

    def fingerprint(self) -> str:
        """Digest of the classes and of the names and sizes of all files."""
        files = [(frame.image_id, frame.bytes) for frame in self._frames]
        text = json.dumps([self._config.split, self._config.classes, files])
        return hashlib.sha256(text.encode()).hexdigest()


def _segment_table(keep: list[bool]) -> NDArray[np.int64]:
    """Return the segment id of every 16-bit pixel value: 0 for none, -1 where the value means nothing."""
    table = np.full(1 << 16, -1, np.int64)
    for k, label in enumerate(LABELS):
        table[k] = (k or _UNLABELED) if keep[k] else 0
        if label.instances:
            numbers = np.arange(_PER_CLASS * k, _PER_CLASS * (k + 1))
            table[numbers] = numbers if keep[k] else 0
    table[list(_NO_CLASS)] = 0
    return table


def _classes(segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the Cityscapes class [N] of segment ids [N]."""
    plain = np.where(segments == _UNLABELED, 0, segments)
    return np.where(segments < _PER_CLASS, plain, segments // _PER_CLASS)


def read(config: Config, root: Path = Path()) -> CityscapesDataset:
    """Find the frames of a split; an image without its map, or too large, stops the reading or is counted."""
    base = (root / config.path).resolve()
    pictures, maps = base / "leftImg8bit" / config.split, base / "gtFine" / config.split
    for folder in (pictures, maps):
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; a Cityscapes folder holds leftImg8bit and gtFine with splits"
            )
    skipped: Counter[str] = Counter()
    frames: dict[str, Frame] = {}
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.glob(f"*/*{_IMAGE}"))

    def add(record: dict[str, Any]) -> None:
        frame = _frame(pictures, maps, record["file_name"], config.max_pixels)
        if frame.image_id in frames:
            raise RecordError("duplicate image id", "another city has an image of the same name")
        frames[frame.image_id] = frame

    records = [{"file_name": name} for name in names]
    Checker(pictures, config.on_bad, skipped).each(records, "image", add, key="file_name")
    return CityscapesDataset(config, list(frames.values()), skipped)


def _frame(pictures: Path, maps: Path, name: str, max_pixels: int) -> Frame:
    stem = name.removesuffix(_IMAGE)
    try:
        image, image_bytes = inside(pictures, name)
        labels, map_bytes = inside(maps, stem + _MAP)
    except PermissionError as err:
        raise RecordError("unsafe file name", f"its name {err}") from err
    except FileNotFoundError as err:
        raise RecordError("missing map", f"its file {err}") from err
    with image.open("rb") as file:
        head = file.read(24)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR" or len(head) < 24:
        raise RecordError("bad image", "it is no PNG file")
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if not 0 < width * height <= max_pixels:
        raise RecordError(
            "image too large", f"{width}x{height} is empty or over max_pixels={max_pixels}"
        )
    return Frame(Path(stem).name, image, labels, (image_bytes, map_bytes), (height, width))


def write(dataset: Dataset, out: Folder, split: str = "train") -> None:
    """Write scenes with panoptic maps as leftImg8bit and gtFine of a split, under the city their names begin with.

    The classes must be Cityscapes'. Instances keep their numbers where they came from Cityscapes, else they are counted
    per class. Raises DatasetError for a class, a name or a scene that the format has no place for.
    """
    for category in dataset.categories:
        if not (0 <= category.id < len(LABELS) and LABELS[category.id].name == category.name):
            raise DatasetError(
                f"class '{category.name}' (id {category.id}) is none of Cityscapes'; write it as coco_panoptic"
            )
    for index in range(len(dataset)):
        scene = dataset[index]
        if not _PLAIN_NAME.fullmatch(scene.image_id):
            raise DatasetError(
                f"image id {scene.image_id!r} is no file name; use letters, digits, '_', '-' and '.'"
            )
        city = scene.image_id.split("_")[0]
        pictures, maps = (out.sub(kind).sub(split).sub(city) for kind in ("leftImg8bit", "gtFine"))
        ids = instance_map(scene, dataset.categories)
        label_map = np.where(
            ids == _NO_CLASS[1], _NO_CLASS[0], np.where(ids < _PER_CLASS, ids, ids // _PER_CLASS)
        )
        pictures.write_bytes(scene.image_id + _IMAGE, _png_of(scene), durable=False)
        maps.write_bytes(scene.image_id + _MAP, _grey_png(ids.astype(np.uint16)), durable=False)
        maps.write_bytes(
            scene.image_id + _LABELS, _grey_png(label_map.astype(np.uint8)), durable=False
        )


def instance_map(scene: Scene, categories: tuple[Category, ...]) -> NDArray[np.int64]:
    """Return the Cityscapes instance ids [H, W] of a scene whose classes are Cityscapes'."""
    objects, ids = scene.objects, panoptic.map_of(scene)
    label = np.array([categories[k].id for k in objects.category], np.int64)
    segments = panoptic.segment_ids(objects)
    alone = (
        objects.isthing & ~objects.iscrowd & np.array([LABELS[k].instances for k in label], bool)
    )
    value = np.where(alone, segments, label)
    if not np.array_equal(segments[alone] // _PER_CLASS, label[alone]):
        seen: Counter[int] = Counter()
        for i in np.flatnonzero(alone):
            value[i] = _PER_CLASS * label[i] + seen[int(label[i])]
            seen[int(label[i])] += 1
        if seen and max(seen.values()) > _PER_CLASS:
            raise DatasetError(
                f"image {scene.image_id!r} has over {_PER_CLASS} instances of a class; write coco_panoptic"
            )
    return panoptic.replace_ids(ids, segments, value, _NO_CLASS[1])


def _png_of(scene: Scene) -> bytes:
    data = encoded_image(scene)
    return data if data.startswith(b"\x89PNG") else images.encode(images.decode(scene), "png")


def _grey_png(values: NDArray[Any]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()

"""COCO panoptic: a JSON of segments and a folder of PNG maps, id = R + 256 G + 65536 B per pixel, read and written.

Reference: `coco_panoptic:annotations/panoptic_val2017.json?images=val2017`. Boxes, areas and masks of the objects come from
the maps; those in the JSON are not used. The JSON is checked when it is opened, a map when its scene is asked for: each of
its ids must be a segment, and each segment must have pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import SOURCES, Category, Dataset, ImageRef, Scene
from synthaug.pipeline.core.storage import Folder, inside
from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.coco.write import BOX_ONLY, CocoWriter, annotation_record
from synthaug.pipeline.formats.json_files import Checker, load_object, section
from synthaug.pipeline.formats.validation import (
    Box,
    RecordError,
    corners,
    flag,
    is_int,
    key_of,
    need,
    number,
)

__all__ = ["Config", "PanopticDataset", "PanopticWriter", "read", "write"]


@dataclass(frozen=True)
class Config:
    """Options of a COCO panoptic reference; `path` is the JSON file."""

    path: str
    maps: str = ""  # folder of the PNG maps; by default the JSON's path without .json, as in the official data
    images: str = ""  # as in coco
    on_bad: str = "stop"  # as in coco
    max_pixels: int = 100_000_000  # per image

    def __post_init__(self) -> None:
        self.coco()

    def coco(self) -> coco.Config:
        """Return the options under which the image records are read."""
        return coco.Config(self.path, self.images, self.on_bad, self.max_pixels)


@dataclass(frozen=True, slots=True)
class Segment:
    """A checked segment record."""

    id: int  # in the map
    object_id: int  # in the table; 0 where the file does not say
    category: int
    layout_box: Box | None  # None: the box of the map
    iscrowd: bool
    isthing: bool
    score: float
    source: str
    verdict: str | None
    verdict_score: float


@dataclass(frozen=True)
class Annotation:
    """A checked annotation record: the map of one image."""

    path: Path
    name: str
    size: int  # bytes of the file
    segments: tuple[Segment, ...]


_COLUMNS = ("iscrowd", "isthing", "score", "source", "verdict", "verdict_score")


class PanopticDataset(Dataset):
    """A checked panoptic file; maps are decoded when a scene is asked for."""

    def __init__(
        self,
        file: Path,
        digest: str,
        categories: tuple[Category, ...],
        rows: list[tuple[coco.Image, Annotation]],
        own_ids: bool,
    ) -> None:
        """`own_ids` says that the object ids of the file are to be used: all have one, and each is unique."""
        self.categories = categories
        self.skipped: Counter[str] = Counter()
        self._file, self._digest, self._rows, self._own_ids = file, digest, rows, own_ids

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Scene:
        """Return a scene; DatasetError when its map is broken or disagrees with the JSON."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, annotation = self._rows[index]
        ref = ImageRef(None, str(annotation.path))
        found = panoptic.segments_of(
            panoptic.ids_of(ref, (image.height, image.width), image.image_id)
        )
        ids = [segment.id for segment in annotation.segments]
        self._compare(annotation.path, found.ids, ids)
        picked = panoptic.pick(found, ids)
        layout = [segment.layout_box for segment in annotation.segments]
        boxes = [
            box if asked is None else asked for box, asked in zip(picked.boxes, layout, strict=True)
        ]
        columns: dict[str, Any] = {
            n: [getattr(segment, n) for segment in annotation.segments] for n in _COLUMNS
        }
        if self._own_ids:
            columns["id"] = [segment.object_id for segment in annotation.segments]
        category = [segment.category for segment in annotation.segments]
        objects = panoptic.objects_of(picked, index, category, layout_boxes=boxes, **columns)
        pixels = ImageRef(None, str(image.path))
        return Scene(
            image.image_id, image.height, image.width, pixels, objects, ref, image.provenance
        )

    def _compare(self, path: Path, found: NDArray[np.int64], listed: list[int]) -> None:
        if loose := sorted(set(found.tolist()) - set(listed)):
            raise DatasetError(
                f"{path}: pixels of id {loose[0]} are no segment in {self._file}; correct one of them"
            )
        if empty := sorted(set(listed) - set(found.tolist())):
            raise DatasetError(
                f"{path}: segment {empty[0]} of {self._file} has no pixel; correct one of them"
            )

    def fingerprint(self) -> str:
        """Digest of the JSON bytes and of the names and sizes of all image and map files."""
        files = [
            (image.name, image.size, annotation.name, annotation.size)
            for image, annotation in self._rows
        ]
        return hashlib.sha256(f"{self._digest} {json.dumps(files)}".encode()).hexdigest()


def read(config: Config, root: Path = Path()) -> PanopticDataset:
    """Open a panoptic file and check every record; bad ones stop the reading or are counted in `skipped`."""
    file = root / config.path
    document, digest = load_object(file)
    skipped: Counter[str] = Counter()
    check = Checker(file, config.on_bad, skipped)
    categories: dict[int, Category] = {}
    check.each(
        section(document, "categories", file),
        "category",
        lambda record: coco.add_category(record, categories),
    )
    ordered = tuple(categories[key] for key in sorted(categories))
    images = coco.read_images(document, config.coco(), root, check)
    folder = root / config.maps if config.maps else file.with_suffix("")
    listed = section(document, "annotations", file)
    if listed and not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; name the one of the PNG maps with maps=FOLDER"
        )
    annotations = _Annotations(folder.resolve(), images, ordered, skipped)
    check.each(listed, "annotation of image", annotations.add, key="image_id")
    found = annotations.found
    skipped["image without a panoptic map"] += len(images.images) - len(found)
    rows = [(image, found[key]) for key, image in images.images.items() if key in found]
    given = Counter(segment.object_id for _, annotation in rows for segment in annotation.segments)
    own_ids = 0 not in given and len(given) == given.total()
    skipped["renumbered ids"] += 0 if own_ids else given.total() - given[0]
    dataset = PanopticDataset(file, digest, ordered, rows, own_ids)
    dataset.skipped = +skipped
    return dataset


class _Annotations:
    """Checks annotation records: one per image, with its segments."""

    def __init__(
        self,
        folder: Path,
        images: coco.Images,
        categories: tuple[Category, ...],
        skipped: Counter[str],
    ) -> None:
        self._folder, self._images, self._categories, self._skipped = (
            folder,
            images,
            categories,
            skipped,
        )
        self._index = {category.id: index for index, category in enumerate(categories)}
        self.found: dict[str, Annotation] = {}  # by the image's id in the file

    def add(self, record: Any) -> None:
        key = key_of(record, "image_id")
        if key not in self._images.images:
            if key not in self._images.refused:
                raise RecordError(
                    "unknown image", f"image_id {record['image_id']!r} is not among the images"
                )
            self._skipped["annotation of a skipped image"] += 1
            return
        if key in self.found:
            raise RecordError("duplicate map", "the image has another annotation")
        name, listed = need(record, "file_name"), need(record, "segments_info")
        if not isinstance(name, str) or not isinstance(listed, list):
            raise RecordError("bad value", "file_name must be a text and segments_info a list")
        try:
            path, size = inside(self._folder, name)
        except PermissionError as err:
            raise RecordError("unsafe file name", f"its file_name {err}") from err
        except FileNotFoundError as err:
            raise RecordError("missing map", f"its map {err}") from err
        segments = tuple(self._segment(segment) for segment in listed)
        if len({segment.id for segment in segments}) < len(segments):
            raise RecordError("duplicate segment id", "two segments have the same id")
        self.found[key] = Annotation(path, name, size, segments)

    def _segment(self, record: Any) -> Segment:
        segment, category = need(record, "id"), need(record, "category_id")
        if not is_int(segment) or not 1 <= segment <= panoptic.MOST:
            raise RecordError(
                "bad segment id",
                f"segment id {segment!r} is no whole number from 1 to {panoptic.MOST}",
            )
        if not is_int(category) or category not in self._index:
            raise RecordError(
                "unknown category",
                f"category_id {category!r} of segment {segment} is not among the categories",
            )
        position = self._index[category]
        own = record.get("object_id", 0)
        if own != 0 and not (is_int(own) and 0 < own < 1 << 63 and own & panoptic.MOST == segment):
            raise RecordError(
                "bad value", f"object_id {own!r} does not end in the 24 bits of segment {segment}"
            )
        source, verdict = record.get("source", "human"), record.get("verdict")
        if source not in SOURCES or not isinstance(verdict, str | None):
            raise RecordError(
                "bad value",
                f"source {source!r} must be one of {', '.join(SOURCES)}, verdict a text",
            )
        return Segment(
            id=segment,
            object_id=own,
            category=position,
            layout_box=corners(record, "layout_bbox") if "layout_bbox" in record else None,
            iscrowd=flag(record, "iscrowd", False),
            isthing=flag(record, "isthing", self._categories[position].isthing),
            score=number(record.get("score", 1.0), "score", low=0.0),
            source=source,
            verdict=verdict,
            verdict_score=number(record["verdict_score"], "verdict_score")
            if "verdict_score" in record
            else float("nan"),
        )


class PanopticWriter(CocoWriter):
    """Writes `panoptic.json`, the maps in `panoptic/` and the images in `images/`, scene by scene."""

    def __init__(self, folder: Folder, categories: tuple[Category, ...]) -> None:
        super().__init__(folder, categories, "panoptic.json")
        self._maps = folder.sub("panoptic")

    def _annotations(self, scene: Scene, image: Mapping[str, Any]) -> list[dict[str, Any]]:
        data = _map_bytes(scene)
        map_name = f"{Path(image['file_name']).stem}.png"
        self._maps.write_bytes(map_name, data, durable=False)
        segments = []
        for position, segment in enumerate(panoptic.segment_ids(scene.objects).tolist()):
            record = annotation_record(scene, position, (segment, image["id"]), self._categories)
            for name in ("segmentation", BOX_ONLY):  # the map says it
                record.pop(name, None)
            record.pop("image_id")
            segments.append({"object_id": segment} | record)
        return [{"image_id": image["id"], "file_name": map_name, "segments_info": segments}]


def _map_bytes(scene: Scene) -> bytes:
    """Return the PNG of a scene's map; DatasetError when its ids are not those of the objects."""
    found = np.unique(panoptic.map_of(scene))
    known = np.sort(panoptic.segment_ids(scene.objects))
    if not np.array_equal(found[found > 0], known):
        raise DatasetError(
            f"image {scene.image_id!r}: the ids of its panoptic map are not those of its objects"
        )
    assert scene.panoptic is not None
    ref = scene.panoptic
    return ref.data if ref.data is not None else Path(ref.path or "").read_bytes()


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as `panoptic.json`, `panoptic/` and `images/`; every scene must have a panoptic map."""
    with PanopticWriter(out, dataset.categories) as writer:
        for index in range(len(dataset)):
            writer.add(dataset[index])

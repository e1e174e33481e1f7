"""COCO panoptic, read and written: a JSON of segments and a folder of PNG maps.

The id of a pixel is R + 256 G + 65536 B.

Reference: `coco_panoptic:annotations/panoptic_val2017.json?images=val2017`. Boxes, areas and masks
of the objects come from the maps; those in the JSON are not used. The JSON is checked when it is
opened, a map when its scene is asked for: each of its ids must be a segment, and each segment must
have pixels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.arrays import Floats32
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.archive import ArchivePath, image_ref, located
from synthaug.pipeline.formats.checked import CheckedDataset, Checker
from synthaug.pipeline.formats.coco import records as coco
from synthaug.pipeline.formats.coco.labels import (
    BOX_ONLY,
    columns,
    read_layout_box,
    read_optional,
    read_source_and_verdict,
)
from synthaug.pipeline.formats.coco.write import CocoWriter, annotation_record
from synthaug.pipeline.formats.json_files import open_object, section
from synthaug.pipeline.formats.source_files import find_file
from synthaug.pipeline.formats.validation import Box, RecordError, flag, is_int, need, number

__all__ = ["Config", "PanopticDataset", "PanopticWriter", "read", "write"]

_COLUMNS = ("iscrowd", "isthing", "score", "source", "verdict", "verdict_score", "verdict_iou")


@dataclass(frozen=True)
class Config(coco.Config):
    """Options of a reference, those of coco among them; `path` is the JSON file."""

    # folder of the PNG maps; by default the JSON's path without .json, as in the official data, or
    # a folder of that name one level up
    maps: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A checked segment record."""

    id: int  # in the map
    object_id: int  # in the table; 0 where the file does not say
    category: int  # index
    layout_box: Box | None  # None: the box of the map
    iscrowd: bool
    isthing: bool
    score: float
    source: str
    verdict: str | None
    verdict_score: float
    verdict_iou: float


@dataclass(frozen=True)
class Annotation:
    """A checked annotation record: the map of one image."""

    path: Path
    name: str
    num_bytes: int
    segments: tuple[Segment, ...]


Row = tuple[coco.Image, Annotation]


class PanopticDataset(CheckedDataset[Row]):
    """The images of a checked panoptic file; a map is decoded with its scene."""

    def __init__(
        self,
        file: Path,
        digest: str,
        categories: tuple[Category, ...],
        rows: list[Row],
        skipped: Skipped,
    ) -> None:
        """Take the rows of `file`, whose sha256 is `digest`.

        Its object ids are kept when all objects have unique ones.
        """
        object_ids: Counter[int] = Counter()
        for _, annotation in rows:
            object_ids.update(segment.object_id for segment in annotation.segments)
        self._own_ids = 0 not in object_ids and len(object_ids) == object_ids.total()
        if not self._own_ids:
            skipped["renumbered ids"] += object_ids.total() - object_ids[0]
        super().__init__(categories, rows, skipped)
        self._file = file
        self._digest = digest

    def scene(self, index: int, row: Row) -> Scene:
        """Return a scene; DatasetError when its map is broken or disagrees with the JSON."""
        image, annotation = row
        segments = annotation.segments
        ids = [segment.id for segment in segments]
        ref = image_ref(annotation.path)
        in_map = panoptic.segments_of(panoptic.ids_of(ref, image.size, image.image_id))
        self._compare(annotation.path, set(in_map.ids.tolist()), set(ids))
        listed = panoptic.pick(in_map, ids)
        values = columns(segments, _COLUMNS)
        if self._own_ids:
            values["id"] = [segment.object_id for segment in segments]
        objects = panoptic.objects_of(
            listed,
            index,
            [segment.category for segment in segments],
            layout_boxes=_layout_boxes(segments, listed.boxes),
            **values,
        )
        pixels = image_ref(image.path, name=image.original_name)
        return Scene(
            image.image_id, image.height, image.width, pixels, objects, ref, image.provenance
        )

    def _compare(self, path: Path, in_map: set[int], listed: set[int]) -> None:
        unlisted = in_map - listed
        if unlisted:
            raise DatasetError(
                f"{path}: pixels of id {min(unlisted)} are no segment in {self._file}; correct one "
                "of them"
            )
        without_pixels = listed - in_map
        if without_pixels:
            raise DatasetError(
                f"{path}: segment {min(without_pixels)} of {self._file} has no pixel; correct one "
                "of them"
            )

    def content(self) -> str:
        """Return the digest of the JSON and the names and sizes of all files."""
        files = []
        for image, annotation in self.rows:
            files.append((image.name, image.num_bytes, annotation.name, annotation.num_bytes))
        return f"{self._digest} {json.dumps(files)}"


def _layout_boxes(segments: tuple[Segment, ...], map_boxes: Boxes) -> Floats32:
    """Return the boxes [N, 4] of the layout, where there are none those of the map."""
    boxes = map_boxes.copy()
    for k, segment in enumerate(segments):
        if segment.layout_box is not None:
            boxes[k] = segment.layout_box
    return boxes


def read(config: Config, root: Path = Path()) -> PanopticDataset:
    """Open a panoptic file; bad records stop the reading or are counted in `skipped`."""
    file = located(root, config.path)
    document, digest = open_object(file)
    check = Checker(file, config.on_bad)
    categories = coco.read_categories(document, check, needs_isthing=True)
    images = coco.read_images(document, config, root, check)
    folder = _maps_of(file)
    if config.maps:
        folder = located(root, config.maps)
    records = section(document, "annotations", file)
    if records and not folder.is_dir():
        raise DatasetError(
            f"{folder}: no such folder; name the one of the PNG maps with maps=FOLDER"
        )
    reader = _AnnotationReader(
        folder.resolve(),
        images,
        categories,
        check.skipped,
        coco.is_ours(document),
        config.follows_links,
    )
    check.each(records, "annotation of image", reader.add, key="image_id")
    rows = []
    for key, image in images.images.items():
        if key in reader.annotations:
            rows.append((image, reader.annotations[key]))
    check.skipped["image without a panoptic map"] += len(images.images) - len(rows)
    return PanopticDataset(file, digest, categories, rows, check.skipped)


def _maps_of(file: Path) -> Path:
    """Return the folder of maps that no option names."""
    beside = file.with_suffix("")
    has_room_above = not isinstance(file, ArchivePath) or file.parent.is_inside
    if beside.is_dir() or not has_room_above:
        return beside
    above = file.parent.parent / file.stem
    return above if above.is_dir() else beside


class _AnnotationReader:
    """Checks annotation records: one per image, with its segments."""

    def __init__(
        self,
        folder: Path,
        images: coco.ImageReader,
        categories: tuple[Category, ...],
        skipped: Skipped,
        is_ours: bool,
        follow: bool,
    ) -> None:
        """`is_ours` says whether fields of our own names are ours."""
        self._folder = folder
        self._is_ours = is_ours
        self._follow = follow
        self._images = images
        self._categories = categories
        self._skipped = skipped
        self._index = {category.id: index for index, category in enumerate(categories)}
        self.annotations: dict[str, Annotation] = {}  # by the image's id in the file

    def add(self, record: Any) -> None:
        key = self._images.key_of_image(record, self._skipped)
        if key is None:
            return
        if key in self.annotations:
            raise RecordError("duplicate map", "the image has another annotation")
        name = need(record, "file_name")
        segment_records = need(record, "segments_info")
        if not isinstance(name, str) or not isinstance(segment_records, list):
            raise RecordError("bad value", "file_name must be a text and segments_info a list")
        path, num_bytes = find_file(
            self._folder, name, "map", named_by="file_name", follow=self._follow
        )
        segments = tuple(self._segment(segment) for segment in segment_records)
        if len({segment.id for segment in segments}) < len(segments):
            raise RecordError("duplicate segment id", "two segments have the same id")
        self.annotations[key] = Annotation(path, name, num_bytes, segments)

    def _segment(self, record: Any) -> Segment:
        segment_id = need(record, "id")
        category_id = need(record, "category_id")
        if not is_int(segment_id) or not 1 <= segment_id <= panoptic.MOST:
            raise RecordError(
                "bad segment id",
                f"segment id {segment_id!r} is no whole number from 1 to {panoptic.MOST}",
            )
        if not is_int(category_id) or category_id not in self._index:
            raise RecordError(
                "unknown category",
                f"category_id {category_id!r} of segment {segment_id} is not among the categories",
            )
        index = self._index[category_id]
        own = record if self._is_ours else {}
        source, verdict = read_source_and_verdict(own)
        return Segment(
            id=segment_id,
            object_id=_object_id(own, segment_id),
            category=index,
            layout_box=read_layout_box(own),
            iscrowd=flag(record, "iscrowd", False),
            isthing=flag(own, "isthing", self._categories[index].isthing),
            score=number(own.get("score", 1.0), "score", low=0.0),
            source=source,
            verdict=verdict,
            verdict_score=read_optional(own, "verdict_score"),
            verdict_iou=read_optional(own, "verdict_iou"),
        )


def _object_id(record: Json, segment_id: int) -> int:
    """Return the object's id, whose low 24 bits are the segment; 0 without one."""
    value = record.get("object_id", 0)
    if value == 0:
        return 0
    fits = is_int(value) and 0 < value < 1 << 63
    if not fits or value & panoptic.MOST != segment_id:
        raise RecordError(
            "bad value", f"object_id {value!r} does not end in the 24 bits of segment {segment_id}"
        )
    return int(value)


class PanopticWriter(CocoWriter):
    """Writes `panoptic.json`, `panoptic/` and `images/`, scene by scene."""

    def __init__(self, folder: Folder, categories: tuple[Category, ...]) -> None:
        super().__init__(folder, categories, "panoptic.json")
        self._maps = folder.sub("panoptic")

    def _annotations(self, scene: Scene, image: Mapping[str, Any]) -> list[Json]:
        map_name = f"{Path(image['file_name']).stem}.png"
        self._maps.write_bytes(map_name, _map_bytes(scene), durable=False)
        segments = []
        for position, segment_id in enumerate(panoptic.segment_ids(scene.objects).tolist()):
            ids = (segment_id, image["id"])
            record = annotation_record(scene, position, ids, self._categories)
            for name in ("segmentation", BOX_ONLY):  # the map says it
                record.pop(name, None)
            record.pop("image_id")
            segments.append({"object_id": segment_id} | record)
        return [{"image_id": image["id"], "file_name": map_name, "segments_info": segments}]


def _map_bytes(scene: Scene) -> bytes:
    """Return the PNG of a scene's map; DatasetError when it has other objects."""
    in_map = np.unique(panoptic.map_of(scene))
    of_objects = np.sort(panoptic.segment_ids(scene.objects))
    if not np.array_equal(in_map[in_map > 0], of_objects):
        raise DatasetError(
            f"image {scene.image_id!r}: the ids of its panoptic map are not those of its objects"
        )
    assert scene.panoptic is not None
    if scene.panoptic.data is not None:
        return scene.panoptic.data
    return Path(scene.panoptic.path or "").read_bytes()


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as `panoptic.json`, `panoptic/` and `images/`.

    Every scene must have a panoptic map.
    """
    with PanopticWriter(out, dataset.categories) as writer:
        for scene in dataset:
            writer.add(scene)

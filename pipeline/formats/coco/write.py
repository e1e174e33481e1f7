"""COCO instances, written: one JSON, streamed, and the images beside it.

The file reads back as the same scenes: what COCO has no place for (score, source, verdict,
provenance ...) travels in extra fields that other readers pass over.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Floats32
from synthaug.pipeline.core.box_losses import AGREED_IOU
from synthaug.pipeline.core.boxes import Boxes, Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.coco.labels import BOX_ONLY
from synthaug.pipeline.formats.coco.records import ORIGINAL_NAME, WRITER
from synthaug.pipeline.formats.image_files import JPEG, PNG, encoded_image
from synthaug.pipeline.formats.json_files import short_decimal

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class CocoWriter:
    """Writes a JSON and a folder of images; the JSON appears when the block ends well.

    Memory does not grow with the number of scenes. Image and annotation ids run from 1: evaluators
    silently lose the annotation with id 0.
    """

    def __init__(
        self,
        folder: Folder,
        categories: Sequence[Category],
        name: str = "instances.json",
        images_dir: str = "images",
    ) -> None:
        ids = {category.id for category in categories}
        assert len(ids) == len(categories), "two categories share an id"
        self._folder = folder
        self._name = name
        self._categories = tuple(categories)
        self._images = folder.sub(images_dir)
        self._num_images = 0
        self._num_annotations = 0
        self._taken: set[str] = set()  # names without suffix, in small letters

    def __enter__(self) -> CocoWriter:
        self._images.sweep()
        with ExitStack() as stack:
            self._out = stack.enter_context(self._folder.atomic_output(self._name))
            # annotations come last in the file but are known image by image, so they wait in an
            # unnamed file
            self._spool = stack.enter_context(
                tempfile.TemporaryFile(dir=self._folder.scratch_place())
            )
            head = _json(self._head())
            self._out.write(head.removesuffix(b"}") + b',\n"images": [')
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._out.write(b'\n],\n"annotations": [')
            self._spool.seek(0)
            shutil.copyfileobj(self._spool, self._out, 1 << 20)
            self._out.write(b"\n]")
            tail = self._tail()
            if tail:
                self._out.write(b",\n" + _json(tail)[1:-1])
            self._out.write(b"}\n")

    def add(self, scene: Scene, image_bytes: bytes | None = None, write_image: bool = True) -> str:
        """Append a scene and return its image's file name.

        Without `image_bytes` the image is taken from the scene itself, by content or by path;
        without `write_image` only its record is written.

        Raises DatasetError when there is no image to write, or it is neither PNG nor JPEG and its
        name has no ending.
        """
        data = image_bytes
        if data is None:
            data = encoded_image(scene)
        name = file_name(scene, data, self._taken)
        self._taken.add(name.rsplit(".", 1)[0].casefold())
        if write_image:
            self._images.write_bytes(name, data, durable=False)
        self._add(scene, self._image(scene, self._num_images + 1, name))
        return name

    def refer(self, scene: Scene, image_id: int | str, name: str) -> None:
        """Append a scene whose image stays where it is, under this id and file name."""
        self._add(scene, _image_record(scene, image_id, name))

    def _add(self, scene: Scene, image: Json) -> None:
        self._num_images += 1
        _append(self._out, image, self._num_images)
        for record in self._annotations(scene, image):
            self._num_annotations += 1
            _append(self._spool, record, self._num_annotations)

    # what other formats of this family write otherwise

    def _head(self) -> Json:
        """Return what stands before the images."""
        return {
            "info": {"description": WRITER, "version": "1"},
            "licenses": [],
            "categories": [_category_record(category) for category in self._categories],
        }

    def _tail(self) -> Json:
        """Return what stands after the annotations, known when all scenes were seen."""
        return {}

    def _image(self, scene: Scene, number: int, name: str) -> Json:
        """Return the image record of a scene."""
        record = _image_record(scene, number, name)
        if scene.image_id != str(number):
            record["scene_id"] = scene.image_id
        if is_renamed(scene, name.rsplit(".", 1)[0]):
            record[ORIGINAL_NAME] = scene.image.file_name
        if scene.provenance is not None:
            record["provenance"] = asdict(scene.provenance)
        return record

    def _annotations(self, scene: Scene, image: Mapping[str, Any]) -> list[Json]:
        """Return the annotation records of a scene, given the record of its image."""
        records = []
        for position in range(len(scene.objects)):
            ids = (self._num_annotations + 1 + position, image["id"])
            records.append(annotation_record(scene, position, ids, self._categories))
        return records


def is_renamed(scene: Scene, stem: str) -> bool:
    """Whether an image is written under another name than it had, suffix apart."""
    original = scene.image.file_name
    return bool(original) and original.rsplit(".", 1)[0] != stem


def lost_names(scene: Scene, stem: str) -> Counter[str]:
    """Count what formats lose that know an image by its file's name `stem` alone."""
    lost: Counter[str] = Counter()
    lost["image ids that became the files' names (kept in coco/)"] = scene.image_id != stem
    lost["file names that changed (kept in coco/)"] = is_renamed(scene, stem)
    return +lost


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as `instances.json` and `images/`, without panoptic maps."""
    with CocoWriter(out, dataset.categories) as writer:
        for scene in dataset:
            writer.add(scene)


def _append(file: IO[bytes], record: Json, number: int) -> None:
    """Write record `number` (from 1) of a list."""
    separator = b"\n" if number == 1 else b",\n"
    file.write(separator + _json(record))


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode("ascii")


_SUFFIXES = (  # by the first bytes of a file
    (PNG, ".png"),
    (JPEG, ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
)


def _suffix(scene: Scene, data: bytes) -> str:
    """Return the ending of an image's file; DatasetError where nothing tells it."""
    suffix = Path(scene.image.path or "").suffix
    for start, usual in _SUFFIXES:
        if data.startswith(start):
            suffix = usual
    if not suffix:
        raise DatasetError(f"image of scene {scene.image_id!r} is neither PNG nor JPEG; convert it")
    return suffix


def _stems(scene: Scene) -> list[str]:
    """Return what an image's file may be called, best first."""
    image_id = scene.image_id
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    original = PurePosixPath(scene.image.file_name).stem
    return [original, image_id, image_id.replace("/", "_"), digest]


def file_name(scene: Scene, data: bytes, taken: Collection[str] = ()) -> str:
    """Return a harmless name for an image's file.

    `taken` are names without suffix, in small letters: some disks know no others.
    """
    stems = _stems(scene)
    stem = stems[-1]
    for candidate in stems:
        if _PLAIN_NAME.fullmatch(candidate) and candidate.casefold() not in taken:
            stem = candidate
            break
    return stem + _suffix(scene, data)


# --- records ---


def _category_record(category: Category) -> Json:
    return asdict(category) | {"isthing": int(category.isthing)}


def _image_record(scene: Scene, image_id: int | str, name: str) -> Json:
    return {"id": image_id, "file_name": name, "height": scene.height, "width": scene.width}


def annotation_record(
    scene: Scene, position: int, ids: tuple[int, int | str], categories: tuple[Category, ...]
) -> Json:
    """Return the record of one object under the ids (annotation, image)."""
    objects = scene.objects
    annotation_id, image_id = ids
    category = categories[int(objects.category[position])]
    box, area = _extent(objects, position, scene.size)
    record: Json = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category.id,
        "bbox": _xywh(box),
        "area": area,
        "segmentation": _segmentation(objects, position, box, scene.size),
        "iscrowd": int(objects.iscrowd[position]),
        "layout_bbox": _xywh(objects.layout_boxes[position]),
        "score": short_decimal(objects.score[position]),
        "source": objects.source[position],
    }
    if objects.rle[position] is None and record["segmentation"]:
        record[BOX_ONLY] = 1
    if objects.verdict[position] is not None:
        record["verdict"] = objects.verdict[position]
    for name, values in _verdict_numbers(objects).items():
        if not np.isnan(values[position]):
            record[name] = short_decimal(values[position])
    if not _is_sure_box(objects, position):
        record["box_loss"] = 0
    if bool(objects.isthing[position]) != category.isthing:
        record["isthing"] = int(objects.isthing[position])
    if int(objects.id[position]) != annotation_id:
        record["object_id"] = int(objects.id[position])
    return record


def _is_sure_box(objects: Objects, position: int) -> bool:
    """Return whether a person drew the box of an object, or the judge agrees with it."""
    if objects.source[position] == "synthetic":
        return bool(objects.verdict_iou[position] >= AGREED_IOU)
    return objects.source[position] == "human"


def _verdict_numbers(objects: Objects) -> dict[str, Floats32]:
    """Return the numbers [N] of verdicts by their names in a record.

    NaN without a verdict.
    """
    return {"verdict_score": objects.verdict_score, "verdict_iou": objects.verdict_iou}


def _segmentation(objects: Objects, position: int, box: Boxes, size: Size) -> Json | list[Any]:
    """Return the mask of an object, of its box [4] where it is a crowd without one."""
    counts = objects.rle[position]
    if counts is None and objects.iscrowd[position]:
        counts = box_mask(box, size)  # evaluators of masks stop at a crowd without run lengths
    if counts is None:
        return []
    return {"size": list(size), "counts": counts}


def box_mask(box: Boxes, size: Size) -> str:
    """Return the counts of all pixels that an xyxy box [4] touches in an image (H, W)."""
    x1, y1 = np.floor(box[:2]).astype(int).clip(0)
    x2, y2 = np.ceil(box[2:]).astype(int)
    mask = np.zeros((1, *size), np.bool_)
    mask[0, y1:y2, x1:x2] = True
    return masks.encode(mask)[0]


def _extent(objects: Objects, position: int, size: Size) -> tuple[Floats32, float]:
    """Return the box and area of an object, those of the mask where it is synthetic."""
    rle = objects.rle[position]
    if rle is not None and objects.source[position] == "synthetic":
        area = masks.area(rle)
        if area:
            return masks.tight_box(rle, size), float(area)
    return objects.boxes[position], short_decimal(objects.area[position])


def _xywh(box: Boxes) -> list[float]:
    """Return x, y, width, height whose sums are the same float32 far edge."""
    x1, y1, x2, y2 = (short_decimal(value) for value in box)
    return [x1, y1, _length(x1, x2), _length(y1, y2)]


def _length(start: float, end: float) -> float:
    """Return end - start, to four digits where that leads to the same float32 end."""
    rounded = round(end - start, 4)
    if np.float32(start + rounded) == np.float32(end):
        return rounded
    return end - start

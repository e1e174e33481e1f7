"""LVIS v1 JSON, read: COCO's records, with the classes absent from each image.

Reference: `lvis:lvis_v1_train.json?images=coco`. Which classes were looked for in an image
(`neg_category_ids`, `not_exhaustive_category_ids`) decides LVIS' evaluation and has no place in a
scene: judge with the file itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.formats.archive import located
from synthaug.pipeline.formats.coco import records as coco
from synthaug.pipeline.formats.coco.read import CocoDataset, read_document
from synthaug.pipeline.formats.json_files import is_list, open_object
from synthaug.pipeline.formats.json_stream import Changed, RecordList
from synthaug.pipeline.formats.lvis.write import IGNORED, ORIGINAL, write, write_splits
from synthaug.pipeline.formats.validation import is_int

__all__ = ["Config", "read", "write", "write_splits"]


@dataclass(frozen=True)
class Config(coco.Config):
    """Options of a reference, those of coco; `images` has train2017 and val2017."""


def read(config: Config, root: Path = Path()) -> CocoDataset:
    """Open an LVIS file; ignore regions that our writer left come back as crowds."""
    file = located(root, config.path)
    document, digest = open_object(file)
    return read_document(_as_coco(document), digest, file, config, root)


def _as_coco(document: Json) -> Json:
    """Return an LVIS file in COCO's terms; wrong types are left for the checks."""
    images = document.get("images")
    annotations = document.get("annotations")
    categories = document.get("categories")
    if not is_list(images) or not is_list(annotations) or not is_list(categories):
        return document
    ids: dict[int, int] = {}
    regions: list[Any] = []
    if coco.is_ours(document):
        ids = _original_ids(categories)
        regions = _ignored_regions(images)
    return document | {
        "images": Changed(images, _image),
        "annotations": Changed(annotations, partial(_annotation, ids=ids), regions),
        "categories": Changed(categories, partial(_category, ids=ids)),
    }


def _ignored_regions(images: RecordList) -> list[Any]:
    regions = []
    for image in images:
        listed = image.get(IGNORED) if isinstance(image, dict) else None
        if isinstance(listed, list):
            regions += listed
    return regions


def _original_ids(categories: RecordList) -> dict[int, int]:
    """Return the original id of each id where every class has one, else nothing."""
    original: dict[int, int] = {}
    for record in categories:
        if not isinstance(record, dict):
            return {}
        key = record.get("id")
        before = record.get(ORIGINAL)
        if not is_int(key) or not is_int(before):
            return {}
        original[key] = before
    if len(original) < len(categories) or len(set(original.values())) < len(categories):
        return {}
    return original


def _image(record: Any) -> Any:
    """Return an image record with a file name, the last two parts of coco_url."""
    if not isinstance(record, dict) or "file_name" in record:
        return record
    url = record.get("coco_url")
    if not isinstance(url, str):
        return record
    return record | {"file_name": "/".join(url.split("/")[-2:])}


def _annotation(record: Any, ids: dict[int, int]) -> Any:
    if not isinstance(record, dict):
        return record
    key = record.get("category_id")
    if not is_int(key) or key not in ids:
        return record
    return record | {"category_id": ids[key]}


def _category(record: Any, ids: dict[int, int]) -> Any:
    if not ids:
        return record
    return record | {"id": ids[record["id"]]}

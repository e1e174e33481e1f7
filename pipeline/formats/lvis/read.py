"""LVIS v1 JSON, read and written: COCO's records without crowds, with what is known to be absent from each image.

Reference: `lvis:lvis_v1_train.json?images=coco`. Which classes were looked for in an image (`neg_category_ids`,
`not_exhaustive_category_ids`) decides LVIS' evaluation and has no place in a scene: judge with the file itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthaug.pipeline.formats.coco import read as coco
from synthaug.pipeline.formats.json_files import load_object
from synthaug.pipeline.formats.lvis.write import IGNORED, ORIGINAL, write, write_splits
from synthaug.pipeline.formats.validation import is_int

__all__ = ["Config", "read", "write", "write_splits"]


@dataclass(frozen=True)
class Config(coco.Config):
    """Options of an LVIS reference, those of coco; `path` is the JSON file, `images` the folder of train2017, val2017."""


def read(config: Config, root: Path = Path()) -> coco.CocoDataset:
    """Open an LVIS file and check every record; ignore regions that we wrote come back as crowds."""
    file = root / config.path
    document, digest = load_object(file)
    return coco.read_document(_as_coco(document), digest, file, config, root)


def _as_coco(document: dict[str, Any]) -> dict[str, Any]:
    """Return the content of an LVIS file in COCO's terms; what is no list or no object is left for the checks."""
    images, annotations, categories = (
        document.get(key) for key in ("images", "annotations", "categories")
    )
    if not (
        isinstance(images, list) and isinstance(annotations, list) and isinstance(categories, list)
    ):
        return document
    ids = _original_ids(categories)
    ignored = [
        r for image in images if isinstance(image, dict) for r in _records(image.get(IGNORED))
    ]
    return document | {
        "images": [_image(record) for record in images],
        "annotations": [_annotation(record, ids) for record in (*annotations, *ignored)],
        "categories": [r | {"id": ids[r["id"]]} if ids else r for r in categories],
    }


def _records(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _original_ids(categories: list[Any]) -> dict[int, int]:
    """Return id in the file -> id it had before, where every class has one; else nothing."""
    pairs: list[Any] = [(r.get("id"), r.get(ORIGINAL)) for r in categories if isinstance(r, dict)]
    good = len(pairs) == len(categories) and all(is_int(a) and is_int(b) for a, b in pairs)
    return (
        dict(pairs)
        if good and len({b for _, b in pairs}) == len({a for a, _ in pairs}) == len(pairs)
        else {}
    )


def _image(record: Any) -> Any:
    """Return an image record with a file name: LVIS v1 says it as the end of coco_url, split folder and name."""
    if (
        not isinstance(record, dict)
        or "file_name" in record
        or not isinstance(record.get("coco_url"), str)
    ):
        return record
    return record | {"file_name": "/".join(record["coco_url"].split("/")[-2:])}


def _annotation(record: Any, ids: dict[int, int]) -> Any:
    if not isinstance(record, dict):
        return record
    known = is_int(record.get("category_id")) and record["category_id"] in ids
    return record | ({"category_id": ids[record["category_id"]]} if known else {})

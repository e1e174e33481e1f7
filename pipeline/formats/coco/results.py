"""Detections as COCO results: the flat list that pycocotools' `loadRes` takes.

Image and category ids are those of the user's own annotation file, so that truth kept elsewhere can
judge them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.json_files import short_decimal

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction

_NUMBER = re.compile(r"0|-?[1-9][0-9]*")


def original_id(image_id: str) -> int | str:
    """Return the id as the user's file has it: there whole numbers, here texts.

    Only what a whole number turns into is turned back: `007` and `cat-7` are texts there too.
    """
    if _NUMBER.fullmatch(image_id):
        return int(image_id)
    return image_id


def results(scene: Scene, prediction: Prediction, categories: Sequence[Category]) -> list[Json]:
    """Return a record per detection of one image, with masks where there are any."""
    counts = label_masks(scene, prediction)
    boxes = prediction.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    xywh = boxes.astype(np.float64).round(4).tolist()
    records = []
    for k, label in enumerate(prediction.labels.tolist()):
        record: Json = {
            "image_id": original_id(scene.image_id),
            "category_id": categories[label].id,
            "bbox": xywh[k],
            "score": short_decimal(prediction.scores[k]),
        }
        if counts[k] is not None:
            record["segmentation"] = {"size": list(scene.size), "counts": counts[k]}
        records.append(record)
    return records


def label_masks(scene: Scene, prediction: Prediction) -> Sequence[str | None]:
    """Return the run lengths of each detection's mask; None without mask head."""
    if prediction.masks is None:
        return [None] * len(prediction.labels)
    return masks.paste(prediction.masks, prediction.boxes, scene.size)


# --- a long list, written in parts ---


@contextmanager
def spool(folder: Folder, name: str) -> Iterator[gzip.GzipFile]:
    """Open a file of gzipped lines for `add`; the same records give the same bytes."""
    with folder.atomic_output(name) as out, gzip.GzipFile("", "wb", 1, out, mtime=0) as packed:
        yield packed


def add(spooled: gzip.GzipFile, records: Iterable[Json]) -> None:
    """Append records to an open spool, one line each."""
    for record in records:
        spooled.write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")


def join(spools: Folder, names: Sequence[str], out: Folder, name: str) -> int:
    """Write the records of some spools as one JSON list; return their number."""
    total = 0
    with out.atomic_output(name) as file:
        file.write(b"[")
        for spooled in names:
            with spools.open_input(spooled) as packed, gzip.GzipFile(fileobj=packed) as lines:
                for line in lines:
                    separator = b",\n" if total else b"\n"
                    file.write(separator + line.rstrip(b"\n"))
                    total += 1
        file.write(b"\n]\n")
    return total

"""Ultralytics YOLO folders, written, for detection and for segmentation.

The format has no ids, scores and sources, and no regions to be ignored. Ignore regions are left out
of the labels and counted; they, and all else that the labels cannot hold, stand in a COCO file
beside them, `coco/<split>.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import yaml

from synthaug.pipeline.core import mask_outlines as outlines
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.boxes import Boxes, Size
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import image_files
from synthaug.pipeline.formats.coco.write import CocoWriter, lost_names
from synthaug.pipeline.formats.validation import is_text

SPLITS = ("train", "val", "test")
EXTRA = "synthaug_classes"  # key of data.yaml that other readers pass over
_DIGITS = 10  # after the point: 1e-6 pixels of an image of 10000


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as the split `train`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets as the splits of one folder; return what is lost, by reason.

    All have the same classes.

    Lines are polygons when every object to be learnt has a mask, else boxes: Ultralytics drops all
    polygons of a set in which one object has none. Raises DatasetError for a class name that is no
    text.
    """
    categories = next(iter(splits.values())).categories
    for category in categories:
        if not is_text(category.name):
            raise DatasetError(
                f"class {category.id}: its name {category.name!r} is not Unicode text; rename it"
            )
    polygons = all(_all_masked(table) for table in splits.values())
    lost: Counter[str] = Counter()
    for split, table in splits.items():
        out.sub("images").sub(split).create()
        labels = out.sub("labels").sub(split)
        with CocoWriter(out, categories, f"coco/{split}.json", f"images/{split}") as writer:
            for scene in table:
                data, _ = image_files.encoded(scene)
                name = writer.add(scene, data).rsplit(".", 1)[0]
                lost += lost_names(scene, name)
                text = label_text(scene, polygons)
                labels.write_bytes(f"{name}.txt", text.encode(), durable=False)
                lost += _lost(scene, polygons)
    out.write_bytes("data.yaml", data_yaml(categories, list(splits)).encode())
    return lost


def data_yaml(categories: tuple[Category, ...], splits: list[str]) -> str:
    """Return the file that names the classes and where the images of each split are.

    There is no `path`: its folder is then that of the file, while a relative one would start at
    Ultralytics' own folder.
    """
    document: Json = {split: f"images/{split}" for split in splits}
    document["names"] = {index: category.name for index, category in enumerate(categories)}
    document[EXTRA] = [asdict(category) for category in categories]
    return yaml.safe_dump(document, sort_keys=False, width=120)


def label_text(scene: Scene, polygons: bool) -> str:
    """Return the label file of a scene: a line per object that is no ignore region."""
    lines = []
    objects = scene.objects
    for i in np.flatnonzero(~objects.iscrowd):
        rle = objects.rle[i]
        values = _cxcywh(objects.boxes[i], scene.size)
        if polygons and rle is not None:
            values = _polygon(rle, scene.size)
        numbers = " ".join(_decimal(value) for value in values)
        lines.append(f"{objects.category[i]} {numbers}\n")
    return "".join(lines)


def _polygon(rle: str, size: Size) -> list[float]:
    """Return the outline of a mask as x, y, ... in parts of the image (H, W)."""
    height, width = size
    points = outlines.polygon(masks.decode(rle, size)) / (width, height)  # [K, 2]
    values: list[float] = points.ravel().tolist()
    return values


def _cxcywh(box: Boxes, size: Size) -> list[float]:
    """Return center, width and height of an xyxy box [4] in parts of the image (H, W)."""
    height, width = size
    corners = box.astype(np.float64)
    clipped = corners.clip(0, (width, height, width, height))
    x1, y1, x2, y2 = clipped.tolist()
    return [
        (x1 + x2) / 2 / width,
        (y1 + y2) / 2 / height,
        (x2 - x1) / width,
        (y2 - y1) / height,
    ]


def _decimal(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")


def _all_masked(table: Dataset) -> bool:
    """Whether every object to be learnt has a mask with a pixel."""
    for scene in table:
        learnt = scene.objects.without_crowds()
        for rle in learnt.rle:
            if rle is None or not masks.area(rle):
                return False
    return True


def _lost(scene: Scene, polygons: bool) -> Counter[str]:
    """Count what the labels of a scene do not hold."""
    objects = scene.objects
    lost: Counter[str] = Counter()
    lost["ignore regions, left out of the labels (kept in coco/)"] = int(objects.iscrowd.sum())
    if not polygons:
        learnt = objects.without_crowds()
        reason = "masks, written as boxes because not every object has one (kept in coco/)"
        lost[reason] = sum(rle is not None for rle in learnt.rle)
    return lost

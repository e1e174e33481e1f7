"""Ultralytics YOLO folders, written, for detection and, where every object has a mask, for segmentation.

The format has no ids, scores and sources, and no regions to be ignored. Ignore regions are left out of the labels and
counted; they, and all else that the labels cannot hold, stand in a COCO file beside them, `coco/<split>.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml

from synthaug.pipeline.core import mask_outlines as outlines
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import image_files as pictures
from synthaug.pipeline.formats.coco.write import CocoWriter
from synthaug.pipeline.formats.validation import is_text

SPLITS = ("train", "val", "test")
EXTRA = "synthaug_classes"  # key of data.yaml that other readers pass over
_DIGITS = 10  # after the point: 1e-6 pixels of an image of 10000


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as the split `train`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets of the same classes as the splits of one folder; return what the labels do not hold, by reason.

    Lines are polygons when every object to be learnt has a mask, else boxes: Ultralytics drops all polygons of a set in which
    one object has none. Raises DatasetError for a class name that is no text.
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
            for index in range(len(table)):
                scene = table[index]
                name = writer.add(scene, pictures.encoded(scene)[0])
                text = label_text(scene, polygons)
                labels.write_bytes(f"{name.rsplit('.', 1)[0]}.txt", text.encode(), durable=False)
                lost += _lost(scene, polygons)
    out.write_bytes("data.yaml", data_yaml(categories, list(splits)).encode())
    return lost


def data_yaml(categories: tuple[Category, ...], splits: list[str]) -> str:
    """Return the file that names the classes and where the images of each split are.

    There is no `path`: its folder is then that of the file, while a relative one would start at Ultralytics' own folder.
    """
    document: dict[str, Any] = {split: f"images/{split}" for split in splits}
    document["names"] = {index: category.name for index, category in enumerate(categories)}
    document[EXTRA] = [asdict(category) for category in categories]
    return yaml.safe_dump(document, sort_keys=False, width=120)


def label_text(scene: Scene, polygons: bool) -> str:
    """Return the label file of a scene: a line per object that is no ignore region."""
    H, W = scene.height, scene.width
    rows, objects = [], scene.objects
    for i in np.flatnonzero(~objects.iscrowd):
        rle = objects.rle[i]
        if polygons and rle is not None:
            values = outlines.polygon(masks.decode(rle, (H, W))) / (W, H)
        else:
            x1, y1, x2, y2 = objects.boxes[i].astype(np.float64).clip(0, (W, H, W, H))
            values = np.array([(x1 + x2) / 2 / W, (y1 + y2) / 2 / H, (x2 - x1) / W, (y2 - y1) / H])
        numbers = (f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") for value in values.ravel())
        rows.append(f"{objects.category[i]} {' '.join(numbers)}\n")
    return "".join(rows)


def _all_masked(table: Dataset) -> bool:
    """Whether every object to be learnt has a mask with a pixel."""
    for index in range(len(table)):
        objects = table[index].objects
        for i in np.flatnonzero(~objects.iscrowd):
            rle = objects.rle[i]
            if rle is None or not masks.area(rle):
                return False
    return True


def _lost(scene: Scene, polygons: bool) -> Counter[str]:
    objects = scene.objects
    masked = sum(
        rle is not None
        for rle, crowd in zip(objects.rle, objects.iscrowd, strict=True)
        if not crowd
    )
    return Counter(
        {
            "ignore regions, left out of the labels (kept in coco/)": int(objects.iscrowd.sum()),
            "masks, written as boxes because not every object has one (kept in coco/)": 0
            if polygons
            else masked,
        }
    )

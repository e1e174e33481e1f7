"""LVIS v1 JSON, written: `lvis_<split>.json` and `images/<split>/`.

What its readers insist on: class ids 1, 2, 3 ... without gaps (detectron2 counts from them),
polygons and never run lengths, at least one per object, and `coco_url` whose last two parts are
folder and name. Ours are relative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from synthaug.pipeline.core import mask_outlines as outlines
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import image_files
from synthaug.pipeline.formats.coco.labels import BOX_ONLY
from synthaug.pipeline.formats.coco.records import WRITER
from synthaug.pipeline.formats.coco.write import CocoWriter, annotation_record
from synthaug.pipeline.formats.json_files import short_decimal

# fields that other readers pass over
IGNORED = "ignore_regions"  # of an image: annotations of its crowds
ORIGINAL = "original_id"  # of a class: its id before it was numbered from 1
RARE, COMMON = 10, 100  # images with the class, at most (LVIS, section 3.2)


class LvisWriter(CocoWriter):
    """Writes one split, scene by scene; classes come last, because their counts do."""

    def __init__(
        self,
        folder: Folder,
        categories: tuple[Category, ...],
        split: str,
        training_count: Ints | None = None,
    ) -> None:
        """Take training images per class [C], which say what is rare.

        By default those of the split itself.
        """
        super().__init__(folder, categories, f"lvis_{split}.json", f"images/{split}")
        self._split = split
        self._ids = list(range(1, len(categories) + 1))
        self._training_count = training_count
        self.image_count = np.zeros(len(categories), np.int64)
        self.instance_count = np.zeros(len(categories), np.int64)
        # of images in which a person labelled the class
        self.human_count = np.zeros(len(categories), np.int64)
        self.lost: Counter[str] = Counter()

    def __enter__(self) -> LvisWriter:
        super().__enter__()
        return self

    def training_count(self) -> Ints:
        """Return the images per class [C] that decide what is rare.

        Those labelled by people, where there are any.

        Were synthetic images counted, the classes they are made for would be rare no longer, and
        AP_r of others.
        """
        if self.human_count.any():
            return self.human_count
        return self.image_count

    def _head(self) -> Json:
        return {"info": {"description": WRITER, "version": "1"}, "licenses": []}

    def _tail(self) -> Json:
        counts = self._training_count
        if counts is None:
            counts = self.training_count()
        records = []
        for k, category in enumerate(self._categories):
            record = {
                "id": self._ids[k],
                "name": category.name,
                "synonyms": [category.name],
                "supercategory": category.supercategory,
                "isthing": int(category.isthing),
                "frequency": frequency(int(counts[k])),
                "image_count": int(self.image_count[k]),
                "instance_count": int(self.instance_count[k]),
                ORIGINAL: category.id,
            }
            records.append(record)
        return {"categories": records}

    def _image(self, scene: Scene, number: int, name: str) -> Json:
        record = super()._image(scene, number, f"{self._split}/{name}")
        absent, unsure = self._absent_and_unsure(scene)
        record["coco_url"] = f"images/{record['file_name']}"
        record["neg_category_ids"] = [self._ids[k] for k in sorted(absent)]
        record["not_exhaustive_category_ids"] = [self._ids[k] for k in sorted(unsure)]
        crowds = []
        for i in np.flatnonzero(scene.objects.iscrowd).tolist():
            ids = (int(scene.objects.id[i]), number)
            crowds.append(self._record(scene, i, ids))
        if crowds:
            record[IGNORED] = crowds
        reason = (
            "ignore regions, kept with the images; their classes count as not exhaustively labelled"
        )
        self.lost[reason] += len(crowds)
        return record

    def _absent_and_unsure(self, scene: Scene) -> tuple[set[int], set[int]]:
        """Return the indices of classes that are absent, and of those not exhaustive."""
        objects = scene.objects
        present = set(objects.category[~objects.iscrowd].tolist())
        unsure = set(objects.category[objects.iscrowd].tolist())
        if "pseudo" in objects.source:  # a detector's labels do not say that nothing else is there
            return set(), unsure | present
        every = set(range(len(self._categories)))
        return every - present - unsure, unsure

    def _annotations(self, scene: Scene, image: Mapping[str, Any]) -> list[Json]:
        self._count(scene)
        records: list[Json] = []
        for i in np.flatnonzero(~scene.objects.iscrowd).tolist():
            ids = (self._num_annotations + 1 + len(records), image["id"])
            record = self._record(scene, i, ids)
            del record["iscrowd"]
            records.append(record | self._polygon(scene, i))
        return records

    def _count(self, scene: Scene) -> None:
        """Count the objects of a scene, and the image for each class it shows."""
        objects = scene.objects.without_crowds()
        for label in objects.category.tolist():
            self.instance_count[label] += 1
        classes = set(objects.category.tolist())
        pairs = zip(objects.category.tolist(), objects.source, strict=True)
        by_people = {label for label, source in pairs if source == "human"}
        self.image_count[list(classes)] += 1
        self.human_count[list(by_people)] += 1

    def _record(self, scene: Scene, position: int, ids: tuple[int, int]) -> Json:
        record = annotation_record(scene, position, ids, self._categories)
        record["category_id"] = self._ids[int(scene.objects.category[position])]
        return record

    def _polygon(self, scene: Scene, position: int) -> Json:
        """Return the segmentation of an object: the outline of its mask, or its box."""
        rle = scene.objects.rle[position]
        if rle is not None and masks.area(rle):
            outline = outlines.polygon(masks.decode(rle, scene.size))  # [K, 2]
            return {"segmentation": [outline.ravel().tolist()]}
        self.lost["objects without a mask, written with their box as polygon"] += 1
        x1, y1, x2, y2 = (short_decimal(value) for value in scene.objects.boxes[position])
        return {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]], BOX_ONLY: 1}


def frequency(num_images: int) -> str:
    """Return LVIS' letter for a class: rare, common or frequent in training images."""
    if num_images <= RARE:
        return "r"
    if num_images <= COMMON:
        return "c"
    return "f"


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as `lvis_train.json`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets as the splits of one folder; return what was changed, by reason.

    All have the same classes.

    Rare, common and frequent classes are told by the images of `train` where there is such a split,
    else by each split's own; by those that people labelled, where there are any.
    """
    lost: Counter[str] = Counter()
    training_count = None
    for split, table in splits.items():
        with LvisWriter(out, table.categories, split, training_count) as writer:
            for scene in table:
                data, _ = image_files.encoded(scene)
                writer.add(scene, data)
        if split == "train":
            training_count = writer.training_count()
        lost += writer.lost
    return lost

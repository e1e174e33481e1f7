"""LVIS v1 JSON, written: `lvis_<split>.json` and `images/<split>/`.

What its readers insist on: class ids 1, 2, 3 ... without gaps (detectron2 counts from them), polygons and never run
lengths, at least one per object, and `coco_url` whose last two parts are folder and name. Ours are relative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core import mask_outlines as outlines
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, Dataset, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats import image_files as pictures
from synthaug.pipeline.formats.coco.records import BOX_ONLY
from synthaug.pipeline.formats.coco.write import CocoWriter, annotation_record
from synthaug.pipeline.formats.json_files import short_decimal

# fields that other readers pass over
IGNORED = "ignore_regions"  # of an image: annotations of its crowds
ORIGINAL = "original_id"  # of a class: its id before it was numbered from 1
RARE, COMMON = 10, 100  # images with the class, at most (LVIS, section 3.2)


class LvisWriter(CocoWriter):
    """Writes one split, scene by scene; classes come last in the file, because their counts do."""

    def __init__(self, folder: Folder, categories: tuple[Category, ...], split: str) -> None:
        super().__init__(folder, categories, f"lvis_{split}.json", f"images/{split}")
        self._split = split
        plain = [category.id for category in categories] == list(range(1, len(categories) + 1))
        self._ids = [category.id if plain else k for k, category in enumerate(categories, start=1)]
        self.image_count = np.zeros(len(categories), np.int64)
        self.instance_count = np.zeros(len(categories), np.int64)
        self.human_count = np.zeros(
            len(categories), np.int64
        )  # of images in which a person labelled the class
        self.frequency_from: NDArray[np.int64] | None = (
            None  # of the training images; None = of these
        )
        self.lost: Counter[str] = Counter()

    def __enter__(self) -> LvisWriter:
        super().__enter__()
        return self

    def _head(self) -> dict[str, Any]:
        return {"info": {"description": "written by synthaug", "version": "1"}, "licenses": []}

    def _tail(self) -> dict[str, Any]:
        records = []
        counts = self.training_count() if self.frequency_from is None else self.frequency_from
        for k, category in enumerate(self._categories):
            training = int(counts[k])
            record = {
                "id": self._ids[k],
                "name": category.name,
                "synonyms": [category.name],
                "supercategory": category.supercategory,
                "isthing": int(category.isthing),
                "frequency": "r" if training <= RARE else "c" if training <= COMMON else "f",
                "image_count": int(self.image_count[k]),
                "instance_count": int(self.instance_count[k]),
                ORIGINAL: category.id,
            }
            records.append(record)
        return {"categories": records}

    def training_count(self) -> NDArray[np.int64]:
        """Images per class that say whether it is rare: those labelled by people, where there are any.

        Were synthetic images counted, the classes they are made for would be rare no longer, and AP_r of others.
        """
        return self.human_count if self.human_count.any() else self.image_count

    def _image(self, scene: Scene, number: int, name: str) -> dict[str, Any]:
        record = super()._image(scene, number, f"{self._split}/{name}")
        objects = scene.objects
        crowds = [
            self._record(scene, i, (int(objects.id[i]), number))
            for i in np.flatnonzero(objects.iscrowd).tolist()
        ]
        present = {int(k) for k in objects.category[~objects.iscrowd]}
        unsure = {int(k) for k in objects.category[objects.iscrowd]}
        checked = (
            "pseudo" not in objects.source
        )  # a detector's labels do not say that nothing else is there
        absent = set(range(len(self._categories))) - present - unsure if checked else set()
        unsure |= set() if checked else present
        extra = {
            "coco_url": f"images/{record['file_name']}",
            "neg_category_ids": [self._ids[k] for k in sorted(absent)],
            "not_exhaustive_category_ids": [self._ids[k] for k in sorted(unsure)],
        }
        self.lost[
            "ignore regions, kept with the images; their classes count as not exhaustively labelled"
        ] += len(crowds)
        return record | extra | ({IGNORED: crowds} if crowds else {})

    def _annotations(self, scene: Scene, image: Mapping[str, Any]) -> list[dict[str, Any]]:
        kept = np.flatnonzero(~scene.objects.iscrowd)
        labels = scene.objects.category[kept]
        self.instance_count += np.bincount(labels, minlength=len(self._categories))
        self.image_count[np.unique(labels)] += 1
        by_people = np.array([source == "human" for source in scene.objects.source], bool)
        self.human_count[np.unique(scene.objects.category[by_people & ~scene.objects.iscrowd])] += 1
        records: list[dict[str, Any]] = []
        for i in kept.tolist():
            record = self._record(scene, i, (self._num_annotations + 1 + len(records), image["id"]))
            del record["iscrowd"]
            records.append(record | self._polygon(scene, i))
        return records

    def _record(self, scene: Scene, position: int, ids: tuple[int, int]) -> dict[str, Any]:
        record = annotation_record(scene, position, ids, self._categories)
        return record | {"category_id": self._ids[int(scene.objects.category[position])]}

    def _polygon(self, scene: Scene, position: int) -> dict[str, Any]:
        rle = scene.objects.rle[position]
        if rle is not None and masks.area(rle):
            ring = outlines.polygon(masks.decode(rle, (scene.height, scene.width)))
            return {"segmentation": [ring.ravel().tolist()]}
        self.lost["objects without a mask, written with their box as polygon"] += 1
        x1, y1, x2, y2 = (short_decimal(value) for value in scene.objects.boxes[position])
        return {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]], BOX_ONLY: 1}


def write(dataset: Dataset, out: Folder) -> None:
    """Write a data set as `lvis_train.json`."""
    write_splits({"train": dataset}, out)


def write_splits(splits: Mapping[str, Dataset], out: Folder) -> Counter[str]:
    """Write data sets of the same classes as the splits of one folder; return what LVIS has another form for, by reason.

    Rare, common and frequent classes are told by the images of `train` where there is such a split, else by each split's own;
    by those that people labelled, where there are any.
    """
    lost: Counter[str] = Counter()
    training = None
    for split, table in splits.items():
        with LvisWriter(out, table.categories, split) as writer:
            if training is not None:
                writer.frequency_from = training
            for index in range(len(table)):
                scene = table[index]
                writer.add(scene, pictures.encoded(scene)[0])
        training = writer.training_count() if split == "train" else training
        lost += writer.lost
    return lost

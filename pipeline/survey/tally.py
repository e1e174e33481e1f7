"""Sums over the images of one data set; they grow by a few bytes per image."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.skipped import Skipped
from synthaug.pipeline.survey.look import ImageFacts, examine, image_name
from synthaug.pipeline.survey.workers import look_at_all

LABEL_LESS = "no object"  # an oddity of images

Marks = NDArray[np.uint64]  # [N], one per readable image


@dataclass
class Tally:
    """What a data set holds, counted."""

    reference: str
    table: Dataset
    skipped: Skipped  # by the reader, and images that cannot be read
    images: int = 0
    num_bytes: int = 0
    sizes: Counter[Size] = field(default_factory=Counter)  # (H, W)
    kinds: Counter[str] = field(default_factory=Counter)  # "JPEG RGB"
    objects: Counter[int] = field(default_factory=Counter)  # by class
    images_of: Counter[int] = field(default_factory=Counter)  # images that show a class
    per_image: Counter[int] = field(default_factory=Counter)  # numbers of objects
    sides: Counter[int] = field(default_factory=Counter)  # shorter sides of objects, whole pixels
    crowds: int = 0
    masks: int = 0
    smallest: tuple[float, str] = (np.inf, "")
    oddities: Skipped = field(default_factory=Skipped)  # by kind
    index: array[int] = field(default_factory=lambda: array("Q"))  # [N] of each readable image
    marks: dict[str, array[int]] = field(default_factory=dict)  # file | pixels | labels -> [N]

    def __post_init__(self) -> None:
        self.marks = {name: array("Q") for name in ("file", "pixels", "labels")}

    def add(self, facts: ImageFacts) -> None:
        """Count one image."""
        self.images += 1
        self.num_bytes += facts.num_bytes
        self.sizes[facts.size] += 1
        self.kinds[facts.kind] += 1
        self.objects.update(facts.classes)
        self.images_of.update(facts.classes.keys())
        self.per_image[sum(facts.classes.values())] += 1
        self.sides.update(facts.sides)
        self.crowds += facts.crowds
        self.masks += facts.masks
        self.smallest = min(self.smallest, facts.smallest)
        for kind, name in facts.oddities:
            self.oddities.note(kind, name)
        self.index.append(facts.index)
        self.marks["file"].append(facts.file_mark)
        self.marks["pixels"].append(facts.pixel_mark)
        self.marks["labels"].append(facts.label_mark)
        if not facts.classes:
            self.oddities.note(LABEL_LESS, str(facts.index))

    @property
    def num_objects(self) -> int:
        """The number of objects of all classes, crowds among them."""
        return self.objects.total()

    def mark(self, name: str) -> Marks:
        """Return the marks [N] of that name."""
        return np.array(self.marks[name], np.uint64)

    def name_of(self, place: int) -> str:
        """Return the name of the image at a place among the readable ones."""
        return image_name(self.table[self.index[place]])


def tally(
    reference: str, table: Dataset, workers: int, progress: Callable[[int, int, str], None]
) -> Tally:
    """Look at every image of a data set; raises what reading it raises."""
    sums = Tally(reference, table, Skipped(table.skipped))
    done = 0
    for facts, skipped in look_at_all(table, workers, examine):
        for image in facts:
            sums.add(image)
        sums.skipped.take(skipped)
        done += len(facts) + sum(skipped.wrong.values())
        progress(min(done, len(table)), len(table), "images")
    return sums


def quantile(counts: Counter[int], share: float) -> int:
    """Return the smallest value at or below which `share` of what is counted lies."""
    wanted = share * counts.total()
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= wanted:
            return value
    return 0


def mean(counts: Counter[int]) -> float:
    """Return the mean of what is counted."""
    total = sum(value * count for value, count in counts.items())
    return total / max(counts.total(), 1)

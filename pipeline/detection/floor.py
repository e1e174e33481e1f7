"""AP50 without looking: the floor that a detector must leave behind.

Two predictors look at no image. The constant one gives every image one list of boxes, the best that
a greedy choice finds among the labelled ones: each next box is the one that meets (IoU 0.5, as a
share of the image) an object in as many labelled images as it can where no earlier box of the class
did; its score is the share of these images. The shuffled one gives an image the detector's own
detections in another one, stretched to its size.

With AP50 `a` of the detector and `f` of the better of the two, on the same validation images, the
detector has learnt where

    (a - f) - 1.96 s >= MARGIN,

s the standard deviation of a - f over bootstrap resamples of the images, the same for both.

Legend: N labelled objects, K candidates, C classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthaug.pipeline.core.arrays import Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes, absolute_boxes, relative_boxes, scale_boxes
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.scene import Category, Dataset
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.detection.evaluation import evaluated_classes
from synthaug.pipeline.scores.detection.bootstrap import bootstrap_ap
from synthaug.pipeline.scores.detection.evaluator import (
    DetectionEvaluator,
    DetectionRow,
    overlaps,
)

MARGIN = 0.05  # AP50 above the floor
IOU = 0.5
CANDIDATES = 300  # boxes of a class, evenly spaced among the labelled ones
OBJECTS = 3000  # labelled objects of a class that candidates are compared with
LONGEST = 50  # boxes of a class in the constant list
RESAMPLES = 100
STRETCH = 1.96  # standard deviations: the 95 % interval


@dataclass(frozen=True)
class ConstantList:
    """Detections that are the same for every image, in shares of it, best first."""

    boxes: Boxes  # [K, 4] xyxy in [0, 1]
    labels: Ints  # [K]
    scores: Floats32  # [K]

    def on(self, row: DetectionRow) -> DetectionRow:
        """Return the row of an image with these detections."""
        boxes = absolute_boxes(self.boxes, (row.height, row.width))
        return replace(row, pred_boxes=boxes, pred_labels=self.labels, pred_scores=self.scores)


def constant_list(table: Dataset, classes: Sequence[int]) -> ConstantList:
    """Return the constant list of some classes, learnt from labelled images.

    No pixels are read.
    """
    boxes: dict[int, list[Boxes]] = {label: [] for label in classes}
    images: dict[int, list[Ints]] = {label: [] for label in classes}
    for index, scene in enumerate(table):
        objects = scene.objects.without_crowds()
        shares = relative_boxes(objects.boxes, scene.size)
        for label in np.intersect1d(objects.category, classes).tolist():
            own = shares[objects.category == label]
            boxes[label].append(own)
            numbers = np.full(len(own), index, np.int64)
            images[label].append(numbers)
    found = [np.zeros((0, 4), np.float32)]
    labels = []
    scores = []
    for label in classes:
        if not boxes[label]:
            continue
        own_boxes = np.concatenate(boxes[label])
        own_images = np.concatenate(images[label])
        chosen, hits = _greedy(own_boxes, own_images)
        found.append(chosen)
        labels += [label] * len(chosen)
        scores += [number / len(table) for number in hits]
    order = np.argsort(-np.array(scores), kind="stable")
    return ConstantList(
        np.concatenate(found)[order],
        np.array(labels, np.int64)[order],
        np.array(scores, np.float32)[order],
    )


def _greedy(boxes: Boxes, images: Ints) -> tuple[Boxes, list[int]]:
    """Return boxes [K, 4] in the order of choice, and a count [K] for each.

    The count: in how many images the box meets an object that no earlier one met.
    """
    kept = _evenly(len(boxes), OBJECTS)
    boxes = boxes[kept]
    images = images[kept]
    candidates = boxes[_evenly(len(boxes), CANDIDATES)]
    no_crowd = np.zeros(len(boxes), bool)
    meets = overlaps(candidates, boxes, no_crowd) >= IOU  # [K, N]
    chosen: list[int] = []
    hits: list[int] = []
    while len(chosen) < LONGEST:
        gains = [len(np.unique(images[met])) for met in meets]
        best = int(np.argmax(gains))
        if not gains[best]:
            break
        chosen.append(best)
        hits.append(gains[best])
        meets &= ~_first_per_image(meets[best], images)
    return candidates[chosen], hits


def _first_per_image(met: Flags, images: Ints) -> Flags:
    """Return the objects [N] that one box takes.

    Of those it meets, the first of each image.
    """
    taken = np.zeros(len(met), bool)
    positions = np.flatnonzero(met)
    _, first = np.unique(images[positions], return_index=True)
    taken[positions[first]] = True
    return taken


def _evenly(count: int, most: int) -> Ints:
    """Return at most `most` indices of `count`, evenly spaced."""
    size = min(count, most)
    return np.arange(size) * count // max(1, size)


def shuffled(rows: Sequence[DetectionRow]) -> list[DetectionRow]:
    """Return each row with the detections of another, stretched to its image.

    The other one is half the list away.
    """
    count = len(rows)
    others = [rows[(position + count // 2) % count] for position in range(count)]
    pairs = zip(rows, others, strict=True)
    return [with_detections_of(row, other) for row, other in pairs]


def with_detections_of(row: DetectionRow, other: DetectionRow) -> DetectionRow:
    """Return the row with the detections of another image, stretched to its size."""
    old = (other.height, other.width)
    new = (row.height, row.width)
    boxes = scale_boxes(other.pred_boxes, old, new)
    return replace(
        row, pred_boxes=boxes, pred_labels=other.pred_labels, pred_scores=other.pred_scores
    )


def compare_with_floor(
    rows: Sequence[DetectionRow], labelled: Dataset, categories: Sequence[Category], seed: int
) -> Json:
    """Return AP50 of the detector and of both predictors that look at nothing.

    And the gain, with its interval. All are None where the images have no object to find;
    `shuffled` is None with one image. `classes` has the detector's AP, AP50 and objects to find
    ("gt") by class name.
    """
    classes = evaluated_classes(categories)
    constant = constant_list(labelled, classes)
    unlooking = [constant.on(row) for row in rows]
    evaluators = {
        "detector": DetectionEvaluator.of(rows, categories, classes),
        "constant": DetectionEvaluator.of(unlooking, categories, classes),
    }
    if len(rows) > 1:
        evaluators["shuffled"] = DetectionEvaluator.of(shuffled(rows), categories, classes)
    results = {name: evaluator.result() for name, evaluator in evaluators.items()}
    ap50 = {name: result.values["AP50"] for name, result in results.items()}
    by_class = {}
    for name, of_class in results["detector"].table(categories).items():
        by_class[name] = {key: of_class[key] for key in ("AP", "AP50", "gt")}
    result: Json = {
        "images": len(rows),
        "margin": MARGIN,
        "AP50": ap50["detector"],
        "constant": ap50["constant"],
        "shuffled": ap50.get("shuffled"),
        "floor": None,
        "gain": None,
        "low": None,
        "high": None,
        "classes": by_class,
    }
    own = ap50.pop("detector")
    if own is None:
        return result
    floor = max(ap50, key=lambda name: ap50[name] or 0.0)
    own_rows = evaluators["detector"].rows()
    floor_rows = evaluators[floor].rows()
    spread = _spread(own_rows, floor_rows, classes, seed)
    result["floor"] = floor
    gain = own - (ap50[floor] or 0.0)
    reach = STRETCH * spread
    numbers = {"gain": gain, "low": gain - reach, "high": gain + reach}
    rounded = {key: round(number, 6) for key, number in numbers.items()}
    return result | rounded


def _spread(
    rows: Sequence[DetectionRow], others: Sequence[DetectionRow], classes: Sequence[int], seed: int
) -> float:
    """Return the standard deviation of the difference of AP50.

    Over resamples of the images.
    """
    means = []
    for own in (rows, others):
        rng = rng_for(seed, "floor")
        draws = bootstrap_ap(own, classes, RESAMPLES, rng)["AP50"]  # [R, C]
        usable = ~np.isnan(draws).all(axis=1)
        means.append(np.nanmean(draws[usable], axis=1))
    difference = means[0] - means[1]
    if len(difference) < 2:
        return 0.0
    return float(difference.std(ddof=1))

"""The judges of the classes that the verifying detector finds too rarely.

Tried on real images, class by class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthaug.pipeline.core.arrays import Flags, Floats, Floats32
from synthaug.pipeline.core.scene import Dataset, thing_flags
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.verification import prototypes, tail_judges
from synthaug.pipeline.verification.crops import BoxFeatures, features_of, labelled_crops
from synthaug.pipeline.verification.prototypes import Prototypes
from synthaug.pipeline.verification.tail_judges import CROPS, ClaimedBox, TailJudge
from synthaug.pipeline.verification.thresholds import ClassThresholds, Requirements, stack

Claims = Mapping[int, Sequence[ClaimedBox]]  # by class


@dataclass(frozen=True)
class TailTables:
    """The real images that judges are learnt from and tried on."""

    bare: Dataset  # labelled, without pixels
    labelled: Dataset
    validation: Dataset


def choose_judges(
    rows: Sequence[DetectionRow],
    fitted: Sequence[ClassThresholds],
    least_area: Floats,
    tables: TailTables,
    load: Callable[[], BoxFeatures],
    required: Requirements,
    seed: int,
) -> tuple[dict[int, TailJudge], Prototypes | None]:
    """Return what was tried on each rarely found class, and the prototypes.

    The latter where crops judge a class. `rows` are the detections on the validation images, down
    to the lower bar. Classes without a true object there are left out: nothing can be shown.
    """
    things = thing_flags(tables.bare.categories)
    usual = stack(fitted, things, least_area)
    claims: dict[int, list[ClaimedBox]] = {}
    for label, own in enumerate(fitted):
        if things[label] and own.truths and not own.judged:
            only_this = np.arange(len(things)) == label
            alone = replace(usual, judged=only_this)
            claims[label] = tail_judges.claimed_boxes(rows, label, alone, seed)
    if not claims:
        return {}, None
    detector = load()
    learnt = fit_prototypes(detector, tables, list(claims), things, seed)
    margins = _margins(detector, learnt, tables.validation, rows, claims)
    chosen = {}
    for label, claimed in claims.items():
        chosen[label] = tail_judges.choose(
            rows, claimed, margins.get(label), label, required.recall, required.min_recall, seed
        )
    if any(judge.judge == CROPS for judge in chosen.values()):
        return chosen, learnt
    return chosen, None


def fit_prototypes(
    detector: BoxFeatures, tables: TailTables, judged: Sequence[int], things: Flags, seed: int
) -> Prototypes:
    """Learn the prototypes of some classes from crops of labelled images."""
    crops = labelled_crops(tables.bare, judged, things, seed)
    boxes = {index: [crop.box for crop in own] for index, own in crops.items()}
    features = features_of(detector, tables.labelled, boxes)
    vectors: list[Floats32] = []
    kinds: list[int] = []
    for index, own in crops.items():
        vectors += list(features[index])
        kinds += [crop.kind for crop in own]
    return prototypes.fit(vectors, kinds)


def _margins(
    detector: BoxFeatures,
    learnt: Prototypes,
    validation: Dataset,
    rows: Sequence[DetectionRow],
    claims: Claims,
) -> dict[int, Floats]:
    """Return the margins of the claimed boxes of each class with a prototype.

    Each image is looked at once.
    """
    boxes: dict[int, list[Floats32]] = {}  # by the image's index
    places: dict[int, list[tuple[int, int]]] = {}  # of each claimed box: image, number in it
    for label, claimed in claims.items():
        if not learnt.knows(label):
            continue
        places[label] = []
        for box in claimed:
            index = rows[box.row].index
            of_image = boxes.setdefault(index, [])
            places[label].append((index, len(of_image)))
            of_image.append(box.box)
    features = features_of(detector, validation, boxes)
    margins = {}
    for label, own_places in places.items():
        of_boxes = [features[index][number] for index, number in own_places]
        crops = np.stack(of_boxes)
        margins[label] = learnt.margins(crops, label)
    return margins

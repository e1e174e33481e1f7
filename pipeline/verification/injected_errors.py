"""Label errors injected into correct labels, for verification to find.

Pixels stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats32, Ints
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification.verdicts import (
    DUPLICATE,
    EXTRA,
    MISPLACED,
    MISSING,
    SWAPPED,
    TOO_SMALL,
    Thresholds,
)

KINDS = (MISSING, SWAPPED, MISPLACED, DUPLICATE, TOO_SMALL, EXTRA)
TRIES = 50  # positions tried before an image is given up
FREE_IOU = 0.05  # IoU with true objects of the class below which a position is free of it
SHIFTED_IOU = (0.12, 0.4)  # IoU of a shifted box with the true one
JITTER = 0.05  # of a duplicate's edges, share of the box's side

Box = NDArray[np.float32]


@dataclass(frozen=True)
class InjectedError:
    """Labels of an image with one error in them."""

    boxes: Boxes  # [G, 4] xyxy, pixels
    labels: Ints  # [G]
    crowd: Flags  # [G]
    indices: tuple[int, ...]  # of the false label; of a duplicate both, as either may be confirmed
    box: Box  # [4] where the error is


def inject(
    row: DetectionRow,
    donor: DetectionRow,
    kind: str,
    thresholds: Thresholds,
    rng: np.random.Generator,
) -> InjectedError | None:
    """Put one error of a kind of KINDS into the labels of `row`.

    None where the image has no room for it. Only objects of judged classes are touched. A missing
    object is one that `donor`, another image, has: labelled here, where there is none.
    """
    if kind == MISSING:
        return _label_without_object(row, donor, thresholds, rng)
    eligible = _eligible(row, thresholds)
    if not len(eligible):
        return None
    index = int(eligible[rng.integers(len(eligible))])
    if kind == SWAPPED:
        return _swapped_class(row, index, thresholds, rng)
    if kind == MISPLACED:
        return shifted_box(row, index, rng)
    if kind == TOO_SMALL:
        return _shrunken_box(row, index, thresholds)
    if kind == DUPLICATE:
        box = _jittered(row, index, rng)
        label = int(row.labels[index])
        return _with_label(row, box, label, (index,))
    assert kind == EXTRA, kind
    rest = np.arange(len(row.labels)) != index
    boxes = row.boxes[rest]
    labels = row.labels[rest]
    return InjectedError(boxes, labels, row.crowd[rest], (), row.boxes[index])


def _eligible(row: DetectionRow, thresholds: Thresholds) -> Ints:
    """Return the indices of the objects of judged classes."""
    judged = thresholds.judged[row.labels]
    return np.flatnonzero(judged & ~row.crowd)


def _with_label(
    row: DetectionRow, box: Box, label: int, others: tuple[int, ...] = ()
) -> InjectedError:
    """Return the labels with one more at the end, which is false.

    So are those at the indices `others`.
    """
    return InjectedError(
        boxes=np.concatenate([row.boxes, box[None]]).astype(np.float32),
        labels=np.append(row.labels, label),
        crowd=np.append(row.crowd, False),
        indices=(len(row.labels), *others),
        box=box,
    )


def _with_change(row: DetectionRow, index: int, box: Box, label: int) -> InjectedError:
    """Return the labels with another box or class for one object."""
    boxes = row.boxes.copy()
    labels = row.labels.copy()
    boxes[index] = box
    labels[index] = label
    return InjectedError(boxes, labels, row.crowd, (index,), box)


def _highest_iou(box: Box, others: Floats32) -> float:
    """Return the highest IoU of a box [4] with others [N, 4], 0 without any."""
    no_crowd = np.zeros(len(others), bool)
    found = overlaps(box[None], others, no_crowd)
    return float(found.max(initial=0.0))


def is_free(row: DetectionRow, box: Box, label: int) -> bool:
    """Return whether no true object of a class is where the box is."""
    return _highest_iou(box, row.boxes[row.labels == label]) < FREE_IOU


def _label_without_object(
    row: DetectionRow, donor: DetectionRow, thresholds: Thresholds, rng: np.random.Generator
) -> InjectedError | None:
    """Label an object of the donor where there is none.

    At its own position, else at random ones.
    """
    eligible = _eligible(donor, thresholds)
    if not len(eligible):
        return None
    index = int(eligible[rng.integers(len(eligible))])
    label = int(donor.labels[index])
    size = np.array([row.width, row.height], np.float32)
    ratio = size / [donor.width, donor.height]
    scale = np.tile(ratio, 2).astype(np.float32)
    box = donor.boxes[index] * scale
    side = box[2:] - box[:2]
    for _ in range(TRIES):
        if is_free(row, box, label):
            return _with_label(row, box, label)
        room = np.maximum(size - side, 0)
        corner = (rng.random(2) * room).astype(np.float32)
        box = np.concatenate([corner, corner + side])
    return None


def _swapped_class(
    row: DetectionRow, index: int, thresholds: Thresholds, rng: np.random.Generator
) -> InjectedError | None:
    """Give an object a class of which nothing is there."""
    judged = np.flatnonzero(thresholds.judged)
    others = judged[judged != row.labels[index]]
    for label in rng.permutation(others).tolist():
        if is_free(row, row.boxes[index], label):
            return _with_change(row, index, row.boxes[index], label)
    return None


def shifted_box(row: DetectionRow, index: int, rng: np.random.Generator) -> InjectedError | None:
    """Move a box so that it overlaps its object, but is not right for it.

    Nor for any other.
    """
    true = row.boxes[index]
    limit = np.array([row.width, row.height] * 2, np.float32)
    same_class = row.labels == row.labels[index]
    same_class[index] = False
    others = row.boxes[same_class]
    low, high = SHIFTED_IOU
    for _ in range(TRIES):
        sides = true[2:] - true[:2]
        move = (rng.uniform(-1, 1, 2) * sides).astype(np.float32)
        moved = true + np.tile(move, 2)
        box = np.clip(moved, 0, limit).astype(np.float32)
        own = _highest_iou(box, true[None])
        if low <= own <= high and _highest_iou(box, others) < low:
            label = int(row.labels[index])
            return _with_change(row, index, box, label)
    return None


def _shrunken_box(row: DetectionRow, index: int, thresholds: Thresholds) -> InjectedError | None:
    """Replace a box by its middle.

    With half the area below which an object is too small.
    """
    label = int(row.labels[index])
    true = row.boxes[index].astype(np.float64)
    side = true[2:] - true[:2]
    area = float(side.prod())
    target = 0.5 * thresholds.least_area[label] * row.height * row.width
    if not 0 < target < area:
        return None
    half = side / 2 * np.sqrt(target / area)
    middle = (true[:2] + true[2:]) / 2
    box = np.concatenate([middle - half, middle + half]).astype(np.float32)
    return _with_change(row, index, box, label)


def _jittered(row: DetectionRow, index: int, rng: np.random.Generator) -> Box:
    """Return the box with each edge moved by up to JITTER of its side."""
    box = row.boxes[index]
    side = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.uniform(-JITTER, JITTER, 4) * side
    limit = np.array([row.width, row.height] * 2, np.float32)
    return np.asarray(np.clip(moved, 0, limit), np.float32)

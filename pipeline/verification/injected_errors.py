"""Faults planted in correct labels, of which a verification must find as many as it can; the pixels stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification.verdicts import (
    DUPLICATE,
    EXTRA,
    MISPLACED,
    MISSING,
    SWAPPED,
    TOO_SMALL,
    Bars,
)

FAULTS = (MISSING, SWAPPED, MISPLACED, DUPLICATE, TOO_SMALL, EXTRA)
TRIES = 50  # places tried before an image is given up
FREE = 0.05  # IoU with true objects of the class below which a place is free of it
SHIFTED = (0.12, 0.4)  # IoU of a shifted box with the true one

Box = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """Labels of an image with one fault in them."""

    boxes: NDArray[np.float32]  # [G, 4] xyxy, pixels
    labels: NDArray[np.int64]  # [G]
    crowd: NDArray[np.bool_]  # [G]
    places: tuple[
        int, ...
    ]  # of the false label; of a duplicate also its twin, as either may be taken for the true one
    at: Box  # [4] where the fault is


def plant(
    row: DetectionRow, donor: DetectionRow, kind: str, bars: Bars, rng: np.random.Generator
) -> Fault | None:
    """Put one fault of a kind of FAULTS into the labels of `row`; None where the image offers no room for it.

    Only objects of classes that `bars` judges are touched. A missing object is one that `donor`, another image, has:
    labelled here, where there is none.
    """
    own = np.flatnonzero(_eligible(row, bars))
    if kind == MISSING:
        return _absent(row, donor, bars, rng)
    if not len(own):
        return None
    place = int(own[rng.integers(len(own))])
    if kind == SWAPPED:
        return _swapped(row, place, bars, rng)
    if kind == MISPLACED:
        return _shifted(row, place, rng)
    if kind == TOO_SMALL:
        return _shrunk(row, place, bars)
    if kind == DUPLICATE:
        box = _jittered(row, place, rng)
        return _added(row, box, int(row.labels[place]), (place,))
    assert kind == EXTRA, kind
    rest = np.arange(len(row.labels)) != place
    return Fault(row.boxes[rest], row.labels[rest], row.crowd[rest], (), row.boxes[place])


def _eligible(row: DetectionRow, bars: Bars) -> NDArray[np.bool_]:
    return np.asarray(bars.judged[row.labels] & ~row.crowd)


def _added(row: DetectionRow, box: Box, label: int, twins: tuple[int, ...] = ()) -> Fault:
    return Fault(
        np.concatenate([row.boxes, box[None]]).astype(np.float32),
        np.append(row.labels, label),
        np.append(row.crowd, False),
        (len(row.labels), *twins),
        box,
    )


def _changed(row: DetectionRow, place: int, box: Box, label: int) -> Fault:
    boxes, labels = row.boxes.copy(), row.labels.copy()
    boxes[place], labels[place] = box, label
    return Fault(boxes, labels, row.crowd, (place,), box)


def _most(row: DetectionRow, box: Box, label: int) -> float:
    """The highest IoU of a box with the true objects of a class."""
    same = row.boxes[row.labels == label]
    return float(overlaps(box[None], same, np.zeros(len(same), bool)).max(initial=0.0))


def _absent(
    row: DetectionRow, donor: DetectionRow, bars: Bars, rng: np.random.Generator
) -> Fault | None:
    own = np.flatnonzero(_eligible(donor, bars))
    if not len(own):
        return None
    place = int(own[rng.integers(len(own))])
    label, size = int(donor.labels[place]), np.array([row.width, row.height], np.float32)
    box = donor.boxes[place] * np.tile(size / [donor.width, donor.height], 2).astype(np.float32)
    side = box[2:] - box[:2]
    for _ in range(TRIES):
        if _most(row, box, label) < FREE:
            return _added(row, box, label)
        corner = (rng.random(2) * np.maximum(size - side, 0)).astype(np.float32)
        box = np.concatenate([corner, corner + side])
    return None


def _swapped(row: DetectionRow, place: int, bars: Bars, rng: np.random.Generator) -> Fault | None:
    others = np.flatnonzero(bars.judged)
    others = others[others != row.labels[place]]
    for label in rng.permutation(others).tolist():
        if _most(row, row.boxes[place], label) < FREE:
            return _changed(row, place, row.boxes[place], label)
    return None


def _shifted(row: DetectionRow, place: int, rng: np.random.Generator) -> Fault | None:
    true = row.boxes[place]
    limit = np.array([row.width, row.height] * 2, np.float32)
    for _ in range(TRIES):
        move = (rng.uniform(-1, 1, 2) * (true[2:] - true[:2])).astype(np.float32)
        box = np.clip(true + np.tile(move, 2), 0, limit).astype(np.float32)
        iou = float(overlaps(box[None], true[None], np.zeros(1, bool))[0, 0])
        others = row.boxes[
            (row.labels == row.labels[place]) & (np.arange(len(row.labels)) != place)
        ]
        clear = (
            overlaps(box[None], others, np.zeros(len(others), bool)).max(initial=0.0) < SHIFTED[0]
        )
        if SHIFTED[0] <= iou <= SHIFTED[1] and clear:
            return _changed(row, place, box, int(row.labels[place]))
    return None


def _shrunk(row: DetectionRow, place: int, bars: Bars) -> Fault | None:
    """The box's middle, half as large as what is too small."""
    label, true = int(row.labels[place]), row.boxes[place].astype(np.float64)
    area = float((true[2:] - true[:2]).prod())
    wanted = 0.5 * bars.least_area[label] * row.height * row.width
    if not 0 < wanted < area:
        return None
    half = (true[2:] - true[:2]) / 2 * np.sqrt(wanted / area)
    middle = (true[:2] + true[2:]) / 2
    return _changed(
        row, place, np.concatenate([middle - half, middle + half]).astype(np.float32), label
    )


def _jittered(row: DetectionRow, place: int, rng: np.random.Generator) -> Box:
    """The box, each edge moved by up to a twentieth of its side."""
    box = row.boxes[place]
    side = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.uniform(-0.05, 0.05, 4) * side
    limit = np.array([row.width, row.height] * 2, np.float32)
    return np.asarray(np.clip(moved, 0, limit), np.float32)

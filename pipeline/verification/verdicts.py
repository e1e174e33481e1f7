"""Is each labelled object in its image? Verdicts from what an independent detector finds; pure functions of arrays.

A detection speaks for an object of its class when its score and its IoU with the object's box reach the bars of that
class (verification_bars.py learns them on real images). Objects and detections are paired one to one, so that two labels
cannot rest on one find. What is left over decides how an object failed; the kinds of label error are those of Tkachenko,
Thyagarajan and Mueller 2023 (ObjectLab: overlooked, badly located, swapped), seen from the side of the label.

Legend: G labelled objects, D detections, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps

KEPT, MISSING, SWAPPED, MISPLACED = "kept", "missing", "swapped", "misplaced"
DUPLICATE, DOUBTFUL, TOO_SMALL, EXTRA = "duplicate", "doubtful", "too_small", "extra"
FAILED = (MISSING, SWAPPED, MISPLACED, DUPLICATE, DOUBTFUL, TOO_SMALL)  # of a labelled object
PLACED = 0.1  # IoU from which on a detection of the class is this object, badly placed, rather than another one
LEAST_SCORE, LEAST_IOU = (
    0.05,
    0.3,
)  # no bar is lower: from here on a detection says that something may be there
SHARED = 0.5  # IoU from which on a detection that another object has taken explains this one too
TWIN = 0.7  # IoU of two objects of a class from which on they are one object labelled twice
PART = 0.8  # share of a detection that must lie in an object of its class to be a part of that rather than another one
IN_CROWD = 0.5  # share of a detection that must lie in a crowd to belong to it

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Bars:
    """What a detection must reach to speak for an object, per class [C]."""

    score: Floats
    iou: Floats
    confident: Floats  # score from which on a detection that no object explains counts; inf: never
    least_area: (
        Floats  # share of the image's area below which a box is too small to be judged otherwise
    )
    judged: Flags  # whether the detector knows the class well enough
    things: Flags


@dataclass(frozen=True)
class Judged:
    """The verdicts on one image."""

    verdict: tuple[
        str | None, ...
    ]  # [G] None: not judged (stuff, crowds, classes the detector does not know)
    score: NDArray[
        np.float32
    ]  # [G] of the detection the verdict rests on, 0 without one, NaN where not judged
    region: NDArray[
        np.float32
    ]  # [G, 4] xyxy: the object's box and the detection the verdict rests on
    extra: Places  # detections that no object explains, best first


def judge(row: DetectionRow, bars: Bars) -> Judged:
    """Compare the labelled objects of one image with what was found in it."""
    matching = _Matching(row, bars)
    open_ = matching.solid & (matching.partner < 0)
    verdict = np.where(matching.solid & ~open_, KEPT, MISSING).astype("<U9")
    rests_on = matching.partner.copy()

    def settle(name: str, chosen: Places) -> None:
        nonlocal open_
        hit = open_ & (chosen >= 0)
        verdict[hit], rests_on[hit] = name, chosen[hit]
        open_ = open_ & ~hit

    small = open_ & (_areas(row.boxes) / (row.height * row.width) < bars.least_area[row.labels])
    verdict[small], open_ = TOO_SMALL, open_ & ~small
    settle(DUPLICATE, matching.twin(rests_on))
    settle(SWAPPED, _pair(matching.iou, matching.other_class(rests_on) & open_[:, None]))
    settle(MISPLACED, _pair(matching.iou, matching.badly_placed(rests_on) & open_[:, None]))
    settle(DUPLICATE, matching.twin(rests_on))
    settle(DOUBTFUL, matching.faint(rests_on))
    judged = bars.judged[row.labels] & matching.solid
    return Judged(
        tuple(str(name) if known else None for name, known in zip(verdict, judged, strict=True)),
        np.where(judged, matching.heard_score(rests_on), np.nan).astype(np.float32),
        _joined(
            row.boxes,
            row.pred_boxes,
            np.where(np.isin(verdict, (DUPLICATE, DOUBTFUL)), -1, rests_on),
        ),
        matching.unexplained(rests_on),
    )


class _Matching:
    """Objects against detections: which pairs agree in place, in class, in both."""

    def __init__(self, row: DetectionRow, bars: Bars) -> None:
        self._row, self._bars = row, bars
        no_crowd = np.zeros(len(row.labels), bool)
        self.solid = bars.things[row.labels] & ~row.crowd  # [G]
        self.iou = overlaps(row.pred_boxes, row.boxes, no_crowd).T  # [G, D]
        self._same = row.labels[:, None] == row.pred_labels[None]  # [G, D]
        self._a_thing = bars.things[
            row.pred_labels
        ]  # [D] a detector may have learnt stuff too; that speaks for nothing
        self._heard = self._a_thing & (
            row.pred_scores.astype(np.float64) >= bars.score[row.pred_labels]
        )  # [D]
        self._fits = self.iou >= bars.iou[row.labels][:, None]  # [G, D]
        self.partner = _pair(
            self.iou, self._same & self._heard & self._fits & self.solid[:, None]
        )  # [G]
        self._alike = overlaps(row.boxes, row.boxes, no_crowd) >= TWIN  # [G, G]
        self._alike &= row.labels[:, None] == row.labels[None]
        np.fill_diagonal(self._alike, val=False)
        self._leave_twins()

    def _leave_twins(self) -> None:
        """Of two objects that are one labelled twice, only the one with the better partner keeps it."""
        pairs = zip(*np.nonzero(np.triu(self._alike)), strict=True)
        for a, b in pairs:
            if min(self.partner[a], self.partner[b]) >= 0:
                scores = self._row.pred_scores[self.partner[[a, b]]]
                self.partner[a if scores[0] < scores[1] else b] = -1

    def _free(self, rests_on: Places) -> Flags:
        free = np.ones(len(self._row.pred_labels), bool)
        free[rests_on[rests_on >= 0]] = False
        return free

    def other_class(self, rests_on: Places) -> Flags:
        """Free detections [G, D] of another class at an object's place."""
        fits = self.iou >= self._bars.iou[self._row.pred_labels][None]
        return np.asarray(fits & ~self._same & self._heard & self._free(rests_on))

    def badly_placed(self, rests_on: Places) -> Flags:
        """Free detections [G, D] of an object's class that overlap it."""
        return np.asarray((self.iou >= PLACED) & self._same & self._heard & self._free(rests_on))

    def twin(self, rests_on: Places) -> Places:
        """Per object [G] the detection that explains another object of its class and this one too; -1: none."""
        labels = self._row.labels
        near = (self.iou >= np.minimum(self._bars.iou[labels], SHARED)[:, None]) & self._same
        shared = near & ~self._free(rests_on) & self._heard
        alike = self._alike & (rests_on >= 0)[None]
        chosen = np.full(len(labels), -1, np.int64)
        for place in range(len(labels)):
            if shared[place].any():
                chosen[place] = np.where(shared[place], self.iou[place], -1).argmax()
            elif alike[place].any():
                chosen[place] = rests_on[alike[place].argmax()]
        return chosen

    def faint(self, rests_on: Places) -> Places:
        """Per object [G] the best detection of its class at its place, too unsure to speak for it or another's; -1: none.

        Where the judge is sure of nearly all real objects of a class its bar is high, and what it finds less sure in a
        synthetic image may be seen by anyone. Taken for missing, its label would go and the object stay.
        """
        scores = self._row.pred_scores.astype(np.float64)
        near = (self.iou >= LEAST_IOU) & self._same & (scores >= LEAST_SCORE)
        worth = np.where(near, scores + self._free(rests_on), -1.0)  # free ones first
        return (
            np.where(near.any(1), worth.argmax(1), -1)
            if len(scores)
            else np.full(len(near), -1, np.int64)
        )

    def heard_score(self, rests_on: Places) -> Floats:
        """Score [G] of the detection a verdict rests on; without one, of the best of the class at the object's place."""
        scores = self._row.pred_scores.astype(np.float64)
        if not len(scores):
            return np.zeros(len(rests_on))
        best = np.where(self._same & self._fits & self._free(rests_on), scores, 0.0).max(
            1, initial=0.0
        )
        return np.where(rests_on >= 0, scores[rests_on], best)

    def unexplained(self, rests_on: Places) -> Places:
        """Confident detections that no labelled thing and no crowd explains, best first."""
        row, boxes = self._row, self._row.boxes
        inside = overlaps(
            row.pred_boxes, boxes, np.ones(len(boxes), bool)
        ).T  # [G, D] part of the detection
        unmet = (rests_on < 0)[:, None]  # what such an object asked for may be this, badly placed
        near = (self.iou >= SHARED) | (
            self._same & ((inside >= PART) | (unmet & (self.iou >= PLACED)))
        )
        explains = (near & self.solid[:, None]) | ((inside >= IN_CROWD) & row.crowd[:, None])
        confident = row.pred_scores.astype(np.float64) >= self._bars.confident[row.pred_labels]
        found = np.flatnonzero(confident & self._a_thing & self._free(rests_on) & ~explains.any(0))
        return np.asarray(found[np.argsort(-row.pred_scores[found], kind="stable")], np.int64)


def _pair(iou: Floats, allowed: Flags) -> Places:
    """Pair rows and columns one to one, as many and as well overlapping as can be: the column of each row, -1: none."""
    partner = np.full(len(iou), -1, np.int64)
    rows, columns = linear_sum_assignment(np.where(allowed, 1 + iou, 0.0), maximize=True)
    good = allowed[rows, columns]
    partner[rows[good]] = columns[good]
    return partner


def _joined(
    boxes: NDArray[np.float32], found: NDArray[np.float32], rests_on: Places
) -> NDArray[np.float32]:
    """Boxes [G, 4] grown to hold the detection at `rests_on` (-1: none) too."""
    region = boxes.astype(np.float32)
    has = rests_on >= 0
    other = found[rests_on[has]]
    low, high = np.minimum(region[has, :2], other[:, :2]), np.maximum(region[has, 2:], other[:, 2:])
    region[has] = np.concatenate([low, high], axis=1)
    return region


def _areas(boxes: NDArray[np.float32]) -> Floats:
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    return np.asarray(sides.prod(1))

"""Verdicts on the labelled objects of an image.

From what an independent detector finds in it. A detection confirms an object of its class when its
score and its IoU with the object's box reach the thresholds of that class (thresholds.py fits them
on real images). Objects and detections are matched one to one, so that two labels cannot rest on
one detection. What is left over decides how an object failed; the kinds of label error are those of
Tkachenko, Thyagarajan and Mueller 2023 (ObjectLab: overlooked, badly located, swapped), seen from
the side of the label.

Legend: G labelled objects, D detections, C classes. A match is a detection's index, -1 stands for
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from synthaug.pipeline.core.arrays import Flags, Floats, Floats32
from synthaug.pipeline.core.boxes import Boxes
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps

KEPT, MISSING, SWAPPED, MISPLACED = "kept", "missing", "swapped", "misplaced"
DUPLICATE, DOUBTFUL, TOO_SMALL, EXTRA = "duplicate", "doubtful", "too_small", "extra"
FAILED = (MISSING, SWAPPED, MISPLACED, DUPLICATE, DOUBTFUL, TOO_SMALL)  # of a labelled object

# No threshold is lower: from these on a detection says that something may be there.
LEAST_SCORE = 0.05
LEAST_IOU = 0.3
# IoU from which on a detection of the class is the object itself, badly placed, and not another
# one.
SAME_PLACE_IOU = 0.1
# IoU from which on a detection that confirms another object explains this one too.
SHARED_IOU = 0.5
# IoU of two objects of a class from which on they are one object labelled twice.
DUPLICATE_IOU = 0.7
# Share of a detection that must lie in an object of its class to be a part of that object.
PART_SHARE = 0.8
# Share of a detection that must lie in a crowd to belong to it.
CROWD_SHARE = 0.5

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Thresholds:
    """The least score and IoU with which a detection confirms an object.

    Per class [C].
    """

    score: Floats
    iou: Floats
    confident: Floats  # score from which on a detection that no object explains counts; inf: never
    least_area: Floats  # share of the image's area below which a missing object is too small
    judged: Flags  # whether the detector knows the class well enough
    things: Flags


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on one image."""

    # [G] None: not judged (stuff, crowds, classes that the detector does not know)
    verdict: tuple[str | None, ...]
    # [G] of the detection that the verdict rests on, 0 without one, NaN where not judged
    score: Floats32
    iou: Floats32  # [G] of object and that detection, likewise
    # [G, 4] xyxy, pixels: around the object's box and the detection that the verdict rests on
    region: Boxes
    # Detections that no object explains, best first
    extra: Indices


def verdicts(row: DetectionRow, thresholds: Thresholds) -> Verdicts:
    """Return the verdict on each labelled object, and detections without a label.

    Of one image.
    """
    image = _Comparison(row, thresholds)
    match = image.confirmations()  # [G] the detection each verdict rests on
    verdict = np.full(len(match), MISSING, "<U9")
    verdict[match >= 0] = KEPT
    undecided = image.judgeable & (match < 0)

    too_small = undecided & image.too_small()
    verdict[too_small] = TOO_SMALL
    undecided &= ~too_small

    def decide(name: str, candidates: Indices) -> None:
        """Give the verdict `name` to the undecided objects that have a candidate."""
        chosen = undecided & (candidates >= 0)
        verdict[chosen] = name
        match[chosen] = candidates[chosen]
        undecided[chosen] = False

    # The first verdict that applies counts; each takes detections that no earlier verdict rests on.
    decide(DUPLICATE, image.duplicates(match))
    swapped = image.other_class(match) & undecided[:, None]
    decide(SWAPPED, _assign(image.iou, swapped))
    misplaced = image.badly_placed(match) & undecided[:, None]
    decide(MISPLACED, _assign(image.iou, misplaced))
    decide(DUPLICATE, image.duplicates(match))
    decide(DOUBTFUL, image.unsure(match))

    judged = thresholds.judged[row.labels] & image.judgeable
    names: list[str | None] = verdict.tolist()
    for index in np.flatnonzero(~judged).tolist():
        names[index] = None
    scores = np.where(judged, image.match_scores(match), np.nan)
    ious = np.where(judged, image.match_ious(match), np.nan)
    # What a duplicate or a doubtful object rests on may be a neighbour, which must stay out of its
    # region.
    rests_elsewhere = np.isin(verdict, (DUPLICATE, DOUBTFUL))
    own = np.where(rests_elsewhere, -1, match)
    return Verdicts(
        verdict=tuple(names),
        score=scores.astype(np.float32),
        iou=ious.astype(np.float32),
        region=_enclosing(row.boxes, row.pred_boxes, own),
        extra=image.unexplained(match),
    )


def on_synthetic(result: Verdicts, sources: Sequence[str]) -> Verdicts:
    """Return the verdicts without those on objects [G] that a person labelled.

    They are as true as in their real image.
    """
    judged = np.array([source != "human" for source in sources], bool)
    verdict = list(result.verdict)
    for index in np.flatnonzero(~judged).tolist():
        verdict[index] = None
    score = np.where(judged, result.score, np.nan)
    iou = np.where(judged, result.iou, np.nan)
    return replace(
        result,
        verdict=tuple(verdict),
        score=score.astype(np.float32),
        iou=iou.astype(np.float32),
    )


def is_too_small(row: DetectionRow, thresholds: Thresholds) -> Flags:
    """Return which objects [G] are smaller than the labelled ones of their class."""
    far_corners = row.boxes[:, 2:].astype(np.float64)
    sides = far_corners - row.boxes[:, :2]
    area = sides.prod(1) / (row.height * row.width)
    return np.asarray(area < thresholds.least_area[row.labels])


def with_crop_verdicts(
    result: Verdicts, chosen: Indices, kept: Flags, too_small: Flags
) -> Verdicts:
    """Return the verdicts with those that a judge of crops gives on some objects.

    `kept` and `too_small` are of the chosen ones, in their order. What the judge does not know
    again is doubtful: it may be there, so it is no background.
    """
    verdict = list(result.verdict)
    score = result.score.copy()
    of_chosen = zip(chosen.tolist(), kept.tolist(), too_small.tolist(), strict=True)
    for index, is_kept, is_small in of_chosen:
        verdict[index] = DOUBTFUL
        if is_kept:
            verdict[index] = KEPT
        elif is_small:
            verdict[index] = TOO_SMALL
        score[index] = float(is_kept)
    return replace(result, verdict=tuple(verdict), score=score)


class _Comparison:
    """The labelled objects of one image against its detections.

    Which agree in place, in class, in both.
    """

    def __init__(self, row: DetectionRow, thresholds: Thresholds) -> None:
        self._row = row
        self._thresholds = thresholds
        no_crowd = np.zeros(len(row.labels), bool)
        self.judgeable = thresholds.things[row.labels] & ~row.crowd  # [G]
        self.iou = overlaps(row.pred_boxes, row.boxes, no_crowd).T  # [G, D]
        self._same_class = row.labels[:, None] == row.pred_labels[None]  # [G, D]
        self._scores = row.pred_scores.astype(np.float64)  # [D]
        # A detector may have learnt stuff too; its detections confirm nothing and explain nothing.
        self._is_thing = thresholds.things[row.pred_labels]  # [D]
        least_scores = thresholds.score[row.pred_labels]
        least_ious = thresholds.iou[row.labels]
        self._sure = self._is_thing & (self._scores >= least_scores)  # [D]
        self._well_placed = self.iou >= least_ious[:, None]  # [G, D]
        labelled_twice = overlaps(row.boxes, row.boxes, no_crowd) >= DUPLICATE_IOU  # [G, G]
        labelled_twice &= row.labels[:, None] == row.labels[None]
        np.fill_diagonal(labelled_twice, val=False)
        self._labelled_twice = labelled_twice

    def confirmations(self) -> Indices:
        """Return the detection [G] that confirms each object.

        Of two objects that are one labelled twice, only the one with the better detection has one.
        """
        sure_of_class = self._same_class & self._sure & self._well_placed
        allowed = sure_of_class & self.judgeable[:, None]
        match = _assign(self.iou, allowed)
        pairs = np.argwhere(np.triu(self._labelled_twice))
        for first, second in pairs.tolist():
            if match[first] < 0 or match[second] < 0:
                continue
            scores = self._row.pred_scores[match[[first, second]]]
            weaker = first if scores[0] < scores[1] else second
            match[weaker] = -1
        return match

    def too_small(self) -> Flags:
        """Return which objects [G] are smaller than the labelled ones of their class."""
        return is_too_small(self._row, self._thresholds)

    def duplicates(self, match: Indices) -> Indices:
        """Return the detection [G] that confirms another object and explains this one too.

        Both are of its class.
        """
        labels = self._row.labels
        iou = np.minimum(self._thresholds.iou[labels], SHARED_IOU)
        overlapping = self.iou >= iou[:, None]
        shared = overlapping & self._same_class & self._sure & ~self._free(match)
        labelled_twice = self._labelled_twice & (match >= 0)[None]
        found = np.full(len(labels), -1, np.int64)
        for index in range(len(labels)):
            if shared[index].any():
                own_iou = np.where(shared[index], self.iou[index], -1)
                found[index] = own_iou.argmax()
            elif labelled_twice[index].any():
                found[index] = match[labelled_twice[index].argmax()]
        return found

    def other_class(self, match: Indices) -> Flags:
        """Return which free detections [G, D] of another class are at an object's place."""
        least_ious = self._thresholds.iou[self._row.pred_labels]
        well_placed = self.iou >= least_ious[None]
        free = self._sure & self._free(match)
        return np.asarray(well_placed & ~self._same_class & free)

    def badly_placed(self, match: Indices) -> Flags:
        """Return which free detections [G, D] of an object's class overlap it."""
        near = self.iou >= SAME_PLACE_IOU
        free = self._sure & self._free(match)
        return np.asarray(near & self._same_class & free)

    def unsure(self, match: Indices) -> Indices:
        """Return the best detection [G] at an object's place that confirms no object.

        Of its class. Where the detector is sure of nearly all real objects of a class the threshold
        is high, and what it is less sure of in a synthetic image may be seen by anyone. Taken for
        missing, its label would go and the object stay.
        """
        if not len(self._scores):
            return np.full(len(match), -1, np.int64)
        overlapping = self.iou >= LEAST_IOU
        scored = self._scores >= LEAST_SCORE
        near = overlapping & self._same_class & scored
        rank = np.where(near, self._scores + self._free(match), -1.0)  # free ones first
        return np.where(near.any(1), rank.argmax(1), -1)

    def match_scores(self, match: Indices) -> Floats:
        """Return the score [G] of the matched detection.

        Or of the best free one of the class there.
        """
        if not len(self._scores):
            return np.zeros(len(match))
        near = self._same_class & self._well_placed & self._free(match)
        scores_near = np.where(near, self._scores, 0.0)
        best = scores_near.max(1, initial=0.0)
        return np.where(match >= 0, self._scores[match], best)

    def match_ious(self, match: Indices) -> Floats:
        """Return the IoU [G] of each object with its matched detection, 0 without one."""
        if not len(self._scores):
            return np.zeros(len(match))
        columns = match.clip(0)[:, None]
        own = np.take_along_axis(self.iou, columns, axis=1)[:, 0]
        return np.where(match >= 0, own, 0.0)

    def unexplained(self, match: Indices) -> Indices:
        """Return the confident detections that nothing labelled explains, best first.

        No thing and no crowd.
        """
        row = self._row
        every = np.ones(len(row.boxes), bool)
        inside = overlaps(row.pred_boxes, row.boxes, every).T  # [G, D] share of the detection
        part = self._same_class & (inside >= PART_SHARE)
        # An object without a detection may be this one, badly placed.
        same_place = self.iou >= SAME_PLACE_IOU
        without_detection = (match < 0)[:, None]
        misplaced = self._same_class & same_place & without_detection
        by_object = (self.iou >= SHARED_IOU) | part | misplaced
        by_crowd = inside >= CROWD_SHARE
        by_judged = by_object & self.judgeable[:, None]
        explained = by_judged | (by_crowd & row.crowd[:, None])
        confident = self._scores >= self._thresholds.confident[row.pred_labels]
        free = self._is_thing & self._free(match)
        extra = confident & free & ~explained.any(0)
        found = np.flatnonzero(extra)
        order = np.argsort(-row.pred_scores[found], kind="stable")
        return np.asarray(found[order], np.int64)

    def _free(self, match: Indices) -> Flags:
        """Return the detections [D] on which no verdict rests."""
        free = np.ones(len(self._scores), bool)
        free[match[match >= 0]] = False
        return free


def _assign(iou: Floats, allowed: Flags) -> Indices:
    """Return the column of each row, matched one to one.

    As many and as well overlapping as can be.
    """
    match = np.full(len(iou), -1, np.int64)
    worth = np.where(allowed, 1 + iou, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    good = allowed[rows, columns]
    match[rows[good]] = columns[good]
    return match


def _enclosing(boxes: Boxes, detections: Boxes, match: Indices) -> Boxes:
    """Return boxes [G, 4] grown to hold the matched detection too."""
    region = boxes.astype(np.float32)
    matched = match >= 0
    own = region[matched]
    other = detections[match[matched]]
    own[:, :2] = np.minimum(own[:, :2], other[:, :2])
    own[:, 2:] = np.maximum(own[:, 2:], other[:, 2:])
    region[matched] = own
    return region

"""Other judges for classes that the verifying detector finds too rarely.

Which of them real images show to be right. Two are tried on each such class: the detector itself at
a lower bar (weaker scores confirm too), and prototypes of crops in its features (prototypes.py).
Both are put to boxes of the validation images that are said to hold an object of the class: its
true objects, and false ones planted there (where nothing is, on another class, half beside the
object). Thresholds are those of the other folds. A judge is taken where, of these boxes,

    accepted true ones   >= min_recall, with a lower 95 % bound (Wilson) >= LEAST_TRUE, and
    accepted false ones  <= MOST_FALSE, with an upper 95 % bound <= SURE_FALSE;

of two the one with the larger difference of both shares. With none the class is not judged at all.

Legend: N boxes, of which T are true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.seeding import permuted, rng_for
from synthaug.pipeline.detection.proportions import wilson
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification.injected_errors import inject, is_free
from synthaug.pipeline.verification.thresholds import FOLDS, LEAST_TRUE
from synthaug.pipeline.verification.verdicts import (
    LEAST_IOU,
    MISPLACED,
    MISSING,
    Thresholds,
)

MOST_FALSE = 0.1
SURE_FALSE = 0.2
# Score from which on a detection counts at the lower bar; the detector must return such.
LOWER_BAR = 0.01
MOST_IMAGES = 100  # images, evenly spaced, that false boxes are planted in

NEVER = 1e300  # a margin that no crop has, and JSON can hold

LOWER, CROPS = "lower bar", "crops"

Box = NDArray[np.float32]


@dataclass(frozen=True)
class ClaimedBox:
    """A box of a validation image that is said to hold an object of a class."""

    row: int  # position of the image
    box: Box  # [4]
    is_true: bool


@dataclass(frozen=True)
class Evidence:
    """How often a judge accepts true and false boxes.

    Of images its thresholds were not learnt on.
    """

    true: int
    accepted_true: int
    false: int
    accepted_false: int

    @property
    def recall(self) -> float:
        """The share of true boxes it accepts."""
        return self.accepted_true / max(1, self.true)

    @property
    def false_rate(self) -> float:
        """The share of false boxes it accepts."""
        return self.accepted_false / max(1, self.false)

    @property
    def gain(self) -> float:
        """Return the difference of both.

        0 for a judge that does not look, 1 for one that is always right.
        """
        return self.recall - self.false_rate

    def holds(self, min_recall: float) -> bool:
        """Return whether the judge is right often enough, and shown to be."""
        lower, _ = wilson(self.accepted_true, self.true)
        _, upper = wilson(self.accepted_false, self.false)
        finds = self.recall >= min_recall and lower >= LEAST_TRUE
        return finds and self.false_rate <= MOST_FALSE and upper <= SURE_FALSE


@dataclass(frozen=True)
class TailJudge:
    """The judge of a class, its thresholds, and what it was chosen by."""

    judge: str  # LOWER, CROPS, or "": none is right often enough
    score: float  # LOWER: the least that confirms
    iou: float
    margin: float  # CROPS: the least that confirms
    tried: dict[str, Evidence]

    def to_json(self) -> Json:
        """Return plain data."""
        return asdict(self)


def claimed_boxes(
    rows: Sequence[DetectionRow], label: int, thresholds: Thresholds, seed: int
) -> list[ClaimedBox]:
    """Return the true objects of a class in validation images, and false ones.

    The latter are planted there. `thresholds` are those with this class alone as judged; `things`
    of it are the classes that others are taken from.
    """
    boxes = []
    with_class = []
    for position, row in enumerate(rows):
        own = (row.labels == label) & ~row.crowd
        if own.any():
            with_class.append(position)
        boxes += [ClaimedBox(position, box, True) for box in row.boxes[own]]
    if not boxes:
        return []
    size = min(len(rows), MOST_IMAGES)
    chosen = [k * len(rows) // size for k in range(size)]
    for position in sorted({*chosen, *with_class}):
        row = rows[position]
        rng = rng_for(seed, "claimed", label, position)
        drawn = int(rng.integers(len(with_class)))
        donor = rows[with_class[drawn]]
        for kind in (MISSING, MISPLACED):
            error = inject(row, donor, kind, thresholds, rng)
            if error is not None:
                boxes.append(ClaimedBox(position, error.box, False))
        other = _other_object(row, label, thresholds, rng)
        if other is not None:
            boxes.append(ClaimedBox(position, other, False))
    return boxes


def _other_object(
    row: DetectionRow, label: int, thresholds: Thresholds, rng: np.random.Generator
) -> Box | None:
    """Return the box of a thing of another class where no object of this class is.

    None without one.
    """
    is_thing = thresholds.things[row.labels]
    eligible = is_thing & ~row.crowd & (row.labels != label)
    positions = np.flatnonzero(eligible)
    for index in rng.permutation(positions).tolist():
        if is_free(row, row.boxes[index], label):
            box: Box = row.boxes[index]
            return box
    return None


def choose(
    rows: Sequence[DetectionRow],
    boxes: Sequence[ClaimedBox],
    margins: Floats | None,
    label: int,
    recall: float,
    min_recall: float,
    seed: int,
) -> TailJudge:
    """Try both judges on the claimed boxes of a class.

    `margins` [N] are those of the crops, None without prototypes. Thresholds are set so that
    `recall` of the true boxes pass.
    """
    num_rows = len(rows)
    fold_of_row = [permuted(index, num_rows, seed) % FOLDS for index in range(num_rows)]
    folds = np.array([fold_of_row[box.row] for box in boxes], np.int64)
    is_true = np.array([box.is_true for box in boxes], bool)
    best = _best_detections(rows, boxes, label)
    tried = {}
    accepted = np.zeros(len(boxes), bool)
    for fold in range(FOLDS):
        held_out = folds == fold
        score, iou = _lower_bar(best[is_true & ~held_out], recall)
        accepted[held_out] = _confirmed(best[held_out], score, iou)
    tried[LOWER] = _evidence(accepted, is_true)
    if margins is not None:
        for fold in range(FOLDS):
            held_out = folds == fold
            least = _least_margin(margins[~held_out], is_true[~held_out])
            accepted[held_out] = margins[held_out] >= least
        tried[CROPS] = _evidence(accepted, is_true)
    right = {}
    for name, own in tried.items():
        if own.holds(min_recall):
            right[name] = own.gain
    judge = max(right, key=lambda name: right[name], default="")
    score, iou = _lower_bar(best[is_true], recall)
    margin = 0.0
    if margins is not None:
        margin = _least_margin(margins, is_true)
    return TailJudge(judge, score, iou, margin, tried)


def _best_detections(
    rows: Sequence[DetectionRow], boxes: Sequence[ClaimedBox], label: int
) -> Floats:
    """Return score and IoU [N, 2] of the detection that confirms each box best.

    Of the class; 0 without one.
    """
    best = np.zeros((len(boxes), 2))
    for position, claimed in enumerate(boxes):
        row = rows[claimed.row]
        own = (row.pred_labels == label) & (row.pred_scores >= LOWER_BAR)
        no_crowd = np.zeros(1, bool)
        iou = overlaps(row.pred_boxes[own], claimed.box[None], no_crowd)[:, 0]
        near = iou >= LEAST_IOU
        if near.any():
            scores = row.pred_scores[own][near].astype(np.float64)
            top = int(np.argmax(scores * iou[near]))
            best[position] = scores[top], iou[near][top]
    return best


def _lower_bar(best: Floats, recall: float) -> tuple[float, float]:
    """Return the score and the IoU that `recall` of the true boxes [T, 2] reach.

    Each; never less than any detection.
    """
    if not len(best):
        return 1.0, 1.0
    quantile = (1 - recall) / 2
    at_quantile = np.quantile(best, quantile, axis=0, method="lower")
    score, iou = at_quantile.tolist()
    return max(score, LOWER_BAR), max(iou, LEAST_IOU)


def _confirmed(best: Floats, score: float, iou: float) -> Flags:
    is_sure = best[:, 0] >= score
    is_placed = best[:, 1] >= iou
    confirmed: Flags = is_sure & is_placed
    return confirmed


def _least_margin(margins: Floats, is_true: Flags) -> float:
    """Return the threshold that separates true and false boxes best.

    By the difference of accepted true and accepted false ones. It lies half-way to the next lower
    margin, because the true ones to come scatter too.
    """
    order = np.argsort(-margins, kind="stable")
    ranked = margins[order]
    truth = is_true[order]
    num_true = max(1, int(truth.sum()))
    num_false = max(1, int((~truth).sum()))
    true_accepted = np.cumsum(truth) / num_true
    false_accepted = np.cumsum(~truth) / num_false
    gain = true_accepted - false_accepted
    if not len(gain) or gain.max() <= 0:
        return NEVER
    best = int(np.argmax(gain))
    following = ranked[best]
    if best + 1 < len(ranked):
        following = ranked[best + 1]
    return float((ranked[best] + following) / 2)


def _evidence(accepted: Flags, is_true: Flags) -> Evidence:
    return Evidence(
        true=int(is_true.sum()),
        accepted_true=int((accepted & is_true).sum()),
        false=int((~is_true).sum()),
        accepted_false=int((accepted & ~is_true).sum()),
    )

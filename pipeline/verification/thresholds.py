"""Thresholds of verification, fitted per class, and both of its error rates.

On real validation images. The thresholds of a class are one quantile of the scores and the same
quantile of the IoUs with which true objects are detected: the highest at which the required share
of them still passes both. Both error rates are counted on images that the thresholds were not
fitted on: true objects that are rejected, and false labels, injected there, that are accepted.

Legend: N true objects, K detections that overlap one, G and D objects and detections of an image, C
classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.seeding import permuted, rng_for
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.proportions import wilson
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification.injected_errors import KINDS, inject
from synthaug.pipeline.verification.verdicts import (
    EXTRA,
    FAILED,
    KEPT,
    LEAST_IOU,
    LEAST_SCORE,
    SAME_PLACE_IOU,
    Thresholds,
    verdicts,
)

QUANTILES = 40  # tried per class
FOLDS = 5
DETECTOR = "detector"  # the judge of a class whose objects it finds often enough
LEAST_TRUE = 0.5  # lower 95 % bound (Wilson) of the share of true objects it finds at all
FOUND_IOU = 0.5  # of a detection with an object whose label was taken away, to be that object
SMALLEST = 0.01  # quantile of the labelled areas of a class that counts as its smallest

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Requirements:
    """What the thresholds must reach; the keys of `verify` of the same names."""

    recall: float = 0.95
    min_recall: float = 0.8
    min_truths: int = 10
    precision: float = 0.9


@dataclass(frozen=True)
class ClassThresholds:
    """The thresholds of one class, and what they were fitted on."""

    score: float
    iou: float
    confident: float | None  # None: no score is high enough
    judged: bool
    basis: str  # class | pooled (all classes together)
    truths: int  # real objects they were fitted on
    reached: float  # share of these that pass the lowest thresholds
    # DETECTOR, another judge of tail_judges.py, or "": the class has none
    judge: str = ""
    margin: float = 0.0  # the least that confirms, where prototypes of crops judge

    def to_json(self) -> Json:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ObjectDetections:
    """The detections of its class that overlap each of N true objects."""

    label: Indices  # [N]
    owner: Indices  # [K] index of the object
    score: Floats  # [K]
    iou: Floats  # [K]

    def of(self, chosen: Flags) -> ObjectDetections:
        """Return those of the objects at a mask [N]."""
        new_index = np.cumsum(chosen) - 1
        kept = chosen[self.owner]
        owner = new_index[self.owner[kept]]
        score = self.score[kept]
        return ObjectDetections(self.label[chosen], owner, score, self.iou[kept])

    def passing(self, score: float, iou: float) -> float:
        """Return the share of the objects with a detection that reaches both thresholds."""
        if not len(self.label):
            return 0.0
        good = (self.score >= score) & (self.iou >= iou)
        passing = np.unique(self.owner[good])
        return len(passing) / len(self.label)

    def best(self) -> Floats:
        """Return score and IoU [N, 2] of each object's best detection, 0 without one."""
        best = np.zeros((len(self.label), 2))
        worst_first = np.argsort(self.score * self.iou, kind="stable")
        for index in worst_first:
            best[self.owner[index]] = self.score[index], self.iou[index]
        return best


def object_detections(rows: Sequence[DetectionRow], things: Flags) -> ObjectDetections:
    """Collect the detections that overlap each true thing that is no crowd.

    Over images.
    """
    labels = [np.zeros(0, np.int64)]
    owners = [np.zeros(0, np.int64)]
    scores = [np.zeros(0, np.float64)]
    ious = [np.zeros(0, np.float64)]
    count = 0
    for row in rows:
        true = np.flatnonzero(~row.crowd & things[row.labels])
        no_crowd = np.zeros(len(true), bool)
        true_labels = row.labels[true]
        iou = overlaps(row.pred_boxes, row.boxes[true], no_crowd).T  # [G, D]
        same_class = true_labels[:, None] == row.pred_labels[None]
        same_place = iou >= SAME_PLACE_IOU
        at, detection = np.nonzero(same_place & same_class)
        labels.append(row.labels[true])
        owners.append(at + count)
        scores.append(row.pred_scores[detection].astype(np.float64))
        ious.append(iou[at, detection])
        count += len(true)
    return ObjectDetections(
        np.concatenate(labels),
        np.concatenate(owners).astype(np.int64),
        np.concatenate(scores),
        np.concatenate(ious),
    )


def fit(
    rows: Sequence[DetectionRow], things: Flags, required: Requirements
) -> list[ClassThresholds]:
    """Return the thresholds of each class [C].

    A class with few true objects takes those of all together.
    """
    detections = object_detections(rows, things)
    pooled = _highest_passing(detections, required.recall)
    confident = _confident_scores(rows, len(things), required)
    fitted = []
    for label, thing in enumerate(things.tolist()):
        own = detections.of(detections.label == label)
        truths = len(own.label)
        basis = "pooled"
        (score, iou) = pooled
        if truths >= required.min_truths:
            basis = "class"
            (score, iou) = _highest_passing(own, required.recall)
        reached = own.passing(LEAST_SCORE, LEAST_IOU)
        lower, _ = wilson(round(reached * truths), truths)
        judged = thing and reached >= required.min_recall and lower >= LEAST_TRUE
        judge = ""
        if judged:
            judge = DETECTOR
        fitted.append(
            ClassThresholds(
                score=score,
                iou=iou,
                confident=confident[label],
                judged=bool(judged),
                basis=basis,
                truths=truths,
                reached=round(reached, 4),
                judge=judge,
            )
        )
    return fitted


def _highest_passing(detections: ObjectDetections, recall: float) -> tuple[float, float]:
    """Return the highest (score, IoU) of one quantile that enough objects pass.

    Enough is `recall` of them; else the lowest.
    """
    best = detections.best()
    if not len(best):
        return LEAST_SCORE, LEAST_IOU
    for quantile in np.linspace(1 - recall, 0, QUANTILES):
        at_quantile = np.quantile(best, quantile, axis=0, method="lower")
        score, iou = at_quantile.tolist()
        score = max(score, LEAST_SCORE)
        iou = max(iou, LEAST_IOU)
        if detections.passing(score, iou) >= recall - 1e-9:
            return score, iou
    return LEAST_SCORE, LEAST_IOU


def _confident_scores(
    rows: Sequence[DetectionRow], num_classes: int, required: Requirements
) -> list[float | None]:
    """Return per class the score from which on `precision` of detections are right."""
    matches = calibration.match(rows, num_classes)
    rule = calibration.Rule(
        "precision", precision=required.precision, min_truths=required.min_truths
    )
    chosen = calibration.choose(matches, calibration.fit(matches), rule)
    scores: list[float | None] = []
    for threshold in chosen:
        score = None
        if threshold.basis != "fixed":
            score = threshold.score
        scores.append(score)
    return scores


def stack(fitted: Sequence[ClassThresholds], things: Flags, least_area: Floats) -> Thresholds:
    """Return the thresholds of all classes as arrays [C]."""
    confident = []
    for own in fitted:
        sure = np.inf
        if own.confident is not None:
            sure = max(own.confident, own.score)
        confident.append(sure)
    return Thresholds(
        score=np.array([own.score for own in fitted]),
        iou=np.array([own.iou for own in fitted]),
        confident=np.array(confident),
        least_area=least_area,
        judged=np.array([own.judged for own in fitted], bool),
        things=things,
    )


def least_areas(areas: Mapping[int, Sequence[float]], num_classes: int, part: float) -> Floats:
    """Return the image share [C] below which a missed object is too small.

    Too small to be found. It is `part` of the area of the class's smallest labelled boxes; `areas`
    has the areas of all of them by class.
    """
    pooled: list[float] = []
    for own in areas.values():
        pooled.extend(own)
    least = []
    for label in range(num_classes):
        of_class = areas.get(label) or pooled or [0.0]
        least.append(np.quantile(of_class, SMALLEST))
    return part * np.array(least, np.float64)


def held_out_errors(
    rows: Sequence[DetectionRow],
    things: Flags,
    least_area: Floats,
    required: Requirements,
    seed: int,
) -> Json:
    """Return both error rates on images that the thresholds were not fitted on.

    By K-fold cross-validation. `true` [per class]: verdicts on true objects. `planted` [per kind of
    error]: how many false labels were injected, how many were accepted, how many got the verdict
    they deserve. `extra`: confident detections that no true object explains.
    """
    folds = min(FOLDS, len(rows))
    if folds < 2:
        return {"folds": 0, "true": {}, "planted": {}, "extra": 0, "images": len(rows)}
    true: dict[int, Counter[str]] = {}
    errors = {kind: Counter(planted=0, accepted=0, named=0) for kind in KINDS}
    extra = 0
    num_rows = len(rows)
    fold_of = [permuted(index, num_rows, seed) % folds for index in range(num_rows)]
    for fold in range(folds):
        parts = zip(rows, fold_of, strict=True)
        others = [row for row, own in parts if own != fold]
        thresholds = stack(fit(others, things, required), things, least_area)
        held_out = [index for index, own in enumerate(fold_of) if own == fold]
        for index in held_out:
            result = verdicts(rows[index], thresholds)
            extra += len(result.extra)
            labels = rows[index].labels.tolist()
            for label, verdict in zip(labels, result.verdict, strict=True):
                if verdict is not None:
                    true.setdefault(label, Counter())[verdict] += 1
            for kind, counted in errors.items():
                counted.update(_inject_and_count(rows, index, kind, thresholds, seed))
    counts = {}
    for label, counted in sorted(true.items()):
        counts[label] = {name: counted[name] for name in (KEPT, *FAILED)}
    return {
        "folds": folds,
        "images": len(rows),
        "true": counts,
        "planted": {kind: dict(counted) for kind, counted in errors.items()},
        "extra": extra,
    }


def _inject_and_count(
    rows: Sequence[DetectionRow], index: int, kind: str, thresholds: Thresholds, seed: int
) -> Counter[str]:
    """Inject one error into an image's labels and judge them.

    1 under planted, accepted, named where so.
    """
    rng = rng_for(seed, "planted", kind, index)
    row = rows[index]
    donor = rows[int(rng.integers(len(rows)))]
    error = inject(row, donor, kind, thresholds, rng)
    if error is None:
        return Counter()
    wrong = replace(row, boxes=error.boxes, labels=error.labels, crowd=error.crowd, area=None)
    result = verdicts(wrong, thresholds)
    if kind == EXTRA:
        extra = row.pred_boxes[result.extra]
        iou = overlaps(extra, error.box[None], np.zeros(1, bool))
        named = bool((iou >= FOUND_IOU).any())
        accepted = not named
    else:
        own = [result.verdict[position] for position in error.indices]
        accepted = all(verdict == KEPT for verdict in own)
        named = kind in own
    return Counter(planted=1, accepted=int(accepted), named=int(named))

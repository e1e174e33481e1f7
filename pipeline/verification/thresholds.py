"""What the judge must find in a true object, learnt per class on real validation images, and how often it errs.

The bars of a class are one quantile of the scores and the same quantile of the IoUs that the judge reaches on true
objects: the highest at which the wanted share of them still passes both. Both error rates are counted on images that the
bars were not learnt on: true objects that are rejected, and false labels, planted there on purpose, that pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.seeding import permuted, rng_for
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import Rule
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, overlaps
from synthaug.pipeline.verification import injected_errors as planted
from synthaug.pipeline.verification.verdicts import (
    EXTRA,
    FAILED,
    KEPT,
    LEAST_IOU,
    LEAST_SCORE,
    PLACED,
    Bars,
    judge,
)

STEPS = 40  # quantiles tried
FOLDS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Demand:
    """What is asked of the bars; the keys of `verify` of the same names."""

    recall: float = 0.95
    min_recall: float = 0.8
    min_truths: int = 10
    precision: float = 0.9


@dataclass(frozen=True)
class Bar:
    """The bar of one class, and what it was learnt from."""

    score: float
    iou: float
    confident: float | None  # None: no score is high enough
    judged: bool
    basis: str  # class | pooled (all classes together)
    truths: int  # real objects it was learnt on
    reached: float  # share of these that pass the lowest bars

    def to_json(self) -> dict[str, Any]:
        """Plain content."""
        return asdict(self)


@dataclass(frozen=True)
class Sightings:
    """What the judge saw of N true objects: for each, the detections of its class that overlap it."""

    label: NDArray[np.int64]  # [N]
    owner: NDArray[np.int64]  # [K] which object
    score: Floats  # [K]
    iou: Floats  # [K]

    def of(self, chosen: NDArray[np.bool_]) -> Sightings:
        """Return those of the objects at a mask [N]."""
        number = np.cumsum(chosen) - 1
        kept = chosen[self.owner]
        return Sightings(
            self.label[chosen], number[self.owner[kept]], self.score[kept], self.iou[kept]
        )

    def passing(self, score: float, iou: float) -> float:
        """Share of the objects with a detection that reaches both."""
        good = (self.score >= score) & (self.iou >= iou)
        return len(np.unique(self.owner[good])) / len(self.label) if len(self.label) else 0.0


def sightings(rows: Sequence[DetectionRow], things: NDArray[np.bool_]) -> Sightings:
    """Collect, over images, the detections at each true thing that is no crowd."""
    labels, owners, scores, ious, count = [], [], [], [], 0
    for row in rows:
        true = np.flatnonzero(~row.crowd & things[row.labels])
        overlap = overlaps(row.pred_boxes, row.boxes[true], np.zeros(len(true), bool)).T  # [G, D]
        at, found = np.nonzero(
            (overlap >= PLACED) & (row.labels[true][:, None] == row.pred_labels[None])
        )
        labels.append(row.labels[true])
        owners.append(at + count)
        scores.append(row.pred_scores[found].astype(np.float64))
        ious.append(overlap[at, found])
        count += len(true)
    whole = np.zeros(0, np.int64)
    return Sightings(
        np.concatenate([whole, *labels]),
        np.concatenate([whole, *owners]).astype(np.int64),
        np.concatenate([whole.astype(np.float64), *scores]),
        np.concatenate([whole.astype(np.float64), *ious]),
    )


def _bar(seen: Sightings, recall: float) -> tuple[float, float]:
    """The highest (score, IoU) of one quantile that `recall` of the objects pass; the lowest ones where none does."""
    best = np.zeros((len(seen.label), 2))  # score, IoU of each object's best detection
    for place in np.argsort(seen.score * seen.iou, kind="stable"):
        best[seen.owner[place]] = seen.score[place], seen.iou[place]
    for q in np.linspace(1 - recall, 0, STEPS) if len(best) else ():
        score, iou = (float(value) for value in np.quantile(best, q, axis=0, method="lower"))
        score, iou = max(score, LEAST_SCORE), max(iou, LEAST_IOU)
        if seen.passing(score, iou) >= recall - 1e-9:
            return score, iou
    return LEAST_SCORE, LEAST_IOU


def learn(rows: Sequence[DetectionRow], things: NDArray[np.bool_], demand: Demand) -> list[Bar]:
    """Return the bar of each class [C]; a class with few true objects takes that of all classes together."""
    seen = sightings(rows, things)
    pooled = _bar(seen, demand.recall)
    confident = _confident(rows, len(things), demand)
    bars = []
    for label, thing in enumerate(things.tolist()):
        own = seen.of(seen.label == label)
        enough = len(own.label) >= demand.min_truths
        score, iou = _bar(own, demand.recall) if enough else pooled
        reached = own.passing(LEAST_SCORE, LEAST_IOU)
        judged = thing and len(own.label) > 0 and reached >= demand.min_recall
        basis = "class" if enough else "pooled"
        bars.append(
            Bar(
                score, iou, confident[label], bool(judged), basis, len(own.label), round(reached, 4)
            )
        )
    return bars


def _confident(
    rows: Sequence[DetectionRow], num_classes: int, demand: Demand
) -> list[float | None]:
    """Per class the score from which on `precision` of the detections are right."""
    matches = calibration.match(rows, num_classes)
    rule = Rule("precision", precision=demand.precision, min_truths=demand.min_truths)
    return [
        t.score if t.basis != "fixed" else None
        for t in calibration.choose(matches, calibration.fit(matches), rule)
    ]


def bars_of(learnt: Sequence[Bar], things: NDArray[np.bool_], least_area: Floats) -> Bars:
    """Return bars as `judge` takes them."""
    return Bars(
        np.array([bar.score for bar in learnt]),
        np.array([bar.iou for bar in learnt]),
        np.array(
            [np.inf if bar.confident is None else max(bar.confident, bar.score) for bar in learnt]
        ),
        least_area,
        np.array([bar.judged for bar in learnt], bool),
        things,
    )


def least_areas(areas: Mapping[int, Sequence[float]], num_classes: int, part: float) -> Floats:
    """Share of the image [C] below which a box is too small: `part` of what 99 % of the labelled boxes of its class have."""
    pooled = [area for found in areas.values() for area in found]
    return np.array(
        [
            part * float(np.quantile(areas.get(c) or pooled or [0.0], 0.01))
            for c in range(num_classes)
        ]
    )


def held_out(
    rows: Sequence[DetectionRow],
    things: NDArray[np.bool_],
    least_area: Floats,
    demand: Demand,
    seed: int,
) -> dict[str, Any]:
    """Both error rates, on images the bars were not learnt on (K-fold); content of `errors` in the manifest.

    `true` [per class]: verdicts on true objects. `planted` [per kind of fault]: how many false labels were planted, how many
    passed as kept, how many got the verdict they deserve. `extra`: confident detections that no true object explains.
    """
    folds = min(FOLDS, len(rows))
    true: dict[int, Counter[str]] = {}
    faults = {kind: Counter(planted=0, accepted=0, named=0) for kind in planted.FAULTS}
    extra = 0
    if folds < 2:
        return {"folds": 0, "true": {}, "planted": {}, "extra": 0, "images": len(rows)}
    part = [permuted(i, len(rows), seed) % folds for i in range(len(rows))]
    for fold in range(folds):
        learnt = learn(
            [row for row, k in zip(rows, part, strict=True) if k != fold], things, demand
        )
        bars = bars_of(learnt, things, least_area)
        for i in (i for i, k in enumerate(part) if k == fold):
            judged = judge(rows[i], bars)
            extra += len(judged.extra)
            for label, verdict in zip(rows[i].labels.tolist(), judged.verdict, strict=True):
                if verdict is not None:
                    true.setdefault(label, Counter())[verdict] += 1
            for kind, counted in faults.items():
                counted.update(_planted(rows, i, kind, bars, seed))
    return {
        "folds": folds,
        "images": len(rows),
        "true": {
            label: {name: counted[name] for name in (KEPT, *FAILED)}
            for label, counted in sorted(true.items())
        },
        "planted": {kind: dict(counted) for kind, counted in faults.items()},
        "extra": extra,
    }


def _planted(
    rows: Sequence[DetectionRow], index: int, kind: str, bars: Bars, seed: int
) -> Counter[str]:
    """Plant one fault in the labels of an image and judge them: counts under planted, accepted and named."""
    rng = rng_for(seed, "planted", kind, index)
    donor = rows[int(rng.integers(len(rows)))]
    fault = planted.plant(rows[index], donor, kind, bars, rng)
    if fault is None:
        return Counter()
    judged = judge(
        replace(rows[index], boxes=fault.boxes, labels=fault.labels, crowd=fault.crowd), bars
    )
    if kind == EXTRA:
        found = rows[index].pred_boxes[judged.extra]
        named = (
            bool((overlaps(found, fault.at[None], np.zeros(1, bool)) >= 0.5).any())
            if len(found)
            else False
        )
        return Counter(planted=1, accepted=int(not named), named=int(named))
    verdicts = [judged.verdict[place] for place in fault.places]
    accepted = all(verdict == KEPT for verdict in verdicts)
    return Counter(planted=1, accepted=int(accepted), named=int(kind in verdicts))

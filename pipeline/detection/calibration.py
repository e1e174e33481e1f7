"""What a detector's score is worth, and from which score on a detection is worth keeping: learnt on validation images.

The probability that a detection is right is a logistic function of the logit of its score (Platt 1999; of detections,
Küppers et al. 2020, section 3), one curve per class, each drawn towards the curve of all classes together as far as it has
few detections. From the probabilities p of a class with G true objects follow the expected numbers of hits, and with them
both rules: `f1` keeps what makes 2 sum(p) / (kept + G) largest, which is all with p >= F1 / 2 (Lipton, Elkan and
Naryanaswamy 2014, theorem 1); `precision` keeps as many as have mean(p), less one standard error, at the wanted share. Counts
of right and wrong detections would do in place of p, but jump from detection to detection: with few images they choose worse.

Legend: D detections, I images, C classes, K folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.seeding import permuted
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, match_row

RULES = ("fixed", "precision", "f1")
BINS = 10  # of scores and probabilities, of equal width
_NEAREST = 1e-6  # a score this near to 0 or 1 counts as this far: its logit is finite
_LEAST_SLOPE = 0.05  # a curve never falls: more score is never less probability
_PRIOR_ALL = (
    1.0  # precision of the prior of the curve of all classes, about "the score is the probability"
)
_PRIOR_CLASS = (
    4.0  # of a class's curve about that: some 20 detections in doubt count as much as the prior
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Every detection of some images with the verdict on it; those on crowds are left out."""

    image: NDArray[np.int64]  # [D] 0..I-1
    label: NDArray[np.int64]  # [D] 0..C-1
    score: Floats  # [D]
    right: NDArray[
        np.bool_
    ]  # [D] a true object of the class, IoU 0.5, that no better detection has taken
    truths: NDArray[np.int64]  # [I, C] true objects that are no crowd

    def of(self, images: NDArray[np.bool_]) -> Matches:
        """Return what belongs to the images at a mask [I]; the others count no objects and have no detections."""
        keep = images[self.image]
        truths = self.truths * images[:, None]
        return Matches(
            self.image[keep], self.label[keep], self.score[keep], self.right[keep], truths
        )


@dataclass(frozen=True)
class Curve:
    """Score to probability: sigmoid(slope * logit(score) + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, score: NDArray[Any]) -> Floats:
        """Probability of each score [D]."""
        return _sigmoid(self.slope * _logit(score) + self.offset)

    def score_at(self, probability: float) -> float:
        """Return the score that has this probability."""
        return float(_sigmoid((_logit(np.array(probability)) - self.offset) / self.slope))


@dataclass(frozen=True)
class Threshold:
    """The least score of a class that is kept; None keeps nothing."""

    score: float | None
    basis: str  # class | pooled (all classes together) | fixed | unreached

    @property
    def at(self) -> float:
        """The score as a number: infinite where nothing is kept."""
        return np.inf if self.score is None else self.score


@dataclass(frozen=True)
class Rule:
    """How thresholds are chosen; the keys of `pseudo_label` of the same names."""

    name: str = "f1"
    threshold: float = 0.5
    precision: float = 0.9
    min_truths: int = 10


@dataclass(frozen=True)
class Calibration:
    """One curve per class, and what they were drawn towards."""

    pooled: Curve
    classes: Sequence[Curve] = field(default=())

    def probability(self, labels: NDArray[np.int64], scores: NDArray[Any]) -> Floats:
        """Probability that each detection [D] is right."""
        slope, offset = (
            np.array([getattr(c, name) for c in self.classes]) for name in ("slope", "offset")
        )
        return _sigmoid(slope[labels] * _logit(scores) + offset[labels])


def match(rows: Iterable[DetectionRow], num_classes: int) -> Matches:
    """Compare detections with the truth, one row per image, greedily by score at IoU 0.5 as COCO does."""
    images, labels, scores, right, truths = [], [], [], [], []
    for image, row in enumerate(rows):
        state = match_row(row, range(num_classes), 0.5)
        counts = state >= 0
        images.append(np.full(int(counts.sum()), image, np.int64))
        labels.append(row.pred_labels[counts])
        scores.append(row.pred_scores[counts].astype(np.float64))
        right.append(state[counts] == 1)
        truths.append(np.bincount(row.labels[~row.crowd], minlength=num_classes))
    none = np.zeros(0, np.int64)
    return Matches(
        np.concatenate([none, *images]),
        np.concatenate([none, *labels]),
        np.concatenate([none.astype(np.float64), *scores]),
        np.concatenate([none.astype(np.bool_), *right]),
        np.array(truths, np.int64).reshape(-1, num_classes),
    )


def fit(matches: Matches) -> Calibration:
    """Fit the curve of all classes, then each class's own."""
    pooled = _fit_curve(matches.score, matches.right, Curve(), _PRIOR_ALL)
    classes = []
    for label in range(matches.truths.shape[1]):
        of_class = matches.label == label
        classes.append(
            _fit_curve(matches.score[of_class], matches.right[of_class], pooled, _PRIOR_CLASS)
        )
    return Calibration(pooled, classes)


def _fit_curve(scores: Floats, right: NDArray[np.bool_], prior: Curve, strength: float) -> Curve:
    """The most probable curve under a normal prior of precision `strength` about `prior` (Newton; convex)."""
    design = np.stack([_logit(scores), np.ones(len(scores))], axis=1)  # [D, 2]
    centre = np.array([prior.slope, prior.offset])
    for weights in (np.array([strength, strength]), np.array([1e9, strength])):
        value = _newton(design, right.astype(np.float64), centre, weights)
        if value[0] >= _LEAST_SLOPE:
            break
        centre = np.array(
            [_LEAST_SLOPE, prior.offset]
        )  # scores that mislead: hold the slope, fit the offset
    return Curve(max(float(value[0]), _LEAST_SLOPE), float(value[1]))


def _newton(design: Floats, target: Floats, centre: Floats, strength: Floats) -> Floats:
    """Minimise the log loss plus strength * (value - centre)^2 / 2, with steps halved until it falls."""

    def loss(value: Floats) -> float:
        margin = design @ value
        fit = np.logaddexp(0, margin).sum() - margin @ target
        return float(fit + (strength * (value - centre) ** 2).sum() / 2)

    value = centre
    for _ in range(100):
        p = _sigmoid(design @ value)
        gradient = design.T @ (p - target) + strength * (value - centre)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(strength)
        step, now = np.linalg.solve(hessian, gradient), loss(value)
        while loss(value - step) > now and abs(step).max() > 1e-12:
            step = step / 2
        value = value - step
        if abs(step).max() < 1e-10:
            break
    return value


def choose(matches: Matches, calibration: Calibration, rule: Rule) -> list[Threshold]:
    """Return the threshold of each class [C].

    A class with fewer than `min_truths` true objects or no detection takes that of all classes together, which is the
    fixed one where nothing was detected at all.
    """
    truths = matches.truths.sum(0)
    if rule.name == "fixed":
        return [Threshold(rule.threshold, "fixed")] * len(truths)
    pooled = Threshold(rule.threshold, "fixed")
    if len(matches.score):
        score = _threshold(matches.score, calibration.pooled, int(truths.sum()), rule)
        pooled = Threshold(score, "unreached" if score is None else "pooled")
    chosen = []
    for label, (curve, objects) in enumerate(
        zip(calibration.classes, truths.tolist(), strict=True)
    ):
        scores = matches.score[matches.label == label]
        if objects < rule.min_truths or not len(scores):
            chosen.append(pooled)
            continue
        score = _threshold(scores, curve, objects, rule)
        chosen.append(Threshold(score, "unreached" if score is None else "class"))
    return chosen


def _threshold(scores: Floats, curve: Curve, truths: int, rule: Rule) -> float | None:
    best = np.sort(scores)[::-1]
    p = curve(best)
    kept, hits = np.arange(1, len(best) + 1), np.cumsum(p)
    if rule.name == "f1":
        return curve.score_at(float((2 * hits / (kept + truths)).max()) / 2)
    error = np.sqrt(np.cumsum(p * (1 - p))) / kept
    reached = np.flatnonzero(hits / kept - error >= rule.precision)
    return float(best[reached[-1]]) if len(reached) else None


def apply(
    thresholds: Sequence[Threshold], labels: NDArray[np.int64], scores: NDArray[Any]
) -> NDArray[np.bool_]:
    """Return which detections [D] are kept; compared as float32, so that a score of 0.77 reaches a threshold of 0.77."""
    least = np.array([threshold.at for threshold in thresholds], np.float32)
    return np.asarray(scores.astype(np.float32) >= least[labels])


@dataclass(frozen=True)
class HeldOut:
    """What thresholds and probabilities do to images they were not learnt on."""

    counts: Mapping[str, NDArray[np.int64]]  # rule -> [C, 3] hits, false alarms, misses
    probability: Floats  # [D] of each detection, by curves that did not see its image


def cross_validate(
    matches: Matches, rules: Sequence[Rule], folds: int, seed: int
) -> HeldOut | None:
    """Learn on K-1 of K parts of the images and count on the one left out, each in turn; None for a single image."""
    images, num_classes = matches.truths.shape
    folds = min(folds, images)
    if folds < 2:
        return None
    part = np.array([permuted(i, images, seed) % folds for i in range(images)])
    counts = {rule.name: np.zeros((num_classes, 3), np.int64) for rule in rules}
    probability = np.zeros(len(matches.score))
    for k in range(folds):
        rest, held = matches.of(part != k), matches.of(part == k)
        calibration = fit(rest)
        probability[part[matches.image] == k] = calibration.probability(held.label, held.score)
        for rule in rules:
            counts[rule.name] += count(held, choose(rest, calibration, rule))
    return HeldOut(counts, probability)


def count(matches: Matches, thresholds: Sequence[Threshold]) -> NDArray[np.int64]:
    """Count hits, false alarms and misses [C, 3] of what is kept."""
    keep = apply(thresholds, matches.label, matches.score)
    num_classes = matches.truths.shape[1]
    hits = np.bincount(matches.label[keep & matches.right], minlength=num_classes)
    false = np.bincount(matches.label[keep & ~matches.right], minlength=num_classes)
    return np.stack([hits, false, matches.truths.sum(0) - hits], axis=1)


def ratios(counts: NDArray[np.int64]) -> dict[str, float | int | None]:
    """Precision, recall and F1 from hits, false alarms and misses [3]; None without anything to divide by."""
    hits, false, missed = counts.tolist()
    return {
        "precision": round(hits / (hits + false), 4) if hits + false else None,
        "recall": round(hits / (hits + missed), 4) if hits + missed else None,
        "f1": round(2 * hits / (2 * hits + false + missed), 4) if hits + false + missed else None,
        "truth": hits + missed,
        "found": hits + false,
    }


def reliability(probability: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Expected calibration error (Naeini, Cooper and Hauskrecht 2015), Brier score, and per bin [mean, share right, D]."""
    if not len(right):
        return {"ece": None, "brier": None, "bins": []}
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    sizes = np.bincount(place, minlength=BINS)
    sums = [
        np.bincount(place, weights=values, minlength=BINS)
        for values in (probability, right.astype(np.float64))
    ]
    used = np.flatnonzero(sizes)
    said, true = (total[used] / sizes[used] for total in sums)
    error = float((np.abs(said - true) * sizes[used]).sum() / len(right))
    bins = [
        [round(a, 4), round(b, 4), n]
        for a, b, n in zip(said.tolist(), true.tolist(), sizes[used].tolist(), strict=True)
    ]
    return {
        "ece": round(error, 4),
        "brier": round(float(((probability - right) ** 2).mean()), 4),
        "bins": bins,
    }


def _logit(p: NDArray[Any]) -> Floats:
    inside = np.clip(np.asarray(p, np.float64), _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _sigmoid(x: NDArray[Any]) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))

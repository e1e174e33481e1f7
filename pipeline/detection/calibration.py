"""Calibration of a detector's scores, and thresholds for what is kept.

Both are fitted on validation images. The probability that a detection is right is a logistic
function of the logit of its score (Platt 1999; of detections, Küppers et al. 2020, section 3), one
curve per class, each drawn towards the curve of all classes together as far as it has few
detections. From the probabilities p of a class with G true objects follow the expected numbers of
hits, and with them both rules: `f1` keeps what makes 2 sum(p) / (kept + G) largest, which is all
with p >= F1 / 2 (Lipton, Elkan and Naryanaswamy 2014, theorem 1); `precision` keeps as many as have
mean(p), less one standard error, at the wanted share. Counts of right and wrong detections would do
in place of p, but jump from detection to detection: with few images they choose worse.

Legend: D detections, I images, C classes, K folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.core.seeding import permuted
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, match_row

RULES = ("fixed", "precision", "f1")
BINS = 10  # of scores and probabilities, of equal width
_NEAREST = 1e-6  # a score this near to 0 or 1 counts as this far: its logit is finite
_LEAST_SLOPE = 0.05  # a curve never falls: more score is never less probability
# precision of the prior of the curve of all classes, about "the score is the probability"
_PRIOR_ALL = 1.0
# of a class's curve about that: some 20 detections in doubt count as much as the prior
_PRIOR_CLASS = 4.0


@dataclass(frozen=True)
class Matches:
    """Every detection of some images, right or not; those on crowds are left out."""

    image: Ints  # [D] 0..I-1
    label: Ints  # [D] 0..C-1
    score: Floats  # [D]
    # [D] a true object of the class, IoU 0.5, that no better detection has taken
    right: Flags
    truths: Ints  # [I, C] true objects that are no crowd

    def of(self, images: Flags) -> Matches:
        """Return the matches of the images at a mask [I].

        The others count no objects and have no detections.
        """
        keep = images[self.image]
        return Matches(
            image=self.image[keep],
            label=self.label[keep],
            score=self.score[keep],
            right=self.right[keep],
            truths=self.truths * images[:, None],
        )


@dataclass(frozen=True)
class Curve:
    """Score to probability: sigmoid(slope * logit(score) + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, score: NDArray[Any]) -> Floats:
        """Return the probability of each score [D]."""
        return _sigmoid(self.slope * _logit(score) + self.offset)

    def score_at(self, probability: float) -> float:
        """Return the score that has this probability."""
        logit = _logit(np.array(probability))
        return float(_sigmoid((logit - self.offset) / self.slope))


@dataclass(frozen=True)
class Threshold:
    """The least score of a class that is kept; None keeps nothing."""

    score: float | None
    basis: str  # class | pooled (all classes together) | fixed | unreached

    @property
    def at(self) -> float:
        """The score as a number: infinite where nothing is kept."""
        if self.score is None:
            return np.inf
        return self.score


@dataclass(frozen=True)
class Rule:
    """The rule by which thresholds are chosen.

    The keys of `pseudo_label` have the same names.
    """

    name: str = "f1"
    threshold: float = 0.5
    precision: float = 0.9
    min_truths: int = 10


@dataclass(frozen=True)
class Calibration:
    """One curve per class, and the curve of all classes that they were drawn towards."""

    pooled: Curve
    classes: Sequence[Curve] = field(default=())

    def probability(self, labels: Ints, scores: NDArray[Any]) -> Floats:
        """Return the probability that each detection [D] is right."""
        slope = np.array([curve.slope for curve in self.classes])
        offset = np.array([curve.offset for curve in self.classes])
        return _sigmoid(slope[labels] * _logit(scores) + offset[labels])


def match(rows: Iterable[DetectionRow], num_classes: int) -> Matches:
    """Compare detections with the truth, one row per image.

    Greedily by score at IoU 0.5, as COCO does.
    """
    images = [np.zeros(0, np.int64)]
    labels = [np.zeros(0, np.int64)]
    scores = [np.zeros(0, np.float64)]
    right = [np.zeros(0, np.bool_)]
    truths = []
    for image, row in enumerate(rows):
        state = match_row(row, range(num_classes), 0.5)
        counts = state >= 0
        images.append(np.full(int(counts.sum()), image, np.int64))
        labels.append(row.pred_labels[counts])
        scores.append(row.pred_scores[counts].astype(np.float64))
        right.append(state[counts] == 1)
        counted = row.labels[~row.crowd]
        truths.append(np.bincount(counted, minlength=num_classes))
    return Matches(
        image=np.concatenate(images),
        label=np.concatenate(labels),
        score=np.concatenate(scores),
        right=np.concatenate(right),
        truths=np.array(truths, np.int64).reshape(-1, num_classes),
    )


def fit(matches: Matches) -> Calibration:
    """Fit the curve of all classes, then each class's own."""
    pooled = _fit_curve(matches.score, matches.right, Curve(), _PRIOR_ALL)
    classes = []
    for label in range(matches.truths.shape[1]):
        of_class = matches.label == label
        scores = matches.score[of_class]
        right = matches.right[of_class]
        classes.append(_fit_curve(scores, right, pooled, _PRIOR_CLASS))
    return Calibration(pooled, classes)


def _fit_curve(scores: Floats, right: Flags, prior: Curve, strength: float) -> Curve:
    """Return the most probable curve under a normal prior.

    The prior has precision `strength` about `prior`; the problem is convex, and Newton's method
    solves it.
    """
    ones = np.ones(len(scores))
    design = np.stack([_logit(scores), ones], axis=1)  # [D, 2]
    target = right.astype(np.float64)
    centre = np.array([prior.slope, prior.offset])
    strengths = np.array([strength, strength])
    value = _newton(design, target, centre, strengths)
    if value[0] < _LEAST_SLOPE:  # scores that mislead: hold the slope, fit the offset
        centre = np.array([_LEAST_SLOPE, prior.offset])
        value = _newton(design, target, centre, np.array([1e9, strength]))
    slope, offset = value.tolist()
    return Curve(max(slope, _LEAST_SLOPE), offset)


def _newton(design: Floats, target: Floats, centre: Floats, strength: Floats) -> Floats:
    """Minimize the log loss plus strength * (value - centre)^2 / 2.

    Newton's method, with steps halved until the sum falls.
    """

    def loss(value: Floats) -> float:
        margin = design @ value
        fit = np.logaddexp(0, margin).sum() - margin @ target
        distance = (value - centre) ** 2
        return float(fit + (strength * distance).sum() / 2)

    value = centre
    for _ in range(100):
        p = _sigmoid(design @ value)
        pull = strength * (value - centre)
        gradient = design.T @ (p - target) + pull
        weighed = design * (p * (1 - p))[:, None]
        hessian = weighed.T @ design + np.diag(strength)
        step = np.linalg.solve(hessian, gradient)
        current = loss(value)
        while loss(value - step) > current and abs(step).max() > 1e-12:
            step = step / 2
        value = value - step
        if abs(step).max() < 1e-10:
            break
    return value


def choose(matches: Matches, calibration: Calibration, rule: Rule) -> list[Threshold]:
    """Return the threshold of each class [C].

    A class with fewer than `min_truths` true objects or no detection takes that of all classes
    together, which is the fixed one where nothing was detected at all.
    """
    truths = matches.truths.sum(0)
    fixed = Threshold(rule.threshold, "fixed")
    if rule.name == "fixed":
        return [fixed] * len(truths)
    pooled = fixed
    if len(matches.score):
        num_objects = int(truths.sum())
        score = _threshold(matches.score, calibration.pooled, num_objects, rule)
        pooled = _reached(score, "pooled")
    thresholds = []
    for label, num_objects in enumerate(truths.tolist()):
        scores = matches.score[matches.label == label]
        if num_objects < rule.min_truths or not len(scores):
            thresholds.append(pooled)
            continue
        score = _threshold(scores, calibration.classes[label], num_objects, rule)
        thresholds.append(_reached(score, "class"))
    return thresholds


def _reached(score: float | None, basis: str) -> Threshold:
    if score is None:
        return Threshold(None, "unreached")
    return Threshold(score, basis)


def _threshold(scores: Floats, curve: Curve, num_objects: int, rule: Rule) -> float | None:
    """Return the least score that is kept; None where the precision is never reached.

    Judged by the expected numbers of hits.
    """
    best = np.sort(scores)[::-1]
    p = curve(best)
    num_kept = np.arange(1, len(best) + 1)
    hits = np.cumsum(p)
    if rule.name == "f1":
        f1 = 2 * hits / (num_kept + num_objects)
        return curve.score_at(float(f1.max()) / 2)
    variance = np.cumsum(p * (1 - p))
    error = np.sqrt(variance) / num_kept
    reached = np.flatnonzero(hits / num_kept - error >= rule.precision)
    if not len(reached):
        return None
    return float(best[reached[-1]])


def apply(thresholds: Sequence[Threshold], labels: Ints, scores: NDArray[Any]) -> Flags:
    """Return whether each detection [D] is kept.

    Compared as float32, so that a score of 0.77 reaches a threshold of 0.77.
    """
    scores_kept = [threshold.at for threshold in thresholds]
    least = np.array(scores_kept, np.float32)
    return np.asarray(scores.astype(np.float32) >= least[labels])


@dataclass(frozen=True)
class HeldOut:
    """Counts and probabilities on images that nothing was fitted on."""

    counts: Mapping[str, Ints]  # rule -> [C, 3] hits, false alarms, misses
    probability: Floats  # [D] of each detection, by curves that did not see its image


def cross_validate(
    matches: Matches, rules: Sequence[Rule], folds: int, seed: int
) -> HeldOut | None:
    """Fit on K-1 of K parts of the images and count on the rest, each in turn.

    None for a single image.
    """
    num_images, num_classes = matches.truths.shape
    folds = min(folds, num_images)
    if folds < 2:
        return None
    folds_in_order = [permuted(i, num_images, seed) % folds for i in range(num_images)]
    fold_of_image = np.array(folds_in_order)
    counts = {rule.name: np.zeros((num_classes, 3), np.int64) for rule in rules}
    probability = np.zeros(len(matches.score))
    for fold in range(folds):
        rest = matches.of(fold_of_image != fold)
        held_out = matches.of(fold_of_image == fold)
        calibration = fit(rest)
        is_held_out = fold_of_image[matches.image] == fold  # [D]
        probability[is_held_out] = calibration.probability(held_out.label, held_out.score)
        for rule in rules:
            thresholds = choose(rest, calibration, rule)
            counts[rule.name] += count(held_out, thresholds)
    return HeldOut(counts, probability)


def count(matches: Matches, thresholds: Sequence[Threshold]) -> Ints:
    """Count hits, false alarms and misses [C, 3] of the detections that are kept."""
    keep = apply(thresholds, matches.label, matches.score)
    num_classes = matches.truths.shape[1]
    kept_right = matches.label[keep & matches.right]
    kept_wrong = matches.label[keep & ~matches.right]
    hits = np.bincount(kept_right, minlength=num_classes)
    false_alarms = np.bincount(kept_wrong, minlength=num_classes)
    misses = matches.truths.sum(0) - hits
    return np.stack([hits, false_alarms, misses], axis=1)


def ratios(counts: Ints) -> dict[str, float | int | None]:
    """Return precision, recall and F1 from hits, false alarms and misses [3].

    None where there is nothing to divide by.
    """
    hits, false_alarms, misses = counts.tolist()
    return {
        "precision": _share(hits, hits + false_alarms),
        "recall": _share(hits, hits + misses),
        "f1": _share(2 * hits, 2 * hits + false_alarms + misses),
        "truth": hits + misses,
        "found": hits + false_alarms,
        "right": hits,
    }


def _share(part: int, total: int) -> float | None:
    if not total:
        return None
    return round(part / total, 4)


def reliability(probability: Floats, right: Flags) -> Json:
    """Return the calibration error, the Brier score, and rows of a diagram.

    A row per bin: [mean probability, share right, D]. The error is that of Naeini, Cooper and
    Hauskrecht (2015).
    """
    if not len(right):
        return {"ece": None, "brier": None, "bins": []}
    bins_of = (probability * BINS).astype(np.int64)
    bin_of = np.minimum(bins_of, BINS - 1)
    sizes = np.bincount(bin_of, minlength=BINS)
    used = np.flatnonzero(sizes)
    total_probability = np.bincount(bin_of, weights=probability, minlength=BINS)
    total_right = np.bincount(bin_of, weights=right.astype(np.float64), minlength=BINS)
    mean_probability = total_probability[used] / sizes[used]
    share_right = total_right[used] / sizes[used]
    differences = np.abs(mean_probability - share_right)
    error = (differences * sizes[used]).sum() / len(right)
    bins = []
    for k in range(len(used)):
        mean = float(mean_probability[k])
        share = float(share_right[k])
        bins.append([round(mean, 4), round(share, 4), int(sizes[used[k]])])
    brier = ((probability - right) ** 2).mean()
    return {"ece": round(float(error), 4), "brier": round(float(brier), 4), "bins": bins}


def _logit(p: NDArray[Any]) -> Floats:
    values = np.asarray(p, np.float64)
    inside = np.clip(values, _NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _sigmoid(x: NDArray[Any]) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))

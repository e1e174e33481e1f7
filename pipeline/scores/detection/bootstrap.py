"""Bootstrap of COCO's average precision over images or layouts (Efron 1979).

Its spread with other images.

Legend: N detections of one class, C classes, T IoU thresholds (10), P recall points (101), U units,
R resamples, H hits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Floats, Ints
from synthaug.pipeline.scores.detection.evaluator import DetectionRow, match_at

KEYS = ("AP", "AP50", "AP75")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
# weights of detections held at once, 32 MB: memory does not grow with the number of resamples
BLOCK = 4_000_000


def bootstrap_ap(
    rows: Sequence[DetectionRow], classes: Sequence[int], resamples: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Return KEYS per resample and class, each [R, C].

    NaN where a resample has no truth of the class. `rows` are those of an evaluator, in its order.
    Images are drawn with replacement, all samples of one layout together (they are not
    independent). The same `rng` state and the same images give the same draws, so two detectors can
    be compared in pairs. Each image is matched once per threshold: a resample only weights it,
    which is exact up to the order of equal scores.
    """
    if not rows:
        nothing = np.full((resamples, len(classes)), np.nan)
        return {key: nothing.copy() for key in KEYS}
    indices = [row.index for row in rows]
    units, unit_of_row = np.unique(indices, return_inverse=True)
    num_units = len(units)
    equal = np.full(num_units, 1 / num_units)
    draws = rng.multinomial(num_units, equal, size=resamples)  # [R, U]

    # all detections of all rows, one after the other [D]
    thresholds = THRESHOLDS.tolist()
    labels_of = []
    scores_of = []
    states_of = []
    lengths = []
    for row in rows:
        labels_of.append(row.pred_labels)
        scores_of.append(row.pred_scores)
        states_of.append(match_at(row, classes, thresholds))
        lengths.append(len(row.pred_labels))
    labels = np.concatenate(labels_of)
    scores = np.concatenate(scores_of)
    states = np.concatenate(states_of, axis=1)  # [T, D]
    unit = np.repeat(unit_of_row, lengths)

    ap = np.empty((len(THRESHOLDS), resamples, len(classes)))
    for k, c in enumerate(classes):
        of_class = np.flatnonzero(labels == c)
        order = np.argsort(-scores[of_class], kind="stable")
        of_class = of_class[order]  # [N]
        counts = []
        for row in rows:
            is_counted = row.labels[~row.crowd] == c
            counts.append(int(is_counted.sum()))
        per_unit = np.bincount(unit_of_row, weights=counts, minlength=num_units)  # [U]
        truth = draws.astype(np.float64) @ per_unit  # [R]
        most = max(1, len(of_class))
        step = max(1, BLOCK // most)
        for start in range(0, resamples, step):
            part = slice(start, start + step)
            of_part = draws[part]
            weights = of_part[:, unit[of_class]]  # [r, N]
            ap[:, part, k] = _average_precision(states[:, of_class], weights, truth[part])
    return {
        "AP": ap.mean(axis=0),
        "AP50": ap[0],
        "AP75": ap[5],
    }


def interval(draws: Floats, estimate: float | None) -> tuple[float | None, float | None]:
    """Return the 95 % interval of an estimate from draws [R, C].

    Each draw is first averaged over the classes it has. Estimate ± 1.96 standard deviations of the
    draws, within [0, 1]: the draws' own centre lies too high, because the interpolated precision
    takes maxima, and repeated images make these larger.
    """
    is_empty = np.isnan(draws).all(axis=1)
    usable = draws[~is_empty]
    if estimate is None or len(usable) < 2:
        return None, None
    means = np.nanmean(usable, axis=1)
    deviation = float(means.std(ddof=1))
    low = estimate - 1.96 * deviation
    high = estimate + 1.96 * deviation
    return max(0.0, low), min(1.0, high)


def _average_precision(states: NDArray[np.int8], weights: Ints, truth: Floats) -> Floats:
    """Return 101-point AP [T, R] of detections [T, N], best first.

    Each is counted weights [R, N] times; NaN without truth. Precision is computed at hits only:
    recall is first reached at one, and the maximum of precision lies at one.
    """
    ap = np.full((len(states), len(truth)), np.nan)
    num_seen = np.cumsum(weights, axis=1)  # [R, N] detections up to each
    for t, state in enumerate(states):
        hit = np.flatnonzero(state == 1)
        ignored = np.flatnonzero(state == -1)
        # of the detections up to each hit, those that do not count [R, H]
        ignored_so_far = np.cumsum(weights[:, ignored], axis=1)
        from_none = np.pad(ignored_so_far, ((0, 0), (1, 0)))
        num_before = np.searchsorted(ignored, hit)
        num_ignored = from_none[:, num_before]
        num_hits = np.cumsum(weights[:, hit], axis=1)  # [R, H]
        num_counted = num_seen[:, hit] - num_ignored
        precision = num_hits / (num_counted + np.spacing(1.0))
        from_the_end = np.maximum.accumulate(precision[:, ::-1], axis=1)
        highest = from_the_end[:, ::-1]
        envelope = np.pad(highest, ((0, 0), (0, 1)))  # [R, H + 1]
        for r in np.flatnonzero(truth):
            recall = num_hits[r] / truth[r]
            first = np.searchsorted(recall, RECALL_POINTS)
            ap[t, r] = envelope[r, first].mean()
    return ap

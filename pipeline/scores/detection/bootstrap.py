"""How far COCO's average precision would move with other images: the bootstrap over images or layouts (Efron 1979).

Legend: N detections of one class, C classes, T IoU thresholds (10), P recall points (101), U units, R resamples, H hits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.scores.detection.evaluator import DetectionRow, match_at

KEYS = ("AP", "AP50", "AP75")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
BLOCK = 4_000_000  # weights of detections held at once, 32 MB: memory does not grow with the number of resamples


def bootstrap_ap(
    rows: Sequence[DetectionRow], classes: Sequence[int], resamples: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return KEYS per resample and class, each [R, C], NaN where a resample has no truth of the class.

    `rows` are those of an evaluator, in its order. Images are drawn with replacement, all samples of one layout together
    (they are not independent). The same `rng` state and the same images give the same draws, so two detectors can be
    compared in pairs. Each image is matched once per threshold: a resample only weights it, which is exact up to the order
    of equal scores.
    """
    if not rows:
        return {key: np.full((resamples, len(classes)), np.nan) for key in KEYS}
    units, unit_of = np.unique([row.index for row in rows], return_inverse=True)
    draws = rng.multinomial(
        len(units), np.full(len(units), 1 / len(units)), size=resamples
    )  # [R, U]
    labels = np.concatenate([row.pred_labels for row in rows])
    scores = np.concatenate([row.pred_scores for row in rows])
    states = np.concatenate(
        [match_at(row, classes, THRESHOLDS.tolist()) for row in rows], axis=1
    )  # [T, all detections]
    unit = np.repeat(unit_of, [len(row.pred_labels) for row in rows])
    curves = np.empty((len(THRESHOLDS), resamples, len(classes)))  # AP per threshold
    for k, c in enumerate(classes):
        own = np.flatnonzero(labels == c)
        own = own[np.argsort(-scores[own], kind="stable")]
        counts = [int((row.labels[~row.crowd] == c).sum()) for row in rows]
        per_unit = np.bincount(unit_of, weights=counts, minlength=len(units))  # [U]
        truth = draws.astype(np.float64) @ per_unit  # [R]
        step = max(1, BLOCK // max(1, len(own)))
        for start in range(0, resamples, step):
            part = slice(start, start + step)
            curves[:, part, k] = _average_precision(
                states[:, own], draws[part][:, unit[own]], truth[part]
            )
    return {"AP": curves.mean(axis=0), "AP50": curves[0], "AP75": curves[5]}


def interval(
    draws: NDArray[np.float64], estimate: float | None
) -> tuple[float | None, float | None]:
    """Return the 95 % interval of an estimate from draws [R, C], each first averaged over the classes it has.

    Estimate ± 1.96 standard deviations of the draws, within [0, 1]: the draws' own centre lies too high, because the
    interpolated precision takes maxima, and repeated images make these larger.
    """
    usable = draws[~np.isnan(draws).all(axis=1)]
    if estimate is None or len(usable) < 2:
        return None, None
    reach = 1.96 * float(np.nanmean(usable, axis=1).std(ddof=1))
    return max(0.0, estimate - reach), min(1.0, estimate + reach)


def _average_precision(
    states: NDArray[np.int8], weights: NDArray[np.int64], truth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return 101-point AP [T, R] of detections [T, N], best first, each counted weights [R, N] times; NaN without truth.

    Precision is looked at where there is a hit only: recall is first reached at one, and its maximum lies at one.
    """
    out = np.full((len(states), len(truth)), np.nan)
    seen = np.cumsum(weights, axis=1)  # [R, N] detections up to each
    for t, state in enumerate(states):
        hit, ignored = np.flatnonzero(state == 1), np.flatnonzero(state == -1)
        aside = np.pad(np.cumsum(weights[:, ignored], axis=1), ((0, 0), (1, 0)))[
            :, np.searchsorted(ignored, hit)
        ]
        hits = np.cumsum(weights[:, hit], axis=1)  # [R, H]
        precision = hits / (seen[:, hit] - aside + np.spacing(1.0))
        envelope = np.pad(
            np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1))
        )  # [R, H + 1]
        for r in np.flatnonzero(truth):
            out[t, r] = envelope[r, np.searchsorted(hits[r] / truth[r], RECALL_POINTS)].mean()
    return out

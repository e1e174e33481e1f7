"""Segmentation scores of class maps: mean IoU, pixel accuracy, frequency-weighted IoU, from one confusion matrix.

The metrics of Long et al., "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015), section 5. Pixels whose
true label is don't care count nowhere. A matrix is a sum over pixels, so images can come in any order and any parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.card import Metric


def confusion(truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]], num_classes: int) -> NDArray[np.int64]:
    """Return pixels [C, C + 1] by true class and found class of two label maps of one shape; matrices add up.

    Labels are 0 .. C - 1, anything else is don't care: left out where true, "no class" (the last column) where found.
    """
    assert truth.shape == found.shape
    known = (truth >= 0) & (truth < num_classes)
    rows = truth[known].astype(np.int64)
    columns = found[known].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < num_classes), columns, num_classes)
    counts = np.bincount(rows * (num_classes + 1) + columns, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def ious(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each class [C] of a confusion matrix [C, C + 1]; NaN for a class neither true nor found."""
    true, found, hit = matrix.sum(1), matrix[:, :-1].sum(0), np.diag(matrix)
    union = true + found - hit
    shares: NDArray[np.float64] = np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)
    return shares


def summary(matrix: NDArray[np.int64], classes: Sequence[str], card: Mapping[str, Any] | None = None) -> Metric:
    """Return all scores of a confusion matrix [C, C + 1]; the headline is the mean IoU over the classes that occur.

    `miou` and `mean_accuracy` are means over classes with true pixels; a class that is only found wrongly lowers the IoU of
    the others and has none of its own in the mean. `miou_found` takes in such classes, as 0.
    """
    true, hit = matrix.sum(1), np.diag(matrix)
    iou = ious(matrix)
    accuracy = np.divide(hit, true, out=np.full(len(hit), np.nan), where=true > 0)
    total, seen = int(true.sum()), true > 0
    values = {
        "miou": float(iou[seen].mean()) if seen.any() else None,
        "miou_found": float(iou[~np.isnan(iou)].mean()) if total else None,
        "pixel_accuracy": float(hit.sum() / total) if total else None,
        "mean_accuracy": float(accuracy[seen].mean()) if seen.any() else None,
        "fw_iou": float((true[seen] * iou[seen]).sum() / total) if total else None,
    }
    per_class = {
        name: {"iou": float(iou[k]), "accuracy": float(accuracy[k]), "pixels": int(true[k])}
        for k, name in enumerate(classes)
    }
    about = {"pixels": total, "classes_seen": int(seen.sum()), "found_no_class": int(matrix[:, -1].sum())}
    return Metric("miou", values["miou"], values, per_class, about | dict(card or {}))

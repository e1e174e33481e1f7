"""Fixed AP (Dave et al. 2021, section 4.2).

"Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details". COCO's AP counts the
best detections of each image, so classes compete for places in it and rare ones lose them. Fixed AP
has no limit per image: of each class the 10,000 detections with the highest scores in the whole set
count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from synthaug.pipeline.core.arrays import Ints
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow

BUDGET = 10_000  # detections per class


class FixedEvaluator(DetectionEvaluator):
    """A DetectionEvaluator that counts the best `budget` detections of each class.

    Wherever they are.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        classes: Iterable[int] | None = None,
        budget: int = BUDGET,
    ) -> None:
        super().__init__(categories, classes)
        self._budget = budget

    def _limit(self, rows: Sequence[DetectionRow]) -> int:
        return max([1, *(len(row.pred_labels) for row in rows)])

    def _best(self, row: DetectionRow) -> Ints:
        return np.flatnonzero(np.isin(row.pred_labels, self.classes))

    def rows(self) -> list[DetectionRow]:
        """Return the rows with the detections that count."""
        rows = super().rows()
        labels_of = [np.zeros(0, np.int64)]
        scores_of = [np.zeros(0, np.float32)]
        for row in rows:
            labels_of.append(row.pred_labels)
            scores_of.append(row.pred_scores)
        labels = np.concatenate(labels_of)
        scores = np.concatenate(scores_of)
        counts = np.zeros(len(labels), bool)
        for c in self.classes:
            of_class = np.flatnonzero(labels == c)
            order = np.argsort(-scores[of_class], kind="stable")
            counts[of_class[order[: self._budget]]] = True
        limited = []
        start = 0
        for row in rows:
            stop = start + len(row.pred_labels)
            limited.append(row.with_predictions(counts[start:stop]))
            start = stop
        return limited

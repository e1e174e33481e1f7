"""What the judging detector finds in each image, beside what the image was to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.scores.base import Arrays, Look, Material, Observer, Record, View, truth
from synthaug.pipeline.scores.detection.evaluator import DetectionRow


@dataclass(frozen=True)
class Detections(Look):
    """Runs a detector on real and synthetic images."""

    def observer(self, material: Material) -> Observer:
        """Load the judge; an observer of its boxes, classes and scores."""
        from synthaug.detectors import load

        assert material.judge is not None
        detector = load(material.judge, device=material.device)

        def observe(views: Sequence[View]) -> list[Arrays]:
            found = detector.predict([view.pixels() for view in views])
            records: list[Arrays] = []
            for view, prediction in zip(views, found, strict=True):
                _, boxes, labels = truth(view.scene)
                records.append(
                    {
                        "size": np.array([view.scene.height, view.scene.width]),  # [2]
                        "boxes": boxes,  # [G, 4] xyxy, pixels
                        "labels": labels,  # [G]
                        "pred_boxes": prediction.boxes,  # [D, 4] xyxy, pixels
                        "pred_labels": np.asarray(prediction.labels, np.int64),  # [D]
                        "pred_scores": prediction.scores,  # [D]
                    }
                )
            return records

        return observe


def detection_row(record: Record, offset: int) -> DetectionRow:
    """Return a record as a row of the evaluator; images without a partner stand behind the `offset` real ones."""
    arrays = record.arrays
    place = record.layout if record.layout >= 0 else offset + record.index
    height, width = arrays["size"].tolist()
    none = np.zeros(len(arrays["labels"]), bool)
    found = (arrays["pred_boxes"], arrays["pred_labels"], arrays["pred_scores"])
    return DetectionRow(
        place,
        height,
        width,
        arrays["boxes"],
        arrays["labels"],
        none,
        *found,
        sample=max(0, record.sample),
    )

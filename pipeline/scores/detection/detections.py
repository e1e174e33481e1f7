"""Detections of the reference detector in each image, with the objects that the image was to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from synthaug.pipeline.scores.base import Arrays, Look, Material, Observer, Record, View, truth
from synthaug.pipeline.scores.detection.evaluator import DetectionRow


@dataclass(frozen=True)
class Detections(Look):
    """Runs a detector on real and synthetic images."""

    def observer(self, material: Material) -> Observer:
        """Load the detector; return the function that runs it."""
        from synthaug.detectors import load

        assert material.judge is not None
        detector = load(material.judge, device=material.device)

        def observe(views: Sequence[View]) -> list[Arrays]:
            predictions = detector.predict([view.pixels() for view in views])
            records: list[Arrays] = []
            for view, prediction in zip(views, predictions, strict=True):
                objects, boxes, _ = truth(view.scene)
                layout = view.scene.with_objects(replace(objects, boxes=boxes))
                records.append(DetectionRow.of(view.index, layout, prediction).arrays())
            return records

        return observe


def detection_row(record: Record, offset: int) -> DetectionRow:
    """Return a record as a row of the evaluator; images without a partner stand behind the `offset` real ones."""
    index = record.layout
    if index < 0:
        index = offset + record.index
    return DetectionRow.from_arrays(index, record.arrays, sample=max(0, record.sample))

"""Detections of the reference detector, with the objects that were to be shown.

For each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    Record,
    TableImage,
    detection_truth,
)
from synthaug.pipeline.scores.detection.evaluator import DetectionRow


@dataclass(frozen=True)
class DetectionExtractor(Extractor):
    """Runs the reference detector on real and synthetic images."""

    name: ClassVar[str] = "detections"

    def extract_function(self, inputs: MetricInputs) -> ExtractFunction:
        """Load the detector; return the function that runs it."""
        from synthaug.detectors import load

        assert inputs.resources.detector is not None
        detector = load(inputs.resources.detector, device=inputs.resources.device)

        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            predictions = detector.predict([image.pixels() for image in images])
            records: list[Arrays] = []
            for image, prediction in zip(images, predictions, strict=True):
                asked = image.scene.with_objects(detection_truth(image.scene))
                records.append(DetectionRow.of(image.index, asked, prediction).arrays())
            return records

        return extract


def detection_row(record: Record, offset: int) -> DetectionRow:
    """Return a record as a row of the evaluator.

    Images without a partner stand behind the `offset` real ones.
    """
    index = record.layout
    if index < 0:
        index = offset + record.index
    return DetectionRow.from_arrays(index, record.arrays, sample=max(0, record.sample))

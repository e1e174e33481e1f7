"""Detections become layouts for the generator, layouts samples for the detector.

Legend: B images, O object slots, n objects of an image, R side of the generator's images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from synthaug.detectors.base import Sample
from synthaug.generators.base import PAD_BOX, Layouts, TrainingBatch
from synthaug.pipeline.batches.joint import Unlabelled
from synthaug.pipeline.batches.layouts import LayoutFilter, layout_arrays
from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.scene import Objects, Scene
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import Calibration, Threshold

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction


@dataclass(frozen=True)
class LabelRules:
    """The rules of the step pseudo_label, and the filter of the generator's layouts."""

    thresholds: Sequence[Threshold]  # per class
    curves: Calibration | None  # score to probability; None = the network's score is p_i
    layouts: LayoutFilter

    def label(self, scene: Scene, detections: Prediction) -> Scene:
        """Return the scene with the detections that become labels, p_i as their scores."""
        labels = detections.labels
        scores = detections.scores
        kept = calibration.apply(self.thresholds, labels, scores)
        if self.curves is not None:
            scores = self.curves.probability(labels, scores).astype(np.float32)
        objects = Objects.build(
            labels[kept],
            detections.boxes[kept],
            score=scores[kept],
            source=("pseudo",) * int(kept.sum()),
        )
        return scene.with_objects(objects)


def pseudo_labelled(
    images: Sequence[Unlabelled], detections: Sequence[Prediction], rules: LabelRules
) -> TrainingBatch | None:
    """Return the images whose labels make a layout; None where none does."""
    resized = []
    layouts = []
    for image, found in zip(images, detections, strict=True):
        scene = rules.label(image.scene, found)
        if not rules.layouts.accepts(scene):
            continue
        selected = rules.layouts.select(scene)
        layouts.append(layout_arrays(selected, scene.size, image.mirror))
        pixels = image.resized
        if image.mirror:
            pixels = pixels[:, ::-1]
        resized.append(pixels)
    if not layouts:
        return None
    labels, boxes, scores = zip(*layouts, strict=True)
    stacked = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
    return TrainingBatch(stacked.float() / 127.5 - 1, Layouts.collate(labels, boxes, scores))


def joined(first: TrainingBatch, second: TrainingBatch) -> TrainingBatch:
    """Return the images of two batches as one, on the device of the first."""
    second = second.to(first.images.device)
    slots = max(first.layouts.labels.shape[1], second.layouts.labels.shape[1])
    one = _padded(first.layouts, slots)
    other = _padded(second.layouts, slots)
    images = torch.cat([first.images, second.images])
    labels = torch.cat([one.labels, other.labels])
    boxes = torch.cat([one.boxes, other.boxes])
    scores = torch.cat([one.scores, other.scores])
    return TrainingBatch(images, Layouts(labels, boxes, scores))


def _padded(layouts: Layouts, slots: int) -> Layouts:
    """Return layouts with empty slots up to a number of them."""
    missing = slots - layouts.labels.shape[1]
    labels = F.pad(layouts.labels, (0, missing))
    scores = F.pad(layouts.scores, (0, missing))
    outside = layouts.boxes.new_tensor(PAD_BOX).expand(len(layouts), missing, 4)
    boxes = torch.cat([layouts.boxes, outside], 1)
    return Layouts(labels, boxes, scores)


def samples_of(images: Bytes, layouts: Layouts) -> list[Sample]:
    """Return synthetic images [B, R, R, 3] with the boxes of their layouts."""
    samples = []
    for number, image in enumerate(images):
        is_object = layouts.labels[number] > 0
        height, width = image.shape[:2]
        boxes = layouts.boxes[number][is_object].cpu().numpy()  # [n, 4] in [0, 1]
        pixels = boxes * np.array([width, height, width, height], np.float32)
        labels = layouts.labels[number][is_object].cpu().numpy() - 1
        samples.append(Sample(image, pixels, labels))
    return samples

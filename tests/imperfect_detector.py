"""A detector whose every answer is known: what a good, but not perfect one finds in toy scenes."""

from pathlib import Path

import numpy as np

from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scores.detection.evaluator import DetectionRow

TOY = toy.read(toy.Config("val", 150), Path())
TOY_THINGS = np.array([category.isthing for category in toy.CATEGORIES], bool)


def detect(index, misses=0.05, noise=0.04):
    """Return toy scene `index` with its detections.

    Boxes a little off, unsure scores, a few things missed.
    """
    rng = rng_for("imperfect", index)
    scene = TOY[index]
    truth = scene.objects
    seen = np.flatnonzero(truth.isthing & (rng.random(len(truth)) >= misses))
    side = np.tile(truth.boxes[seen, 2:] - truth.boxes[seen, :2], 2)
    boxes = truth.boxes[seen] + (rng.normal(0, noise, (len(seen), 4)) * side).astype(np.float32)
    labels = truth.category.astype(np.int64)
    scores = rng.uniform(0.5, 1, len(seen)).astype(np.float32)
    return DetectionRow(
        index,
        scene.height,
        scene.width,
        truth.boxes,
        labels,
        truth.iscrowd,
        boxes,
        labels[seen],
        scores,
    )


def image(objects, detections, crowd=(), size=100):
    """Return a square image.

    Objects are (class, box), detections (class, box, score), `crowd` indices.
    """
    return DetectionRow(
        0,
        size,
        size,
        np.array([box for _, box in objects], np.float32).reshape(-1, 4),
        np.array([label for label, _ in objects], np.int64),
        np.array([i in crowd for i in range(len(objects))], bool),
        np.array([box for _, box, _ in detections], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in detections], np.int64),
        np.array([score for _, _, score in detections], np.float32),
    )

"""How much faster than pycocotools are the same numbers had?

    python benchmarks/coco_evaluation.py [IMAGES] [DETECTIONS] [REPEATS]

Makes 5,000 images with 36,000 true boxes of 80 classes (crowds among them) and 50,000 detections,
and measures both ways from the same arrays to COCO's figures, in one process, alternating:
pycocotools (COCO records, loadRes, evaluate, accumulate) and the evaluator of this project. Prints
CPU seconds and their ratio, and the largest difference between the figures.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import time
from typing import Any

import numpy as np

from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.scores.detection.evaluator import KEYS, DetectionEvaluator, DetectionRow

CLASSES = 80
TRUTHS = 36_000
SIDE = 640


def make(images: int, detections: int) -> list[DetectionRow]:
    """Truth with the long tail of COCO.

    Detections are jittered truths and false alarms, scores of two decimals.
    """
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, CLASSES + 1)
    labels = rng.choice(CLASSES, TRUTHS, p=share / share.sum())
    where = rng.integers(0, images, TRUTHS)
    corner = rng.uniform(0, SIDE - 20, (TRUTHS, 2))
    boxes = (
        np.concatenate([corner, corner + np.exp(rng.uniform(2, 6, (TRUTHS, 2)))], 1)
        .clip(0, SIDE)
        .astype(np.float32)
    )
    crowd = rng.random(TRUTHS) < 0.01
    source = rng.integers(0, TRUTHS, detections)
    false = rng.random(detections) < 0.3
    guess = boxes[source] + rng.normal(0, 6, (detections, 4))
    guess[false] = boxes[rng.permutation(TRUTHS)[: false.sum()]]
    guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
    scores = np.round(rng.random(detections), 2).astype(np.float32)
    rows = []
    truth_of, found_of = (
        np.split(np.argsort(w, kind="stable"), np.searchsorted(np.sort(w), range(1, images)))
        for w in (where, where[source])
    )
    for i in range(images):
        t, d = truth_of[i], found_of[i]
        found = (guess[d].astype(np.float32), labels[source[d]].astype(np.int64), scores[d])
        rows.append(
            DetectionRow(i, SIDE, SIDE, boxes[t], labels[t].astype(np.int64), crowd[t], *found)
        )
    return rows


def ours(rows: list[DetectionRow]) -> dict[str, Any]:
    """The evaluator's figures."""
    evaluator = DetectionEvaluator([Category(c + 1, str(c)) for c in range(CLASSES)])
    for row in rows:
        evaluator.add(row)
    return dict(evaluator.result().values)


def theirs(rows: list[DetectionRow]) -> dict[str, Any]:
    """The figures of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for row in rows:
        for kind, boxes, labels in (
            (truth, row.boxes, row.labels),
            (found, row.pred_boxes, row.pred_labels),
        ):
            wide = boxes.astype(np.float64)
            corners = np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], 1).tolist()
            sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()
            more = row.pred_scores.tolist() if kind is found else row.crowd.astype(int).tolist()
            for box, size, label, extra in zip(corners, sizes, labels.tolist(), more, strict=True):
                record = {
                    "image_id": row.index + 1,
                    "bbox": box,
                    "category_id": label + 1,
                    "area": size,
                }
                record |= (
                    {"score": extra} if kind is found else {"id": len(truth) + 1, "iscrowd": extra}
                )
                kind.append(record)
    gt = COCO()
    gt.dataset = {
        "info": {},
        "images": [{"id": row.index + 1, "height": SIDE, "width": SIDE} for row in rows],
        "annotations": truth,
        "categories": [{"id": c + 1, "name": str(c)} for c in range(CLASSES)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {key: float(number) for key, number in zip(KEYS, run.stats, strict=True)}


def main() -> None:
    """Measure and print."""
    images, detections, repeats = (
        int(w) for w in [*sys.argv[1:], *("5000", "50000", "3")[len(sys.argv) - 1 :]]
    )
    rows = make(images, detections)
    seconds: dict[str, list[float]] = {"pycocotools": [], "synthaug": []}
    figures: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name, way in (("pycocotools", theirs), ("synthaug", ours)):
            began = time.process_time()
            figures[name] = way(rows)
            seconds[name].append(time.process_time() - began)
            print(f"{name}: {seconds[name][-1]:.2f} CPU s", flush=True)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    worst = max(abs(figures["pycocotools"][key] - figures["synthaug"][key]) for key in KEYS)
    print(
        f"{images} images, {detections} detections: "
        f"{middle['pycocotools'] / middle['synthaug']:.1f} times faster"
    )
    print(
        f"largest difference of {', '.join(KEYS)}: {worst:.1e}; AP {figures['synthaug']['AP']:.4f}"
    )


if __name__ == "__main__":
    main()

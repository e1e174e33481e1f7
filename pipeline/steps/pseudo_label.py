"""Label the unlabelled images with the detector: boxes with score >= tau, the score kept (LostGAN-V2 section 2.2.6)."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.context import Context, add_counts, cut
from pipeline.formats import parquet
from pipeline.images import decode
from pipeline.scene import Objects, Scene
from pipeline.scores.detection import DetectionRow, match_precision_recall
from pipeline.sections import Job, section_dict
from pipeline.steps.ingest import TRUTH
from pipeline.steps.self_train import WEIGHTS
from pipeline.storage import Folder
from pipeline.training import device

NEEDS = ("ingest", "self_train")
VERSION = 2
SHARD = 128  # scenes
IDS_PER_IMAGE = 10_000  # ids are image position * this + place in the image + 1


def settings(job: Job) -> dict[str, Any]:
    """The threshold, and whether there is anything to label."""
    return {"pseudo_label": section_dict(job, "pseudo_label"), "unlabelled": bool(job.data.unlabelled)}


class _Labeller:
    """Runs in a worker: detects in one shard of images and writes it with the boxes found."""

    def __init__(self, job: Job, ingest: str, weights: str, out: str, judged: bool) -> None:
        import torch

        from detectors import DETECTORS

        torch.set_num_threads(1)
        self._job, self._out = job, Folder.at(out)
        self._table = parquet.read(parquet.Config(Folder.at(ingest).sub("unlabelled").uri))
        truth = Folder.at(ingest).sub("unlabelled").sub(TRUTH)
        self._truth = parquet.read(parquet.Config(truth.uri), pixels=False) if judged else None
        backend = importlib.import_module(DETECTORS[job.detector.backend])
        with Folder.at(weights).local_copy(WEIGHTS) as path:
            self._detector = backend.load(path, device=device())

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        categories = self._table.categories
        counts: dict[str, int] = {}
        matches: dict[str, list[int]] = {}
        with parquet.ShardWriter(self._out, f"{name}.parquet", categories) as writer:
            for start in range(places.start, places.stop, self._job.pseudo_label.batch):
                batch = range(start, min(start + self._job.pseudo_label.batch, places.stop))
                scenes = [self._table[i] for i in batch]
                found = self._detector.predict([decode(scene) for scene in scenes])
                for i, scene, prediction in zip(batch, scenes, found, strict=True):
                    labelled = self._labelled(i, scene, prediction)
                    writer.write([labelled])
                    for c in labelled.objects.category.tolist():
                        counts[categories[c].name] = counts.get(categories[c].name, 0) + 1
                    self._compare(i, labelled, matches)
        return {"rows": len(places), "counts": counts, "matches": matches}

    def _labelled(self, index: int, scene: Scene, prediction: Any) -> Scene:
        keep = prediction.scores >= self._job.pseudo_label.threshold
        labels = prediction.labels[keep]
        ids = index * IDS_PER_IMAGE + 1 + np.arange(len(labels))
        things = [self._table.categories[c].isthing for c in labels.tolist()]
        objects = Objects.build(
            labels,
            prediction.boxes[keep],
            id=ids,
            score=prediction.scores[keep],
            isthing=np.array(things, bool),
            source=("pseudo",) * len(labels),
        )
        return scene.with_objects(objects)

    def _compare(self, index: int, scene: Scene, matches: dict[str, list[int]]) -> None:
        """Count hits, false alarms and misses per class, where the truth is known."""
        if self._truth is None:
            return
        found, truth = scene.objects, self._truth[index].objects
        row = DetectionRow(
            index,
            scene.height,
            scene.width,
            truth.boxes,
            truth.category.astype(np.int64),
            truth.iscrowd,
            found.boxes,
            found.category.astype(np.int64),
            found.score,
        )
        counted = match_precision_recall([row], len(self._table.categories), self._job.pseudo_label.threshold)
        for category, numbers in zip(self._table.categories, counted.tolist(), strict=True):
            matches[category.name] = [
                a + b for a, b in zip(matches.get(category.name, [0, 0, 0]), numbers, strict=True)
            ]


def run(context: Context) -> dict[str, Any]:
    """Write the pseudo-labelled table; the manifest has counts per class and, with known truth, precision and recall."""
    job, ingest = context.job, context.inputs["ingest"]
    if not job.data.unlabelled:
        context.tell("  no unlabelled images")
        return {"images": 0, "objects": {}, "quality": None}
    count = ingest.manifest["splits"]["unlabelled"]["images"]
    weights = context.inputs["self_train"].folder.uri
    judged = bool(ingest.manifest["splits"]["unlabelled"]["truth"])
    make = partial(_Labeller, job, ingest.folder.uri, weights, context.folder.uri, judged)
    rows = context.shards(make, cut(count, SHARD), context.folder, "images")
    objects = add_counts(rows, "counts")
    quality = _quality(rows) if judged else None
    context.tell(f"  {sum(objects.values())} objects in {count} images with score >= {job.pseudo_label.threshold}")
    return {"images": count, "objects": objects, "quality": quality}


def _quality(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Precision and recall (IoU 0.5) over all objects and, under "classes", per class."""
    total: dict[str, NDArray[np.int64]] = {}
    for row in rows:
        for name, numbers in row["matches"].items():
            total[name] = total.get(name, np.zeros(3, np.int64)) + np.array(numbers)
    whole = sum(total.values(), np.zeros(3, np.int64))
    return {"all": _ratios(whole), "classes": {name: _ratios(counted) for name, counted in total.items()}}


def _ratios(counted: NDArray[np.int64]) -> dict[str, float | None]:
    tp, fp, fn = counted.tolist()
    return {
        "precision": round(tp / (tp + fp), 4) if tp + fp else None,
        "recall": round(tp / (tp + fn), 4) if tp + fn else None,
        "truth": tp + fn,
        "found": tp + fp,
    }

"""Label the unlabelled images with the detector (LostGAN-V2 section 2.2.6): what scores enough for its class, score kept."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Objects, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.inference import detect, load_labeller
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.coco import results as coco_results
from synthaug.pipeline.formats.coco.write import CocoWriter
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps import calibrate
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.ingest import TRUTH
from synthaug.pipeline.steps.self_train import WEIGHTS

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction

NEEDS = ("ingest", "self_train", "calibrate")
VERSION = 3
SHARD = 128  # scenes
BINS = 20  # of the scores of a class, 0 to 1
IDS_PER_IMAGE = 10_000  # ids are image position * this + place in the image + 1
SPOOL = "found"  # folder of all detections, one file per shard
DETECTIONS, LABELS = "detections.json", "instances.json"
PUBLISHES = (Published(DETECTIONS, "pseudo"), Published(LABELS, "pseudo"))


@dataclass(frozen=True)
class Spec:
    """What the tasks need, as plain data: URIs of folders, and what `calibrate` has learnt."""

    job: Job
    ingest: str
    weights: str
    out: str
    learnt: dict[str, Any]
    judged: bool

    def table(self, truth: bool = False, pixels: bool = True) -> Any:
        """Open the unlabelled images, or the labels that were put aside."""
        folder = Folder.at(self.ingest).sub("unlabelled")
        if truth:
            folder = folder.sub(TRUTH)
        return parquet.open_table(folder, pixels=pixels)


def settings(job: Job) -> dict[str, Any]:
    """Which detections become labels, and whether there is anything to label."""
    return {
        "pseudo_label": section_dict(job, "pseudo_label"),
        "unlabelled": bool(job.data.unlabelled),
    }


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the number of images and objects, and what the labels are worth where that is known."""
    return {"pseudo_label": {key: manifest[key] for key in ("images", "objects", "quality")}}


class _Labeller:
    """Runs in a worker: detects in one shard of images, keeps all it finds and writes the images with their labels."""

    def __init__(self, spec: Spec) -> None:
        self._how, self._out = spec.job.pseudo_label, Folder.at(spec.out)
        self._table = spec.table()
        self._truth = spec.table(truth=True, pixels=False) if spec.judged else None
        self._detector = load_labeller(spec.job, Folder.at(spec.weights), WEIGHTS)
        self._names = [c.name for c in self._table.categories]
        self._curves, self._thresholds = calibrate.read(spec.learnt, self._names, self._how.rule)

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        bins = np.zeros((len(self._names), BINS), np.int64)
        matched = np.zeros((len(self._names), 3), np.int64)
        with (
            parquet.ShardWriter(self._out, f"{name}.parquet", self._table.categories) as writer,
            coco_results.spool(self._out.sub(SPOOL), name) as spooled,
        ):
            for place, scene, seen in detect(self._detector, self._table, places, self._how.batch):
                keep = calibration.apply(self._thresholds, seen.labels, seen.scores)
                found = self._scored(seen)
                coco_results.add(
                    spooled, coco_results.results(scene, found, self._table.categories)
                )
                writer.write([scene.with_objects(self._labels(place, scene, found, keep))])
                counts.update(self._names[c] for c in found.labels[keep].tolist())
                np.add.at(
                    bins, (found.labels, np.minimum((found.scores * BINS).astype(int), BINS - 1)), 1
                )
                matched += self._compare(place, scene, seen)
        tables = {"bins": bins, "matches": matched if self._truth is not None else matched[:0]}
        named = {
            key: dict(zip(self._names, table.tolist(), strict=False))
            for key, table in tables.items()
        }
        return {"rows": len(places), "counts": dict(counts), **named}

    def _scored(self, found: Prediction) -> Prediction:
        """The same detections, their scores as the job wants them."""
        if not self._how.calibrate:
            return found
        return replace(
            found, scores=self._curves.probability(found.labels, found.scores).astype(np.float32)
        )

    def _labels(
        self, place: int, scene: Scene, found: Prediction, keep: NDArray[np.bool_]
    ) -> Objects:
        """The detections at a mask [N] as objects of the scene."""
        soft = None if found.masks is None else found.masks[keep]
        labels, boxes = found.labels[keep], found.boxes[keep]
        rle = coco_results.label_masks(
            scene, replace(found, boxes=boxes, labels=labels, scores=found.scores[keep], masks=soft)
        )
        sides = boxes[:, 2:] - boxes[:, :2]
        return Objects.build(
            labels,
            boxes,
            id=place * IDS_PER_IMAGE + 1 + np.arange(len(labels)),
            score=found.scores[keep],
            rle=rle,
            area=[
                side.prod() if code is None else masks.area(code)
                for side, code in zip(sides, rle, strict=True)
            ],
            isthing=np.array([self._table.categories[c].isthing for c in labels.tolist()], bool),
            source=("pseudo",) * len(labels),
        )

    def _compare(self, place: int, scene: Scene, found: Prediction) -> NDArray[np.int64]:
        """Count hits, false alarms and misses per class [C, 3] of what is kept; zeros where the truth is not known."""
        if self._truth is None:
            return np.zeros((len(self._names), 3), np.int64)
        labelled = scene.with_objects(self._truth[place].objects)
        row = DetectionRow.of(place, labelled, found)
        return calibration.count(calibration.match([row], len(self._names)), self._thresholds)


def run(context: Context) -> dict[str, Any]:
    """Write the pseudo-labelled table and COCO files; the manifest counts what was found and kept, and how it was judged."""
    job, ingest = context.job, context.inputs["ingest"]
    if not job.data.unlabelled:
        context.tell("  no unlabelled images")
        return {"images": 0, "objects": {}, "quality": None}
    split = ingest.manifest["splits"]["unlabelled"]
    weights, learnt = (
        calibrate.labeller_weights(context).uri,
        dict(context.inputs["calibrate"].manifest),
    )
    spec = Spec(job, ingest.folder.uri, weights, context.folder.uri, learnt, bool(split["truth"]))
    items = cut(split["images"], SHARD)
    rows = context.shards(partial(_Labeller, spec), items, context.folder, "images")
    written = context.executor.call(write_coco, spec, [name for name, _ in items])
    objects = add_counts(rows, "counts")
    context.tell(
        f"  {sum(objects.values())} of {written} detections in {split['images']} images become labels"
    )
    bins = _total(rows, "bins")
    return {
        "images": split["images"],
        "objects": objects,
        "found": {name: int(counts.sum()) for name, counts in bins.items()},
        "bins": {name: counts.tolist() for name, counts in bins.items()},
        "thresholds": _thresholds(learnt, list(bins), job),
        "quality": _quality(_total(rows, "matches")) if spec.judged else None,
    }


def _thresholds(learnt: dict[str, Any], names: list[str], job: Job) -> dict[str, Any]:
    """What each class had to reach: `score` is the network's, `least` the same as the labels' scores are given."""
    curves, thresholds = calibrate.read(learnt, names, job.pseudo_label.rule)
    told = {}
    for k, (name, threshold) in enumerate(zip(names, thresholds, strict=True)):
        least = threshold.score
        if least is not None and job.pseudo_label.calibrate:
            least = float(curves.probability(np.array([k]), np.array([least]))[0])
        told[name] = {"score": threshold.score, "least": least, "basis": threshold.basis}
    return told


def write_coco(spec: Spec, shards: list[str]) -> int:
    """Runs in a worker: write all detections and the kept labels as COCO files; returns how many detections there are.

    Image files stay where they are: their names are given from the folder that holds all of them. Images that came as
    bytes inside a table have no file; they are in the run's table.
    """
    folder = Folder.at(spec.out)
    total = coco_results.join(folder.sub(SPOOL), shards, folder, DETECTIONS)
    table = parquet.open_table(spec.out, pixels=False)
    folders = {os.path.dirname(table[i].image.path or "") for i in range(len(table))}  # noqa: PTH120 - also of no path
    root = os.path.commonpath(folders) if folders and all(folders) else ""
    with CocoWriter(folder, table.categories, LABELS) as writer:
        for i in range(len(table)):
            scene = table[i]
            name = scene.image.path or scene.image_id
            writer.refer(
                scene,
                coco_results.original_id(scene.image_id),
                os.path.relpath(name, root) if root else name,
            )
    return total


def _total(rows: list[dict[str, Any]], key: str) -> dict[str, NDArray[np.int64]]:
    """Add up, per class, the lists of numbers that rows hold under `key`."""
    total: dict[str, NDArray[np.int64]] = {}
    for row in rows:
        for name, numbers in row[key].items():
            total[name] = total.get(name, np.zeros(1, np.int64)) + np.array(numbers)
    return total


def _quality(counted: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Precision and recall (IoU 0.5) over all objects and, under "classes", per class."""
    whole = sum(counted.values(), np.zeros(3, np.int64))
    return {
        "all": calibration.ratios(whole),
        "classes": {name: calibration.ratios(numbers) for name, numbers in counted.items()},
    }

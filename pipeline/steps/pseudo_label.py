"""Label the unlabelled images with detections that score enough.

Enough for their class (LostGAN-V2, section 2.2.6). A class has labels only where held-out
validation images show that they are mostly right. What would be a label of another class becomes an
ignore region: something may be there, so it is no background either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core import masks
from synthaug.pipeline.core.arrays import Flags, Ints
from synthaug.pipeline.core.boxes import box_areas
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.scene import Dataset, Objects, Scene, ids_in_image
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import Calibration, Threshold
from synthaug.pipeline.detection.inference import detect, load_labeller
from synthaug.pipeline.detection.proportions import wilson
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.formats.coco import results as coco_results
from synthaug.pipeline.formats.coco.write import CocoWriter
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps import calibrate
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.ingest import TRUTH
from synthaug.pipeline.steps.self_train import WEIGHTS

if TYPE_CHECKING:
    from synthaug.detectors.base import Prediction

NEEDS = ("ingest", "self_train", "calibrate")
VERSION = 4
SHARD = 128  # scenes
BINS = 20  # of the scores of a class, 0 to 1

SPOOL = "found"  # folder of all detections, one file per shard
DETECTIONS, LABELS = "detections.json", "instances.json"
PUBLISHES = (Published(DETECTIONS, "pseudo"), Published(LABELS, "pseudo"))
WRONG, UNKNOWN = "mostly wrong", "too few to tell"  # why a class has no labels
REGION_RULE = "f1"  # by which detections of a class without labels become ignore regions


@dataclass(frozen=True)
class Spec:
    """Folders and settings for the tasks, as plain data.

    With the manifest of `calibrate`.
    """

    job: Job
    ingest: str
    weights: str
    out: str
    calibration: Json
    has_truth: bool

    def images(self, pixels: bool = True) -> Dataset:
        """Open the unlabelled images."""
        folder = Folder.at(self.ingest).sub("unlabelled")
        return parquet.open_table(folder, pixels=pixels)

    def truth(self) -> Dataset:
        """Open the labels of these images that were put aside."""
        folder = Folder.at(self.ingest).sub("unlabelled").sub(TRUTH)
        return parquet.open_table(folder, pixels=False)


@dataclass(frozen=True)
class LabelRules:
    """The thresholds of labels and of ignore regions, per class."""

    curves: Calibration
    labels: list[Threshold]
    regions: list[Threshold]


def label_rules(calibrated: Manifest, names: list[str], job: Job) -> LabelRules:
    """Return the rules of a job from the manifest of `calibrate`.

    In the order of the class names. A class has either labels or ignore regions.
    """
    section = job.pseudo_label
    curves, labels = calibrate.read(calibrated, names, section.rule)
    _, regions = calibrate.read(calibrated, names, REGION_RULE)
    without = unshown(calibrated, job)
    for k, name in enumerate(names):
        if name in without:
            labels[k] = Threshold(None, "unshown")
        else:
            regions[k] = Threshold(None, "labels")
    return LabelRules(curves, labels, regions)


def unshown(calibrated: Manifest, job: Job) -> dict[str, Json]:
    """Return the classes whose labels are not shown to be right often enough.

    Each with its held-out counts and why. The lower 95 % bound of the share of right ones on
    held-out validation images must reach `min_precision`.
    """
    least = job.pseudo_label.min_precision
    classes: dict[str, Json] = {}
    if not least:
        return classes
    for name in calibrated["classes"]:
        right, found = _held_out(calibrated, job.pseudo_label.rule, name)
        low, high = wilson(right, found)
        if low < least:
            why = WRONG if high < least else UNKNOWN
            counts = {"right": right, "found": found}
            classes[name] = {**counts, "low": round(low, 4), "why": why}
    return classes


def _held_out(calibrated: Manifest, rule: str, name: str) -> tuple[int, int]:
    """Return how many held-out labels of a class are right, of how many.

    On validation images.
    """
    held_out = calibrated["held_out"]
    if held_out is None:
        return 0, 0
    numbers = held_out["rules"][rule]["classes"][name]
    return numbers["right"], numbers["found"]


def settings(job: Job) -> Json:
    """Return the rules of labels, and whether there is anything to label."""
    return {
        "pseudo_label": section_dict(job, "pseudo_label"),
        "unlabelled": bool(job.data.unlabelled),
    }


def metrics(manifest: Manifest) -> Json:
    """Return the number of images and objects, and what the labels are worth.

    The latter where it is known.
    """
    keys = ("images", "objects", "ignored", "unlabelled_classes", "quality")
    return {"pseudo_label": {key: manifest[key] for key in keys if key in manifest}}


def links(manifest: Manifest) -> list[Link]:
    """Return whether the classes that were found have labels that are mostly right.

    Nothing stops the run: where they are not there are no labels.
    """
    name = "pseudo-labels"
    if not manifest["images"]:
        return [Link(name, "untested", "no unlabelled images")]
    if "unlabelled_classes" not in manifest:
        return []
    num_labels = sum(manifest["objects"].values())
    held_out = manifest["held_out"]
    right = held_out["right"]
    found = held_out["found"]
    figure = f"{num_labels} labels of {len(manifest['objects'])} classes"
    if found:
        figure = f"{figure}, {100 * right / found:.0f} % right on held-out validation images"
    wrong = []
    unknown = []
    for label, counts in manifest["unlabelled_classes"].items():
        if not manifest["ignored"].get(label):
            continue
        text = f"{label} ({counts['right']} of {counts['found']} right)"
        if counts["why"] == WRONG:
            wrong.append(text)
        else:
            unknown.append(text)
    for why, classes in ((WRONG, wrong), (UNKNOWN, unknown)):
        if classes:
            figure = f"{figure}; none of {', '.join(classes)}: {why}"
    mostly_right = 2 * right >= found  # where pseudo_label.min_precision asks for less
    if num_labels and not wrong and mostly_right:
        return [Link(name, "ok", figure)]
    advice = "train the detector longer, or label more images of these classes"
    return [Link(name, "weak", figure, advice)]


class _Labeller:
    """Detects in one shard of images, and writes detections and labelled images.

    Runs in a worker; all detections are kept.
    """

    def __init__(self, spec: Spec) -> None:
        self._section = spec.job.pseudo_label
        self._out = Folder.at(spec.out)
        self._table = spec.images()
        self._truth = spec.truth() if spec.has_truth else None
        weights = Folder.at(spec.weights)
        self._detector = load_labeller(spec.job, weights, WEIGHTS)
        self._categories = self._table.categories
        self._names = [category.name for category in self._categories]
        self._rules = label_rules(spec.calibration, self._names, spec.job)

    def __call__(self, name: str, indices: range) -> Json:
        num_classes = len(self._names)
        labels = np.zeros(num_classes, np.int64)
        ignored = np.zeros(num_classes, np.int64)
        bins = np.zeros((num_classes, BINS), np.int64)  # of the scores of all detections
        matches = np.zeros((num_classes, 3), np.int64)
        with (
            parquet.ShardWriter(self._out, f"{name}.parquet", self._categories) as writer,
            coco_results.spool(self._out.sub(SPOOL), name) as spooled,
        ):
            batch = self._section.batch
            detections = detect(self._detector, self._table, indices, batch)
            for index, scene, prediction in detections:
                keep = self._reaching(self._rules.labels, prediction)
                ignore = self._reaching(self._rules.regions, prediction)
                scored = self._scored(prediction)
                records = coco_results.results(scene, scored, self._categories)
                coco_results.add(spooled, records)
                objects = self._objects(index, scene, scored, keep, ignore)
                writer.write([scene.with_objects(objects)])
                np.add.at(labels, scored.labels[keep], 1)
                np.add.at(ignored, scored.labels[ignore], 1)
                bins_of = (scored.scores * BINS).astype(int)
                bin_of = np.minimum(bins_of, BINS - 1)
                np.add.at(bins, (scored.labels, bin_of), 1)
                if self._truth is not None:
                    matches += self._compare(index, scene, prediction, self._truth)
        manifest = {
            "rows": len(indices),
            "counts": self._by_name(labels),
            "ignored": self._by_name(ignored),
            "bins": dict(zip(self._names, bins.tolist(), strict=True)),
            "matches": {},
        }
        if self._truth is not None:
            manifest["matches"] = dict(zip(self._names, matches.tolist(), strict=True))
        return manifest

    def _by_name(self, counts: Ints) -> dict[str, int]:
        """Return the counts [C] that are not 0 by class name."""
        named = {}
        for name, count in zip(self._names, counts.tolist(), strict=True):
            if count:
                named[name] = count
        return named

    @staticmethod
    def _reaching(thresholds: list[Threshold], prediction: Prediction) -> Flags:
        """Return which detections [N] reach the threshold of their class."""
        return calibration.apply(thresholds, prediction.labels, prediction.scores)

    def _scored(self, prediction: Prediction) -> Prediction:
        """Return the same detections, their scores calibrated where the job asks for it."""
        if not self._section.calibrate:
            return prediction
        probability = self._rules.curves.probability(prediction.labels, prediction.scores)
        return replace(prediction, scores=probability.astype(np.float32))

    def _objects(
        self,
        index: int,
        scene: Scene,
        prediction: Prediction,
        keep: Flags,
        ignore: Flags,
    ) -> Objects:
        """Return the detections at two masks [N], as objects and as ignore regions."""
        used = keep | ignore
        soft_masks = None
        if prediction.masks is not None:
            soft_masks = prediction.masks[used]
        kept = replace(
            prediction,
            boxes=prediction.boxes[used],
            labels=prediction.labels[used],
            scores=prediction.scores[used],
            masks=soft_masks,
        )
        num_objects = len(kept.labels)
        is_region = ignore[used]
        rle = list(coco_results.label_masks(scene, kept))
        regions, _, _ = masks.fill_boxes(kept.boxes[is_region], scene.size)
        numbers = np.flatnonzero(is_region).tolist()
        for number, region in zip(numbers, regions, strict=True):
            rle[number] = region
        areas: list[float] = []
        for box, code in zip(kept.boxes, rle, strict=True):
            if code is None:
                areas.append(float(box_areas(box)))
            else:
                areas.append(masks.area(code))
        labels = kept.labels.tolist()
        isthing = [self._categories[label].isthing for label in labels]
        return Objects.build(
            kept.labels,
            kept.boxes,
            id=ids_in_image(index, num_objects),
            score=kept.scores,
            rle=rle,
            area=areas,
            isthing=np.array(isthing, bool),
            iscrowd=is_region,
            source=("pseudo",) * num_objects,
        )

    def _compare(self, index: int, scene: Scene, prediction: Prediction, truth: Dataset) -> Ints:
        """Count hits, false alarms and misses per class [C, 3].

        Of the detections that are kept.
        """
        labelled = scene.with_objects(truth[index].objects)
        row = DetectionRow.of(index, labelled, prediction)
        matches = calibration.match([row], len(self._names))
        return calibration.count(matches, self._rules.labels)


def run(context: Context) -> Json:
    """Write the pseudo-labelled table and COCO files.

    The manifest has counts of detections and labels, and their quality.
    """
    job = context.job
    ingest = context.inputs["ingest"]
    if not job.data.unlabelled:
        context.tell("  no unlabelled images")
        return {"images": 0, "objects": {}, "quality": None}
    calibrated = context.inputs["calibrate"].manifest
    split = ingest.manifest["splits"]["unlabelled"]
    weights = calibrate.labeller_weights(context).uri
    has_truth = bool(split["truth"])
    spec = Spec(job, ingest.folder.uri, weights, context.folder.uri, dict(calibrated), has_truth)
    shards = cut(split["images"], SHARD)
    labeller = partial(_Labeller, spec)
    rows = context.shards(labeller, shards, context.folder, "images", gpu=True)
    names = [name for name, _ in shards]
    num_detections = context.executor.call(write_coco, spec, names)
    objects = add_counts(rows, "counts")
    ignored = add_counts(rows, "ignored")
    context.tell(
        f"  {sum(objects.values())} of {num_detections} detections in {split['images']} images "
        "become labels"
    )
    without = unshown(calibrated, job)
    if ignored:
        context.tell(
            f"  {sum(ignored.values())} become ignore regions: validation does not show that "
            f"labels of {', '.join(ignored)} would be right"
        )
    bins = _total(rows, "bins")
    quality = None
    if has_truth:
        quality = _quality(_total(rows, "matches"))
    return {
        "images": split["images"],
        "objects": objects,
        "ignored": ignored,
        "unlabelled_classes": without,
        "held_out": _held_out_total(calibrated, job, without),
        "found": {name: int(counts.sum()) for name, counts in bins.items()},
        "bins": {name: counts.tolist() for name, counts in bins.items()},
        "thresholds": _thresholds(calibrated, list(bins), job),
        "quality": quality,
    }


def _held_out_total(calibrated: Manifest, job: Job, without: Mapping[str, Any]) -> dict[str, int]:
    """Return how many held-out labels are right, of how many, over all classes.

    Of the classes that have some, on validation images.
    """
    total = {"right": 0, "found": 0}
    for name in calibrated["classes"]:
        if name in without:
            continue
        right, found = _held_out(calibrated, job.pseudo_label.rule, name)
        total["right"] += right
        total["found"] += found
    return total


def _thresholds(calibrated: Manifest, names: list[str], job: Job) -> Json:
    """Return the threshold of each class, on both scales.

    `score` is the network's, `least` the same on the scale of the labels' scores.
    """
    rules = label_rules(calibrated, names, job)
    of_classes = {}
    for k, (name, threshold) in enumerate(zip(names, rules.labels, strict=True)):
        least = threshold.score
        if least is not None and job.pseudo_label.calibrate:
            probability = rules.curves.probability(np.array([k]), np.array([least]))
            least = float(probability[0])
        of_class = {"score": threshold.score, "least": least}
        of_classes[name] = {**of_class, "basis": threshold.basis}
    return of_classes


def write_coco(spec: Spec, shards: list[str]) -> int:
    """Write all detections and the kept labels as COCO files; count the detections.

    Runs in a worker. Image files stay where they are: their names are given from the folder that
    holds all of them. Images that came as bytes inside a table have no file; they are in the run's
    table.
    """
    folder = Folder.at(spec.out)
    num_detections = coco_results.join(folder.sub(SPOOL), shards, folder, DETECTIONS)
    table = parquet.open_table(spec.out, pixels=False)
    root = _common_folder(table)
    with CocoWriter(folder, table.categories, LABELS) as writer:
        for scene in table:
            name = scene.image.path or scene.image_id
            if root:
                name = os.path.relpath(name, root)
            writer.refer(scene, coco_results.original_id(scene.image_id), name)
    return num_detections


def _common_folder(table: Dataset) -> str:
    """Return the folder that holds the files of all images.

    "" where an image has no file.
    """
    folders = set()
    for scene in table:
        folders.add(os.path.dirname(scene.image.path or ""))  # noqa: PTH120 - also of no path
    if not folders or "" in folders:
        return ""
    return os.path.commonpath(folders)


def _total(rows: list[Json], key: str) -> dict[str, Ints]:
    """Add up, per class, the lists of numbers that rows hold under `key`."""
    total: dict[str, Ints] = {}
    for row in rows:
        for name, numbers in row[key].items():
            before = total.get(name, np.zeros(1, np.int64))
            total[name] = before + np.array(numbers)
    return total


def _quality(counts: dict[str, Ints]) -> Json:
    """Return precision and recall (IoU 0.5) over all objects.

    Per class too, under "classes".
    """
    total = np.zeros(3, np.int64)
    classes = {}
    for name, of_class in counts.items():
        total += of_class
        classes[name] = calibration.ratios(of_class)
    return {"all": calibration.ratios(total), "classes": classes}

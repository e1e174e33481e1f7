"""Verify every synthetic object with a detector that had no part in making it.

Objects are kept, dropped or ignored by the verdict. A class that the detector finds too rarely gets
another judge (docs/verification.md), where real images show one to be right, else none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.boxes import box_areas
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.scene import Category, Dataset, Scene, thing_flags
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest, link_all
from synthaug.pipeline.detection.floor import with_detections_of
from synthaug.pipeline.detection.inference import detect, detect_shards
from synthaug.pipeline.detection.store import read_rows
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps import train_detector
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs, check_file
from synthaug.pipeline.steps.networks import check_detector_file
from synthaug.pipeline.verification import links as verification_links
from synthaug.pipeline.verification import thresholds as verification_thresholds
from synthaug.pipeline.verification.links import rates
from synthaug.pipeline.verification.policy import NOT_JUDGED, REAL, apply_policy, count_objects
from synthaug.pipeline.verification.prototypes import Prototypes
from synthaug.pipeline.verification.tail import TailTables, choose_judges
from synthaug.pipeline.verification.tail_judges import CROPS, LOWER, LOWER_BAR, TailJudge
from synthaug.pipeline.verification.thresholds import DETECTOR, ClassThresholds, Requirements
from synthaug.pipeline.verification.verdicts import (
    EXTRA,
    FAILED,
    KEPT,
    LEAST_SCORE,
    Thresholds,
    Verdicts,
    is_too_small,
    on_synthetic,
    verdicts,
    with_crop_verdicts,
)

if TYPE_CHECKING:
    from synthaug.detectors.base import Detector

NEEDS = ("ingest", "synthesize")
VERSION = 5
PUBLISHES = (Published("*.parquet", "data"),)
COUNTS = (KEPT, *FAILED, NOT_JUDGED, REAL, EXTRA, "objects")  # per class, in the manifest
JUDGE, DETECTIONS, REJECTED = "judge", "detections", "rejected"  # folders inside the step's
SUMMARY = "told.json"  # of the training of the detector
PROTOTYPES = "prototypes.json"  # of the classes that crops are judged of


@dataclass(frozen=True)
class Spec:
    """Folders and settings for the tasks, as plain data."""

    job: Job
    ingest: str
    synthetic: str
    weights: tuple[str, str]  # folder and name of the detector's checkpoint
    out: str
    fitted: Mapping[str, Any]  # content of `fit_thresholds`, empty before it ran

    def split(self, name: str, pixels: bool = True) -> Dataset:
        """Open an ingested split."""
        folder = Folder.at(self.ingest).sub(name)
        return parquet.open_table(folder, pixels=pixels)

    def images(self) -> Dataset:
        """Open the synthetic images."""
        return parquet.open_table(self.synthetic)

    def detector(self) -> Detector:
        """Load the detector that verifies; it need not be of the job's back-end."""
        import torch

        from synthaug.detectors import load

        torch.set_num_threads(1)
        folder, name = self.weights
        with Folder.at(folder).local_copy(name) as path:
            return load(path, device=device())


def settings(job: Job) -> Json:
    """Return the verify section, and the detector's where one is trained to verify."""
    if not job.verify.enabled:
        return {"enabled": False}
    section = section_dict(job, "verify")
    if job.verify.detector:
        return {"verify": section, "judge": file_digest(job.verify.detector), "seed": job.seed}
    return {"verify": section, **train_detector.settings(_detector_job(job))}


def check(job: Job) -> None:
    """Raise JobError when the detector the job names is not there."""
    check_file("verify.detector", job.verify.detector)


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError when the detector the job names is of no use.

    It cannot be read, or knows other classes.
    """
    check_detector_file("verify.detector", job.verify.detector, len(inputs.categories))


def metrics(manifest: Manifest) -> Json:
    """Return the verdicts, and how often the detector errs."""
    return {"verified": dict(manifest)}


def links(manifest: Manifest) -> list[Link]:
    """Return the links of this step.

    Whether the generator's objects are recognised, and whether verification can tell right from
    wrong.
    """
    return verification_links.links(manifest)


def _detector_job(job: Job) -> Job:
    """Return the job as the training of the detector reads it.

    The same detector, trained on its own. It also returns detections that count at the lower bar
    only.
    """
    plan = job.detector.training
    steps = job.verify.steps or plan.steps
    plan = replace(plan, steps=steps, evaluate_every=0, keep="last")
    floor = min(job.detector.config.score_floor, LOWER_BAR)
    config = replace(job.detector.config, score_floor=floor)
    section = replace(job.detector, training=plan, config=config)
    return replace(job, detector=section)


def fit_thresholds(spec: Spec) -> Json:
    """Fit the thresholds of all classes, and count the errors of the detector.

    Runs in a worker.
    """
    section = spec.job.verify
    table = spec.split("labelled", pixels=False)
    things = thing_flags(table.categories)
    stored = Folder.at(spec.out).sub(DETECTIONS)
    rows = list(read_rows(stored))
    required = Requirements(
        section.recall, section.min_recall, section.min_truths, section.precision
    )
    areas = labelled_areas(table)
    least = verification_thresholds.least_areas(areas, len(things), section.small)
    seed = seed_for(spec.job.seed, "verify", "folds")
    usual = [row.with_predictions(row.pred_scores >= LEAST_SCORE) for row in rows]
    errors = verification_thresholds.held_out_errors(usual, things, least, required, seed)
    fitted = verification_thresholds.fit(usual, things, required)
    names = [category.name for category in table.categories]
    by_label = errors["true"]
    errors["true"] = {names[label]: counts for label, counts in by_label.items()}
    labelled = spec.split("labelled")
    validation = spec.split("validation")
    tables = TailTables(table, labelled, validation)
    tail_seed = seed_for(spec.job.seed, "verify", "tail")
    chosen, learnt = choose_judges(rows, fitted, least, tables, spec.detector, required, tail_seed)
    if learnt is not None:
        Folder.at(spec.out).write_json(PROTOTYPES, learnt.to_json())
    bars = {}
    for label, name in enumerate(names):
        own = fitted[label]
        if label in chosen:
            own = with_judge(own, chosen[label])
        bars[name] = own.to_json()
    return {
        "bars": bars,
        "things": [category.name for category in table.categories if category.isthing],
        "tail": {names[label]: judge.to_json() for label, judge in chosen.items()},
        "least_area": least.tolist(),
        "errors": errors,
    }


def with_judge(own: ClassThresholds, judge: TailJudge) -> ClassThresholds:
    """Return the thresholds with the other judge of a class.

    For a class that the detector finds too rarely.
    """
    if judge.judge == LOWER:
        return replace(
            own, score=judge.score, iou=judge.iou, judged=True, judge=LOWER, basis="lower bar"
        )
    return replace(own, judge=judge.judge, margin=judge.margin)


def labelled_areas(table: Dataset) -> dict[int, list[float]]:
    """Return the areas of all labelled boxes, shares of their images, by class.

    Crowds are left out.
    """
    areas: dict[int, list[float]] = {}
    for scene in table:
        objects = scene.objects.without_crowds()
        shares = box_areas(objects.boxes) / (scene.height * scene.width)
        labels = objects.category.tolist()
        for label, share in zip(labels, shares.tolist(), strict=True):
            areas.setdefault(label, []).append(share)
    return areas


def read_thresholds(fitted: Mapping[str, Any], categories: Sequence[Category]) -> Thresholds:
    """Return the thresholds from the step's manifest, in the order of the classes."""
    of_classes = []
    for category in categories:
        of_classes.append(ClassThresholds(**fitted["bars"][category.name]))
    least = np.array(fitted["least_area"])
    return verification_thresholds.stack(of_classes, thing_flags(categories), least)


class Judge:
    """The detector that verifies, with its thresholds and crops of some classes."""

    def __init__(
        self,
        detector: Detector,
        fitted: Mapping[str, Any],
        categories: Sequence[Category],
        out: str,
    ) -> None:
        """Take what was fitted; `out` is the step's folder."""
        self.detector = detector
        self._thresholds = read_thresholds(fitted, categories)
        bars = [fitted["bars"][category.name] for category in categories]
        judges = [bar["judge"] for bar in bars]
        margins = [bar["margin"] for bar in bars]
        self.by_detector = np.array([judge == DETECTOR for judge in judges], bool)
        self._by_crops = np.array([judge == CROPS for judge in judges], bool)
        self._margin = np.array(margins)
        if self._by_crops.any():
            self._prototypes = Prototypes.from_json(Folder.at(out).read_json(PROTOTYPES))

    @staticmethod
    def of(
        job: Job, folder: str, manifest: Mapping[str, Any], categories: Sequence[Category]
    ) -> Judge:
        """Return the judge of a finished step, by its folder and its manifest."""
        weights = (Folder.at(folder).sub(JUDGE).uri, train_detector.WEIGHTS)
        if job.verify.detector:
            path = Path(job.verify.detector).absolute()
            weights = (str(path.parent), path.name)
        spec = Spec(job, "", "", weights, folder, manifest)
        return Judge(spec.detector(), manifest, categories, folder)

    def __call__(self, scene: Scene) -> Verdicts:
        """Return the verdicts on the objects of one image."""
        (prediction,) = self.detector.predict([decode(scene)])
        row = DetectionRow.of(0, scene, prediction)
        return self.judge_crops(scene, row, self.on_row(row, scene.objects.source))

    def on_row(self, row: DetectionRow, source: Sequence[str]) -> Verdicts:
        """Return the verdicts by detections alone; what a person labelled gets none."""
        return on_synthetic(verdicts(row, self._thresholds), source)

    def judge_crops(self, scene: Scene, row: DetectionRow, result: Verdicts) -> Verdicts:
        """Return the verdicts with those on objects of classes that crops are judged of."""
        is_synthetic = [source != "human" for source in scene.objects.source]
        synthetic = np.array(is_synthetic, bool)
        by_crops = self._by_crops[row.labels]
        chosen = np.flatnonzero(by_crops & ~row.crowd & synthetic)
        if not len(chosen):
            return result
        image = decode(scene)
        (features,) = self.detector.box_features([image], [row.boxes[chosen]])
        kept = self._prototypes.confirm(features, row.labels[chosen], self._margin)
        small = is_too_small(row, self._thresholds)[chosen]
        return with_crop_verdicts(result, chosen, kept, small)


class _Verifier:
    """Verifies a shard of synthetic images and writes it.

    Runs in a worker; the objects that were dropped are written apart.
    """

    def __init__(self, spec: Spec) -> None:
        self._section = spec.job.verify
        self._out = Folder.at(spec.out)
        self._table = spec.images()
        self._categories = self._table.categories
        self._judge = Judge(spec.detector(), spec.fitted, self._categories, spec.out)

    def __call__(self, name: str, indices: range) -> Json:
        counts: dict[str, Counter[str]] = {key: Counter() for key in COUNTS}
        images = {"verified": 0, "failed": 0, "empty": 0}
        recognised = {"made": 0, "made_of": 0, "chance": 0, "chance_of": 0}
        previous: DetectionRow | None = None
        file = f"{name}.parquet"
        with (
            parquet.ShardWriter(self._out, file, self._categories) as verified_writer,
            parquet.ShardWriter(self._out.sub(REJECTED), file, self._categories) as rejected_writer,
        ):
            detector = self._judge.detector
            detections = detect(detector, self._table, indices, self._section.batch)
            for index, scene, prediction in detections:
                row = DetectionRow.of(index, scene, prediction)
                source = scene.objects.source
                result = self._judge.on_row(row, source)
                self._count_recognised(recognised, "made", row, result)
                if previous is not None:
                    other = with_detections_of(row, previous)
                    blind = self._judge.on_row(other, source)
                    self._count_recognised(recognised, "chance", row, blind)
                previous = row
                result = self._judge.judge_crops(scene, row, result)
                verified = apply_policy(scene, row, result, self._section, index)
                images[verified.dropped or "verified"] += 1
                of_image = count_objects(verified, result, row, self._categories, source)
                for key, of_classes in of_image.items():
                    counts[key].update(of_classes)
                if verified.scene is not None:
                    verified_writer.write([verified.scene])
                if len(verified.rejected):
                    no_pixels = replace(scene.image, data=None)
                    bare = replace(scene, image=no_pixels, panoptic=None)
                    rejected_writer.write([bare.with_objects(verified.rejected)])
        manifest: Json = {
            "rows": len(indices),
            "images": images,
            "recognised": recognised,
        }
        for key, of_classes in counts.items():
            manifest[key] = dict(of_classes)
        return manifest

    def _count_recognised(
        self, counts: dict[str, int], key: str, row: DetectionRow, result: Verdicts
    ) -> None:
        """Count the objects that the detector itself judges, and those it confirms."""
        labels = row.labels.tolist()
        for label, verdict in zip(labels, result.verdict, strict=True):
            if verdict is not None and self._judge.by_detector[label]:
                counts[f"{key}_of"] += 1
                counts[key] += verdict == KEPT


def run(context: Context) -> Json:
    """Write the verified table, and in `rejected/` what was dropped.

    The manifest counts verdicts per class.
    """
    job = context.job
    ingest = context.inputs["ingest"]
    synthesize = context.inputs["synthesize"]
    shards = cut(synthesize.manifest["images"], job.plan.shard)
    if not job.verify.enabled:
        files = [f"{name}.parquet" for name, _ in shards]
        link_all(synthesize.folder, context.folder, files)
        context.tell("  off: the synthetic images go on as they were made")
        return {
            "enabled": False,
            "images": {"verified": synthesize.manifest["images"]},
            "objects": synthesize.manifest["objects"],
        }
    weights, detector_summary = _trained_detector(context)
    spec = Spec(
        job, ingest.folder.uri, synthesize.folder.uri, weights, context.folder.uri, fitted={}
    )
    detect_shards(
        context,
        partial(spec.split, "validation"),
        spec.detector,
        ingest.manifest["splits"]["validation"]["images"],
        job.verify.batch,
        context.folder.sub(DETECTIONS),
        "validation images",
    )
    fitted: Json = context.executor.call(fit_thresholds, spec)

    make = partial(_Verifier, replace(spec, fitted=fitted))
    rows = context.shards(make, shards, context.folder, "images", gpu=True)
    counts = {key: add_counts(rows, key) for key in COUNTS}
    images = add_counts(rows, "images")
    for line in summary_lines(images, counts, fitted):
        context.tell(f"  {line}")
    policy = {}
    for key, value in asdict(job.verify).items():
        if key in (*FAILED, EXTRA, "max_failed", "recall"):
            policy[key] = value
    return {
        "enabled": True,
        "judge": detector_summary,
        "images": images,
        **counts,
        **fitted,
        "recognised": _recognised(add_counts(rows, "recognised"), fitted),
        "policy": policy,
    }


def _recognised(counts: Mapping[str, int], fitted: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return how many objects the detector confirms, of how many.

    Synthetic, real, and of another image's layout.
    """
    real = [0, 0]
    for name, verdicts_of_class in fitted["errors"]["true"].items():
        if fitted["bars"][name]["judge"] == DETECTOR:
            real[0] += verdicts_of_class[KEPT]
            real[1] += sum(verdicts_of_class.values())
    return {
        "made": [counts["made"], counts["made_of"]],
        "real": real,
        "chance": [counts["chance"], counts["chance_of"]],
    }


def _trained_detector(context: Context) -> tuple[tuple[str, str], Json]:
    """Return folder and name of the detector's checkpoint, and its training.

    The latter as a summary. The detector is trained here unless the job names one.
    """
    job = context.job
    if job.verify.detector:
        path = Path(job.verify.detector).absolute()
        summary = {"sha256": file_digest(job.verify.detector), "trained_here": False}
        return (str(path.parent), path.name), summary
    folder = context.folder.sub(JUDGE)
    weights = (folder.uri, train_detector.WEIGHTS)
    if folder.exists(SUMMARY):
        earlier: Json = folder.read_json(SUMMARY)
        return weights, earlier
    detector_job = _detector_job(job)
    ingest = context.inputs["ingest"].folder.uri
    spec = train_detector.Spec(detector_job, ingest, folder.uri, "verify")
    result = context.train(train_detector.fit, spec, folder, job.detector.training.workers)
    summary = {
        "sha256": folder.sha256(train_detector.WEIGHTS),
        "trained_here": True,
        "steps": detector_job.detector.training.steps,
        "measured": dict(result["measured"]),
    }
    folder.write_json(SUMMARY, summary)
    folder.delete("state.safetensors")
    return weights, summary


def summary_lines(
    images: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], fitted: Mapping[str, Any]
) -> list[str]:
    """Return the lines for the user.

    The objects that stay, those that do not, other judges, and errors of the detector.
    """
    total = {key: sum(counts[key].values()) for key in COUNTS}
    num_judged = sum(total[key] for key in (KEPT, *FAILED))
    if not num_judged:
        return [
            f"the detector knows no class well enough; all {total[NOT_JUDGED]} objects stay as "
            "they are"
        ]
    kept = f"{total[KEPT]} of {num_judged} judged objects are where they should be"
    failed = [f"{total[key]} {key.replace('_', ' ')}" for key in FAILED if total[key]]
    if failed:
        kept = f"{kept}; {', '.join(failed)}"
    num_dropped = images["failed"] + images["empty"]
    lines = [
        kept,
        f"{total[EXTRA]} things were found that have no label; {total[NOT_JUDGED]} objects were "
        f"not judged; {num_dropped} of {sum(images.values())} images dropped",
    ]
    for name, tail in fitted["tail"].items():
        judge = tail["judge"] or "nobody is shown to judge it rightly: no verdicts, no yield"
        lines.append(f"{name}: the detector finds too few real ones; judged by: {judge}")
    rejected, accepted = rates(fitted["errors"])
    if rejected is not None and accepted is not None:
        lines.append(
            f"on real validation images the same detector rejects {100 * rejected:.1f} % of the "
            f"true objects and accepts {100 * accepted:.1f} % of the false labels injected there"
        )
    return lines

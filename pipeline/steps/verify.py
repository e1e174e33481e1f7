"""Look for every synthetic object with a detector that had no part in making it; keep, drop or ignore by the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest, link_all
from synthaug.pipeline.detection.inference import detect, detect_shards
from synthaug.pipeline.detection.store import read_rows
from synthaug.pipeline.execution.context import Context, add_counts, cut
from synthaug.pipeline.execution.training import device
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionRow
from synthaug.pipeline.steps import train_detector
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.inputs import Inputs, check_detector, check_file
from synthaug.pipeline.verification import thresholds as verification_thresholds
from synthaug.pipeline.verification.policy import NOT_JUDGED, apply_policy, count_objects
from synthaug.pipeline.verification.thresholds import ClassThresholds, Requirements
from synthaug.pipeline.verification.verdicts import EXTRA, FAILED, KEPT, Thresholds, verdicts

if TYPE_CHECKING:
    from synthaug.detectors.tta import TestTimeAugmented

NEEDS = ("ingest", "synthesize")
VERSION = 2
PUBLISHES = (Published("*.parquet", "data"),)
COUNTS = (KEPT, *FAILED, NOT_JUDGED, EXTRA, "objects")  # per class, in the manifest
JUDGE, DETECTIONS, REJECTED = "judge", "detections", "rejected"  # folders inside the step's


@dataclass(frozen=True)
class Spec:
    """What the tasks need, as plain data."""

    job: Job
    ingest: str
    made: str
    weights: tuple[str, str]  # folder and name of the judge's checkpoint
    out: str
    learnt: Mapping[str, Any]  # content of `learn`, empty before it ran

    def table(self, split: str, pixels: bool = True) -> Dataset:
        """Open an ingested split, or `made`, the synthetic images."""
        uri = self.made if split == "made" else Folder.at(self.ingest).sub(split).uri
        return parquet.open_table(uri, pixels=pixels)

    def judge(self) -> TestTimeAugmented:
        """Load the detector that judges; it need not be of the job's back-end."""
        import torch

        from synthaug.detectors import load
        from synthaug.detectors.tta import TestTimeAugmented

        torch.set_num_threads(1)
        folder, name = self.weights
        with Folder.at(folder).local_copy(name) as path:
            return TestTimeAugmented(load(path, device=device()), flip=False, scales=())


def settings(job: Job) -> dict[str, Any]:
    """The verify section, and the detector where one is trained to judge."""
    if not job.verify.enabled:
        return {"enabled": False}
    how = section_dict(job, "verify")
    if job.verify.detector:
        return {"verify": how, "judge": file_digest(job.verify.detector), "seed": job.seed}
    return {"verify": how, **train_detector.settings(_own(job))}


def check(job: Job) -> None:
    """Raise JobError when the detector the job names is not there."""
    check_file("verify.detector", job.verify.detector)


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError when the detector the job names knows other classes."""
    check_detector("verify.detector", job.verify.detector, len(inputs.categories))


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the verdicts, and how often the detector errs."""
    return {"verified": dict(manifest)}


def _own(job: Job) -> Job:
    """The job as the judge's training reads it: the same detector, trained on its own."""
    plan = job.detector.training
    plan = replace(plan, steps=job.verify.steps or plan.steps, evaluate_every=0, keep="last")
    return replace(job, detector=replace(job.detector, training=plan))


def learn(spec: Spec) -> dict[str, Any]:
    """Runs in a worker: fit the thresholds of all classes, and count how often the judge errs."""
    how, table = spec.job.verify, spec.table("labelled", pixels=False)
    things = np.array([category.isthing for category in table.categories], bool)
    rows = list(read_rows(Folder.at(spec.out).sub(DETECTIONS)))
    required = Requirements(how.recall, how.min_recall, how.min_truths, how.precision)
    least = verification_thresholds.least_areas(box_areas(table), len(things), how.small)
    errors = verification_thresholds.held_out_errors(
        rows, things, least, required, seed_for(spec.job.seed, "verify", "folds")
    )
    bars = [own.to_json() for own in verification_thresholds.fit(rows, things, required)]
    names = [category.name for category in table.categories]
    errors["true"] = {names[label]: counted for label, counted in errors["true"].items()}
    return {
        "bars": dict(zip(names, bars, strict=True)),
        "least_area": least.tolist(),
        "errors": errors,
    }


def box_areas(table: Dataset) -> dict[int, list[float]]:
    """Area of every labelled box, share of its image, by class."""
    areas: dict[int, list[float]] = {}
    for i in range(len(table)):
        scene = table[i]
        objects = scene.objects.select(~scene.objects.iscrowd)
        share = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1) / (scene.height * scene.width)
        for label, area in zip(objects.category.tolist(), share.tolist(), strict=True):
            areas.setdefault(label, []).append(area)
    return areas


def read(learnt: Mapping[str, Any], names: list[str], things: NDArray[np.bool_]) -> Thresholds:
    """Return the thresholds from the step's manifest, in the order of the class names."""
    fitted = [ClassThresholds(**learnt["bars"][name]) for name in names]
    return verification_thresholds.stack(fitted, things, np.array(learnt["least_area"]))


class _Verifier:
    """Runs in a worker: judges one shard of synthetic images and writes what stands, and apart what does not."""

    def __init__(self, spec: Spec) -> None:
        self._how, self._out = spec.job.verify, Folder.at(spec.out)
        self._table, self._judge = spec.table("made"), spec.judge()
        self._categories = self._table.categories
        things = np.array([category.isthing for category in self._categories], bool)
        self._thresholds = read(
            spec.learnt, [category.name for category in self._categories], things
        )

    def __call__(self, name: str, places: range) -> dict[str, Any]:
        counts: dict[str, Counter[str]] = {key: Counter() for key in COUNTS}
        images = {"verified": 0, "failed": 0, "empty": 0}
        with (
            parquet.ShardWriter(self._out, f"{name}.parquet", self._categories) as writer,
            parquet.ShardWriter(
                self._out.sub(REJECTED), f"{name}.parquet", self._categories
            ) as aside,
        ):
            for place, scene, found in detect(self._judge, self._table, places, self._how.batch):
                row = DetectionRow.of(place, scene, found)
                result = verdicts(row, self._thresholds)
                verified = apply_policy(scene, row, result, self._how, place)
                images[verified.dropped or "verified"] += 1
                for key, counted in count_objects(verified, result, row, self._categories).items():
                    counts[key].update(counted)
                if verified.scene is not None:
                    writer.write([verified.scene])
                if len(verified.rejected):
                    bare = replace(scene, image=replace(scene.image, data=None), panoptic=None)
                    aside.write([bare.with_objects(verified.rejected)])
        return {
            "rows": len(places),
            "images": images,
            **{key: dict(counted) for key, counted in counts.items()},
        }


def run(context: Context) -> dict[str, Any]:
    """Write the verified table, and in `rejected/` what was dropped; the manifest counts verdicts per class."""
    job, made = context.job, context.inputs["synthesize"]
    items = cut(made.manifest["images"], job.plan.shard)
    if not job.verify.enabled:
        link_all(made.folder, context.folder, [f"{name}.parquet" for name, _ in items])
        context.tell("  off: the synthetic images go on as they were made")
        return {
            "enabled": False,
            "images": {"verified": made.manifest["images"]},
            "objects": made.manifest["objects"],
        }
    weights, told = _trained(context)
    spec = Spec(
        job, context.inputs["ingest"].folder.uri, made.folder.uri, weights, context.folder.uri, {}
    )
    real = context.inputs["ingest"].manifest["splits"]["validation"]["images"]
    detect_shards(
        context,
        partial(spec.table, "validation"),
        spec.judge,
        real,
        job.verify.batch,
        context.folder.sub(DETECTIONS),
        "validation images",
    )
    learnt: dict[str, Any] = context.executor.call(learn, spec)
    rows = context.shards(
        partial(_Verifier, replace(spec, learnt=learnt)), items, context.folder, "images"
    )
    counts = {key: add_counts(rows, key) for key in COUNTS}
    images = add_counts(rows, "images")
    for line in sentences(images, counts, learnt["errors"]):
        context.tell(f"  {line}")
    policy = {
        key: value
        for key, value in asdict(job.verify).items()
        if key in (*FAILED, EXTRA, "max_failed", "recall")
    }
    return {"enabled": True, "judge": told, "images": images, **counts, **learnt, "policy": policy}


def _trained(context: Context) -> tuple[tuple[str, str], dict[str, Any]]:
    """The checkpoint that judges, trained here unless the job names one, and what is to be known of it."""
    job = context.job
    if job.verify.detector:
        path = Path(job.verify.detector).absolute()
        return (str(path.parent), path.name), {
            "sha256": file_digest(job.verify.detector),
            "trained_here": False,
        }
    folder = context.folder.sub(JUDGE)
    if folder.exists("told.json"):
        known: dict[str, Any] = folder.read_json("told.json")
        return (folder.uri, train_detector.WEIGHTS), known
    spec = train_detector.Spec(_own(job), context.inputs["ingest"].folder.uri, folder.uri, "verify")
    result = context.train(train_detector.fit, spec, folder, job.detector.training.workers)
    digest, steps = folder.sha256(train_detector.WEIGHTS), _own(job).detector.training.steps
    told = {
        "sha256": digest,
        "trained_here": True,
        "steps": steps,
        "measured": dict(result["measured"]),
    }
    folder.write_json("told.json", told)
    folder.delete("state.safetensors")
    return (folder.uri, train_detector.WEIGHTS), told


def sentences(
    images: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], errors: Mapping[str, Any]
) -> list[str]:
    """What a user is told: what stands, what does not, and how often the judge errs."""
    total = {key: sum(counts[key].values()) for key in COUNTS}
    judged = sum(total[key] for key in (KEPT, *FAILED))
    failed = ", ".join(f"{total[key]} {key.replace('_', ' ')}" for key in FAILED if total[key])
    if not judged:
        return [
            f"the judge knows no class well enough to judge it; all {total[NOT_JUDGED]} objects stay as they are"
        ]
    lines = [
        f"{total[KEPT]} of {judged} judged objects are where they should be"
        + (f"; {failed}" if failed else ""),
        f"{total[EXTRA]} things were found that have no label; {total[NOT_JUDGED]} objects were not judged; "
        f"{images['failed'] + images['empty']} of {sum(images.values())} images dropped",
    ]
    rejected, accepted = rates(errors)
    if rejected is not None and accepted is not None:
        lines.append(
            f"on real validation images the same judge rejects {100 * rejected:.1f} % of the true objects and accepts "
            f"{100 * accepted:.1f} % of the false labels planted there"
        )
    return lines


def rates(errors: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """(Share of true objects rejected, share of planted false labels accepted); None without any."""
    true = list(errors["true"].values())
    seen = sum(sum(counted.values()) for counted in true)
    planted = [counted for kind, counted in errors["planted"].items() if kind != EXTRA]
    false = sum(counted["planted"] for counted in planted)
    return (
        1 - sum(counted[KEPT] for counted in true) / seen if seen else None,
        sum(counted["accepted"] for counted in planted) / false if false else None,
    )

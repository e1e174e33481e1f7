"""Train the detector further with the unlabelled images (mean teacher).

And measure whether that made it better.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import Draw, draw_for
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.arrays import Floats32
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.scene import Category, Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.evaluation import average_precision, evaluate
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs
from synthaug.pipeline.steps.train_detector import WEIGHTS as SUPERVISED

if TYPE_CHECKING:
    from synthaug.detectors.base import Detector
    from synthaug.detectors.mean_teacher import MeanTeacher, MixedBatch

NEEDS = ("ingest", "train_detector")
VERSION = 1
WEIGHTS = (
    "labeller.safetensors"  # of the detector that labels the unlabelled images, trained here or not
)
SPLITS = ("labelled", "validation", "unlabelled")
PUBLISHES = (Published(WEIGHTS, "checkpoints"),)


@dataclass(frozen=True)
class Spec:
    """Folders and settings for the task, as plain data."""

    job: Job
    ingest: str
    detector: str
    folder: str

    def table(self, split: str) -> Dataset:
        """Open an ingested split."""
        folder = Folder.at(self.ingest).sub(split)
        return parquet.open_table(folder)


def settings(job: Job) -> Json:
    """Return the section, unless it is off."""
    section = section_dict(job, "self_train")
    if not section["steps"]:
        return {"steps": 0}
    return {"self_train": section, "seed": job.seed}


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError for a threshold of a class that is not there."""
    thresholds(job, inputs.categories)


def metrics(manifest: Manifest) -> Json:
    """Return the steps, the detector that was kept, and AP before and after."""
    keys = ("steps", "kept", "before", "after")
    return {"self_train": {key: manifest[key] for key in keys if key in manifest}}


def thresholds(job: Job, categories: Sequence[Category]) -> Floats32:
    """Return the least score [C] of a target of each class.

    Raises JobError for a class that is not there.
    """
    section = job.self_train
    given = section.training.thresholds
    names = [category.name for category in categories]
    for name in given:
        if name not in names:
            raise JobError(
                f"self_train.thresholds: there is no class '{name}'{suggest(name, names)}"
            )
    least = section.config.threshold
    scores = [given.get(name, least) for name in names]
    return np.array(scores, np.float32)


def prepare(
    detector: Detector, job: Job, tables: Mapping[str, Dataset]
) -> tuple[MeanTeacher, Callable[[int], MixedBatch]]:
    """Return the training of a trained detector and its batches.

    The detector is changed by it.
    """
    from synthaug.detectors.mean_teacher import MeanTeacher

    plan = job.self_train.training
    config = job.detector.config
    recipe = config.recipe()
    if plan.lr:
        recipe = replace(recipe, lr=plan.lr)
    seed = seed_for(job.seed, "self_train")
    least = thresholds(job, tables["labelled"].categories)
    config = job.self_train.config
    training = MeanTeacher(detector, recipe, config, plan.steps, seed % 2**31, least)
    batches = mixed_batches(job, tables["labelled"], tables["unlabelled"], seed)
    return training, batches


def mixed_batches(
    job: Job, labelled: Dataset, unlabelled: Dataset, seed: int
) -> Callable[[int], MixedBatch]:
    """Return step -> labelled samples and unlabelled images.

    The former are drawn as for the detector, the latter in uniform epochs.
    """
    from synthaug.detectors.mean_teacher import MixedBatch

    plan = job.self_train.training
    supervised = job.detector.training
    sampling = supervised.sampling
    threshold = supervised.repeat_threshold
    drawn = draw_for([labelled], plan.batch, seed, sampling, threshold)
    samples = detector_batches(labelled, drawn)
    key = seed_for(seed, "unlabelled")
    draw = Draw(len(unlabelled), plan.unlabelled_batch, key)
    pixels = Pixels([unlabelled], None)

    def batch(step: int) -> MixedBatch:
        images = [pixels[index][1] for index in draw(step)]
        return MixedBatch(samples(step), images)

    return batch


def fit(spec: Spec) -> Json:
    """Train on from the last checkpoint, measure both ends, write the chosen weights.

    Runs in a worker.
    """
    import torch

    from synthaug.detectors import DETECTORS

    job = spec.job
    plan = job.self_train.training
    folder = Folder.at(spec.folder)
    torch.set_num_threads(job.detector.training.threads or cores())
    backend = importlib.import_module(DETECTORS[job.detector.backend])
    with Folder.at(spec.detector).local_copy(SUPERVISED) as path:
        detector = backend.load(path, device=device())
    tables = {split: spec.table(split) for split in SPLITS}
    validation = tables["validation"]

    before = average_precision(evaluate(detector, validation, plan.unlabelled_batch))
    training, batches = prepare(detector, job, tables)
    start = train(training, batches, plan.steps, plan.save_every, folder)
    training.finish()
    after = average_precision(evaluate(detector, validation, plan.unlabelled_batch))

    kept = "last"
    if plan.keep != "last" and worse(after, before):
        kept = "supervised"
        copy(spec)
    else:
        classes = [category.name for category in tables["labelled"].categories]
        with folder.atomic_path(WEIGHTS) as path:
            detector.save(path, {"classes": "\n".join(classes)})
    return {"resumed_from": start, "before": before, "after": after, "kept": kept}


def worse(after: Mapping[str, float | None], before: Mapping[str, float | None]) -> bool:
    """Return whether AP50 fell; without truth to compare with it did not."""
    ap50_after = after["AP50"]
    ap50_before = before["AP50"]
    if ap50_after is None or ap50_before is None:
        return False
    return ap50_after < ap50_before


def copy(spec: Spec) -> None:
    """Runs in a worker: copy the weights of the supervised detector."""
    weights = Folder.at(spec.detector).read_bytes(SUPERVISED)
    Folder.at(spec.folder).write_bytes(WEIGHTS, weights)


def run(context: Context) -> Json:
    """Write the weights of the detector that labels.

    The manifest says which detector was kept, and why.
    """
    job = context.job
    plan = context.job.self_train.training
    ingest, detector = (context.inputs[name].folder for name in NEEDS)
    spec = Spec(job, ingest.uri, detector.uri, context.folder.uri)
    if not plan.steps:
        context.executor.call(copy, spec)
        context.tell(
            "  off (self_train.steps is 0): the detector trained on labels labels the images"
        )
        return {
            "steps": 0,
            "kept": "supervised",
            "weights": WEIGHTS,
            "sha256": context.folder.sha256(WEIGHTS),
        }
    result = context.train(fit, spec, context.folder)
    if result["resumed_from"]:
        context.tell(f"  went on from step {result['resumed_from']}")
    for line in summary_lines(result):
        context.tell(f"  {line}")
    log = read_log(context.folder)
    return {
        "before": result["before"],
        "after": result["after"],
        "kept": result["kept"],
        "steps": plan.steps,
        "weights": WEIGHTS,
        "sha256": context.folder.sha256(WEIGHTS),
        "last": log[-1],
    }


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines for the user: AP before and after.

    And a word where the trained detector is not kept.
    """
    lines = [f"validation: {before_and_after(result)}"]
    if result["kept"] == "supervised":
        lines.append("worse, so the detector trained on labels is kept (self_train.keep: better)")
    return lines


def before_and_after(result: Mapping[str, Any]) -> str:
    """Return AP50 and AP of a detector before and after a training."""
    parts = []
    for key in ("AP50", "AP"):
        before = _three_digits(result["before"][key])
        after = _three_digits(result["after"][key])
        parts.append(f"{key} {before} before and {after} after")
    return ", ".join(parts)


def _three_digits(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}"

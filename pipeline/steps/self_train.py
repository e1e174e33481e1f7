"""Go on training the detector with the unlabelled images (mean teacher), and measure whether that made it better."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import Draw, draw_for
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.scene import Category, Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.evaluation import average_precision, evaluate
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Manifest, Published
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
    """What the task needs, as plain data; URIs of folders."""

    job: Job
    ingest: str
    detector: str
    folder: str

    def table(self, split: str) -> Dataset:
        """Open an ingested split."""
        return parquet.open_table(Folder.at(self.ingest).sub(split))


def settings(job: Job) -> dict[str, Any]:
    """The section, unless it is off."""
    section = section_dict(job, "self_train")
    return {"self_train": section, "seed": job.seed} if section["steps"] else {"steps": 0}


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError for a threshold of a class that is not there."""
    thresholds(job, inputs.categories)


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return how long the training was, whose detector labels, and what both are worth."""
    keys = ("steps", "kept", "before", "after")
    return {"self_train": {key: manifest[key] for key in keys if key in manifest}}


def thresholds(job: Job, categories: Sequence[Category]) -> NDArray[np.float32]:
    """Scores [C] from which on a detection of each class is a target; JobError on a class that is not there."""
    section, names = job.self_train, [c.name for c in categories]
    for name in section.training.thresholds:
        if name not in names:
            raise JobError(
                f"self_train.thresholds: there is no class '{name}'{suggest(name, names)}"
            )
    least = section.config.threshold
    return np.array([section.training.thresholds.get(name, least) for name in names], np.float32)


def prepare(
    detector: Detector, job: Job, tables: Mapping[str, Dataset]
) -> tuple[MeanTeacher, Callable[[int], MixedBatch]]:
    """Return the training of a trained detector and its batches; the detector is changed by it."""
    from synthaug.detectors.mean_teacher import MeanTeacher

    plan, config = job.self_train.training, job.detector.config
    recipe = config.recipe()
    if plan.lr:
        recipe = replace(recipe, lr=plan.lr)
    seed = seed_for(job.seed, "self_train")
    least = thresholds(job, tables["labelled"].categories)
    training = MeanTeacher(detector, recipe, job.self_train.config, plan.steps, seed % 2**31, least)
    return training, mixed_batches(job, tables["labelled"], tables["unlabelled"], seed)


def mixed_batches(
    job: Job, labelled: Dataset, unlabelled: Dataset, seed: int
) -> Callable[[int], MixedBatch]:
    """Return step -> labelled samples, drawn as for the detector, and unlabelled images in uniform epochs."""
    from synthaug.detectors.mean_teacher import MixedBatch

    plan, how = job.self_train.training, job.detector.training
    samples = detector_batches(
        labelled, draw_for([labelled], plan.batch, seed, how.sampling, how.repeat_threshold)
    )
    draw = Draw(len(unlabelled), plan.unlabelled_batch, seed_for(seed, "unlabelled"))
    pixels = Pixels([unlabelled], None)
    return lambda step: MixedBatch(samples(step), [pixels[i][1] for i in draw(step)])


def fit(spec: Spec) -> dict[str, Any]:
    """Runs in a worker: train from the last checkpoint on, measure before and after, and write the chosen weights."""
    import torch

    from synthaug.detectors import DETECTORS

    job, folder, plan = spec.job, Folder.at(spec.folder), spec.job.self_train.training
    torch.set_num_threads(job.detector.training.threads or cores())
    backend = importlib.import_module(DETECTORS[job.detector.backend])
    with Folder.at(spec.detector).local_copy(SUPERVISED) as path:
        detector = backend.load(path, device=device())
    tables = {split: spec.table(split) for split in SPLITS}
    before = average_precision(evaluate(detector, tables["validation"], plan.unlabelled_batch))
    training, batches = prepare(detector, job, tables)
    start = train(training, batches, plan.steps, plan.save_every, folder)
    training.finish()
    after = average_precision(evaluate(detector, tables["validation"], plan.unlabelled_batch))
    kept = "last" if plan.keep == "last" or not worse(after, before) else "supervised"
    if kept == "last":
        classes = [c.name for c in tables["labelled"].categories]
        with folder.atomic_path(WEIGHTS) as path:
            detector.save(path, {"classes": "\n".join(classes)})
    else:
        copy(spec)
    return {"resumed_from": start, "before": before, "after": after, "kept": kept}


def worse(after: Mapping[str, float | None], before: Mapping[str, float | None]) -> bool:
    """Whether AP50 fell; without truth to compare with it did not."""
    return (
        after["AP50"] is not None and before["AP50"] is not None and after["AP50"] < before["AP50"]
    )


def copy(spec: Spec) -> None:
    """Runs in a worker: let the supervised detector label."""
    Folder.at(spec.folder).write_bytes(WEIGHTS, Folder.at(spec.detector).read_bytes(SUPERVISED))


def run(context: Context) -> dict[str, Any]:
    """Write the weights of the detector that labels; the manifest says whose they are and why."""
    job, plan = context.job, context.job.self_train.training
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
    told = context.train(fit, spec, context.folder)
    if told["resumed_from"]:
        context.tell(f"  went on from step {told['resumed_from']}")
    for line in sentences(told):
        context.tell(f"  {line}")
    result = {key: told[key] for key in ("before", "after", "kept")}
    log = read_log(context.folder)
    return {
        **result,
        "steps": plan.steps,
        "weights": WEIGHTS,
        "sha256": context.folder.sha256(WEIGHTS),
        "last": log[-1],
    }


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What came of it, in words."""
    shown = {
        key: [
            ("n/a" if told[when][key] is None else f"{told[when][key]:.3f}")
            for when in ("before", "after")
        ]
        for key in ("AP50", "AP")
    }
    line = ", ".join(
        f"{key} {before} before and {after} after" for key, (before, after) in shown.items()
    )
    if told["kept"] == "supervised":
        return [
            f"validation: {line}",
            "worse, so the detector trained on labels is kept (self_train.keep: better)",
        ]
    return [f"validation: {line}"]

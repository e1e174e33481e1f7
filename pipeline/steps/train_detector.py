"""Train the detector on the labelled images, and measure it on the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.context import Context
from pipeline.formats import parquet
from pipeline.loading import detector_batches, draw_for
from pipeline.sampling import seed_for
from pipeline.sections import Job, section_dict
from pipeline.storage import Folder, file_digest
from pipeline.training import cores, device, read_log, train

NEEDS = ("ingest",)
VERSION = 1
WEIGHTS = "detector.safetensors"


@dataclass(frozen=True)
class Spec:
    """What the training task needs, as plain data."""

    job: Job
    labelled: str
    folder: str


def settings(job: Job) -> dict[str, Any]:
    """The detector section."""
    weights = file_digest(getattr(job.detector.config, "weights", ""))
    return {"detector": section_dict(job, "detector"), "seed": job.seed, **({"weights": weights} if weights else {})}


def fit(spec: Spec) -> dict[str, Any]:
    """Runs in a worker: train from the last checkpoint on, then write the weights."""
    import importlib

    import torch

    from detectors import DETECTORS

    section, folder = spec.job.detector, Folder.at(spec.folder)
    plan = section.training
    torch.set_num_threads(plan.threads or cores())
    seed = seed_for(spec.job.seed, "train_detector")
    table = parquet.read(parquet.Config(spec.labelled))
    backend = importlib.import_module(DETECTORS[section.backend])
    detector = backend.build(section.config, len(table.categories), seed=seed % 2**31, device=device())
    training = detector.training(plan.steps, seed % 2**31)
    draw = draw_for([table], plan.batch, seed, plan.sampling, plan.repeat_threshold)
    batches = detector_batches(table, draw, masks=getattr(section.config, "masks", False))
    start = train(training, batches, plan.steps, plan.save_every, folder)
    training.finish()
    classes = [c.name for c in table.categories]
    with folder.atomic_path(WEIGHTS) as path:
        detector.save(path, {"classes": "\n".join(classes)})
    return {"resumed_from": start, "loaded": getattr(detector, "loaded", "")}


def run(context: Context) -> dict[str, Any]:
    """Train; the manifest has the loss curve's end and the weights' digest."""
    job = context.job
    labelled = context.inputs["ingest"].folder.sub("labelled")
    spec = Spec(job, labelled.uri, context.folder.uri)
    told = context.train(fit, spec, context.folder)
    if told["resumed_from"]:
        context.tell(f"  went on from step {told['resumed_from']}")
    log = read_log(context.folder)
    return {"weights": WEIGHTS, "sha256": context.folder.sha256(WEIGHTS), "loaded": told["loaded"], "last": log[-1]}

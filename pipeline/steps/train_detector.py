"""Train the detector on the labelled images, and measure it.

On the validation images, at the end or all along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthaug.detectors.nn import lite0_weights
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.detection.evaluation import Evaluated, Row, Validation, best_of
from synthaug.pipeline.detection.floor import compare_with_floor
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs, check_file, check_sides
from synthaug.pipeline.steps.networks import check_detector_training

if TYPE_CHECKING:
    from synthaug.detectors.base import Detector

NEEDS = ("ingest",)
VERSION = 5
WEIGHTS = "detector.safetensors"
PUBLISHES = (Published(WEIGHTS, "checkpoints"),)
ADVICE = (
    "train longer (detector.steps), start from trained weights (detector.backbone=lite0, or "
    "detector.weights), enlarge the input (detector.image_size) or fit the anchors to the objects "
    "(detector.anchor_sizes)"
)
BEST = "best.safetensors"  # with the best AP50 so far; only with detector.evaluate_every


@dataclass(frozen=True)
class Spec:
    """Folders and settings for the training task, as plain data."""

    job: Job
    ingest: str
    folder: str
    purpose: str = "train_detector"  # what the randomness derives from

    def table(self, split: str) -> Dataset:
        """Open an ingested split."""
        return parquet.open_table(Folder.at(self.ingest).sub(split))


def settings(job: Job) -> Json:
    """Return the detector section, and the digest of the weights it names."""
    content = {"detector": section_dict(job, "detector"), "seed": job.seed}
    digest = file_digest(job.detector.config.weights)
    if digest:
        content["weights"] = digest
    if job.detector.config.backbone == "auto":
        content["lite0"] = lite0_weights.find_file() is not None
    return content


def check(job: Job) -> None:
    """Raise JobError when the detector's weights or library are not there.

    The library of its back-end.
    """
    from synthaug.detectors import check_installed

    config = job.detector.config
    check_file("detector.weights", config.weights)
    try:
        check_installed(job.detector.backend)
    except ValueError as err:
        raise JobError(f"detector.backend: {err}") from err
    if config.backbone == "lite0" and not config.weights:
        try:
            lite0_weights.check_installed()
        except ValueError as err:
            raise JobError(f"detector.backbone: {err}") from err


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError when the detector cannot be built, or its weights do not fit it."""
    check_detector_training(job, len(inputs.categories))


def fit(spec: Spec) -> Json:
    """Train from the last checkpoint on, then write the weights.

    Runs in a worker, or in each worker of a group.
    """
    import importlib

    import torch

    from synthaug.detectors import DETECTORS
    from synthaug.detectors.parallel import rank_and_world

    section = spec.job.detector
    plan = section.training
    folder = Folder.at(spec.folder)
    rank, world = rank_and_world()
    torch.set_num_threads(plan.threads or max(1, cores() // world))
    seed = seed_for(spec.job.seed, spec.purpose)
    network_seed = seed % 2**31

    table = spec.table("labelled")
    classes = [category.name for category in table.categories]
    masks = section.config.masks
    draw = draw_for([table], plan.batch, seed, plan.sampling, plan.repeat_threshold)
    batches = detector_batches(table, draw, rank, world, masks=masks)

    backend = importlib.import_module(DETECTORS[section.backend])
    detector = backend.build(section.config, len(classes), seed=network_seed, device=device())
    training = detector.training(plan.steps, network_seed)
    validation = None
    if rank == 0:
        validation = _validation(spec)
    evaluated = Evaluated(
        training,
        detector,
        validation,
        plan.evaluate_every,
        plan.steps,
        folder,
        lambda row: _save(detector, folder, BEST, classes, row),
    )
    start = train(evaluated, batches, plan.steps, plan.save_every, folder, rank)
    loaded = detector.loaded
    result = {"resumed_from": start, "loaded": loaded, "workers": world}
    if rank:
        return result

    training.finish()
    rows: list[Row] = list(evaluated.rows())
    measured = rows[-1]
    _save(detector, folder, WEIGHTS, classes, measured)
    if plan.evaluate_every:
        best = best_of(rows)
        evaluated.take_best()
        _save(detector, folder, BEST, classes, best)
        if plan.keep == "best":
            _save(detector, folder, WEIGHTS, classes, best)
            measured = best
    return {**result, "evaluations": len(rows), "measured": measured}


def _validation(spec: Spec) -> Validation:
    """Open the validation images.

    Raises JobError where the best weights are to be kept and nothing can tell them.
    """
    plan = spec.job.detector.training
    validation = Validation(spec.table("validation"), plan.evaluation_images)
    if plan.keep == "best" and not validation.has_truth():
        raise JobError(
            "detector.keep: no validation image has an object to find, so nothing is best; set it "
            "to last"
        )
    return validation


def _save(detector: Detector, folder: Folder, name: str, classes: list[str], row: Row) -> None:
    """Write the detector with its classes and the step that `row` was measured at."""
    with folder.atomic_path(name) as path:
        detector.save(path, {"classes": "\n".join(classes), "step": str(row["step"])})


def measure_floor(spec: Spec) -> Json:
    """Compare the trained detector with predictors that look at no image.

    Runs in a worker.
    """
    import torch

    from synthaug.detectors import load

    plan = spec.job.detector.training
    torch.set_num_threads(plan.threads or cores())
    with Folder.at(spec.folder).local_copy(WEIGHTS) as path:
        detector = load(path, device=device())
    validation = Validation(spec.table("validation"), plan.evaluation_images)
    labelled = parquet.open_table(Folder.at(spec.ingest).sub("labelled"), pixels=False)
    rows = list(validation.rows(detector))
    seed = seed_for(spec.job.seed, "train_detector", "floor")
    return compare_with_floor(rows, labelled, labelled.categories, seed)


def links(manifest: Manifest) -> list[Link]:
    """Return whether the detector is better than predictors that look at no image."""
    measured = manifest.get("floor")
    if measured is None:
        return []
    name = "detector"
    if measured["AP50"] is None:
        figure = "no validation image has an object to find, so nothing is known of it"
        return [Link(name, "weak", figure, "name validation images with objects", stops=True)]
    blind = {"constant": "the same boxes for every image", "shuffled": "another image's detections"}
    figure = (
        f"AP50 {measured['AP50']:.3f} on {measured['images']} validation images, "
        f"{measured['gain']:+.3f} [{measured['low']:+.3f}, {measured['high']:+.3f}] over "
        f"{blind[measured['floor']]} ({measured[measured['floor']]:.3f})"
    )
    if measured["low"] >= measured["margin"]:
        return [Link(name, "ok", figure)]
    figure = f"{figure}, which must be at least {measured['margin']:+.2f} with certainty"
    return [Link(name, "weak", figure, ADVICE, stops=True)]


def run(context: Context) -> Json:
    """Train the detector.

    The manifest has the last losses, the digest of the weights, their step and their AP.
    """
    plan = context.job.detector.training
    spec = Spec(context.job, context.inputs["ingest"].folder.uri, context.folder.uri)
    for split in ("labelled", "validation"):
        uri = Folder.at(spec.ingest).sub(split)
        for scene in parquet.open_table(uri, pixels=False):
            check_sides(scene, context.job.detector.config)
    result = context.train(fit, spec, context.folder, plan.workers)
    workers = result["workers"]
    measured = result["measured"]
    if result["resumed_from"]:
        context.tell(f"  went on from step {result['resumed_from']}")
    if workers < plan.workers:
        context.tell(
            f"  finished with {workers} of {plan.workers} workers: the others died and had no "
            "place left"
        )
    ap50 = _three_digits(measured["AP50"])
    ap = _three_digits(measured["AP"])
    context.tell(
        f"  after step {measured['step']}: AP50 {ap50}, AP {ap} on {measured['images']} validation "
        "images"
    )
    floor = context.executor.call(measure_floor, spec)
    return {
        "weights": WEIGHTS,
        "sha256": context.folder.sha256(WEIGHTS),
        "floor": floor,
        "loaded": result["loaded"],
        "last": read_log(context.folder)[-1],
        "keep": plan.keep,
        "measured": measured,
        "evaluations": result["evaluations"],
        "workers": {"asked": plan.workers, "finished": workers},
    }


def _three_digits(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}"

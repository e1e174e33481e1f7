"""Train the generator on the labelled images and, weighed by their scores, on the pseudo-labelled ones (eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from synthaug.generators import System, load_system
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import check_file
from synthaug.pipeline.synthesis.conditioning import guide_of
from synthaug.pipeline.synthesis.copy_paste import remember

NEEDS = ("ingest", "pseudo_label")
VERSION = 2
WEIGHTS = "generator.safetensors"
PUBLISHES = (Published(WEIGHTS, "checkpoints"),)


@dataclass(frozen=True)
class Spec:
    """What the training task needs, as plain data."""

    job: Job
    tables: tuple[str, ...]  # labelled, then pseudo-labelled
    folder: str


def settings(job: Job) -> dict[str, Any]:
    """The generator section and the optimiser's."""
    sections = ("generator", "train_generator")
    digests = {"perceptual_weights": ""}
    for key in load_system(job.generator.system).FILES:
        digests[key] = file_digest(getattr(job.generator.config, key))
    perceptual = digests.pop("perceptual_weights")
    return {
        "seed": job.seed,
        "perceptual": perceptual,
        **digests,
        **{name: section_dict(job, name) for name in sections},
    }


def check(job: Job) -> None:
    """Raise JobError for settings the generator has no use for, or weights that are not there."""
    if "perceptual_weights" in load_system(job.generator.system).FILES:
        check_file("generator.perceptual_weights", job.generator.config.perceptual_weights)
    guide_of(job).check()


def fit(spec: Spec) -> dict[str, Any]:
    """Runs in a worker, or in each worker of a group: train from the last checkpoint on, then write the weights."""
    import torch
    import torch.distributed as dist

    from synthaug.generators import checkpoint
    from synthaug.generators.base import Batch

    job, folder = spec.job, Folder.at(spec.folder)
    section, plan = job.generator, job.generator.training
    grouped = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
    system = load_system(section.system)
    whole = [parquet.read(parquet.Config(uri)) for uri in spec.tables]
    guide = guide_of(job)
    tables = [guide.accepted(table) for table in whole]
    used = [len(table) for table in tables]
    classes = [c.name for c in whole[0].categories]
    if not sum(used):
        raise guide.none_left()
    start, config = 0, section.config
    network: Any
    if system.LEARNS:
        torch.set_num_threads(plan.threads or cores())
        seed = seed_for(job.seed, "train_generator")
        try:
            training = system.training(
                config, job.train_generator, len(classes), plan.steps, seed % 2**31, device()
            )
        except ValueError as err:
            raise JobError(f"generator.{err}") from err
        draw = draw_for(
            tables, plan.batch, seed, plan.sampling, plan.repeat_threshold, guide.keep.select
        )
        read = guide.batches(tables, draw, rank, world)

        def batches(step: int) -> Batch:
            return read(step).to(device())

        start = train(training, batches, plan.steps, plan.save_every, folder, rank)
        network = training.generator()
    else:
        network = _build(system, section.config, classes)
        config = network.config
    if system.CONDITION == "edit":
        remember(folder, spec.tables[0])
    if rank == 0:
        with folder.atomic_path(WEIGHTS) as path:
            checkpoint.save(path, network, section.system, config, classes, {"seed": job.seed})
    return {
        "resumed_from": start,
        "used": used,
        "left_out": [len(t) - n for t, n in zip(whole, used, strict=True)],
    }


def _build(system: System, config: Any, classes: list[str]) -> Any:
    """Return a network that is not trained here."""
    network: Any
    try:
        network = system.build(config, len(classes))
    except ValueError as err:
        raise JobError(f"generator.{err}") from err
    if system.TWO_STAGE and network.classes != classes:
        raise DatasetError(
            "generator.layouts and generator.maps: their classes are not those of data.labelled; train them on its data set"
        )
    return network


def run(context: Context) -> dict[str, Any]:
    """Train; the manifest says how many images of each set were used and left out."""
    job = context.job
    tables = [context.inputs["ingest"].folder.sub("labelled").uri]
    system = load_system(job.generator.system)
    if (
        job.generator.training.use_pseudo
        and context.inputs["pseudo_label"].manifest["images"]
        and system.LEARNS
    ):
        tables.append(context.inputs["pseudo_label"].folder.uri)
    plan, parts = job.generator.training, job.train_generator.accumulate
    spec = Spec(job, tuple(tables), context.folder.uri)
    told = context.train(
        fit,
        spec,
        context.folder,
        plan.workers,
        lambda workers: parts == 1 or plan.batch % (parts * workers) == 0,
    )
    if told["resumed_from"]:
        context.tell(f"  went on from step {told['resumed_from']}")
    names = ("labelled", "pseudo_labelled")
    used = dict(zip(names, told["used"], strict=False))
    left_out = dict(zip(names, told["left_out"], strict=False))
    if "perceptual_weights" in system.FILES and not job.generator.config.perceptual_weights:
        context.tell("  without the perceptual term: generator.perceptual_weights names no file")
    context.tell(f"  images used {used}; left out {left_out}")
    if system.ADDS_ONLY:
        context.tell(
            f"  nothing is trained: {job.generator.system} cuts out labelled objects when images are made"
        )
    if system.TWO_STAGE:
        context.tell("  nothing is trained: both generators come from their files")
    log = read_log(context.folder)
    last = log[-1] if log else {}
    return {
        "weights": WEIGHTS,
        "sha256": context.folder.sha256(WEIGHTS),
        "used": used,
        "left_out": left_out,
        "trained": system.LEARNS,
        "last": last,
    }

"""Train the generator on the labelled images and, weighed by their scores, on the pseudo-labelled ones (eq. 15)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.batches.images_and_layouts import draw_for
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import check_file
from synthaug.pipeline.synthesis.conditioning import PosthocGuide, guide_of
from synthaug.pipeline.synthesis.copy_paste import PasteGuide, remember

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
    config = job.generator.config
    weights = file_digest(getattr(config, "perceptual_weights", ""))
    made_of = {
        name: file_digest(path)
        for name in ("layouts", "maps")
        if (path := getattr(config, name, ""))
    }
    return {
        "seed": job.seed,
        "perceptual": weights,
        **made_of,
        **{name: section_dict(job, name) for name in sections},
    }


def check(job: Job) -> None:
    """Raise JobError for settings the generator has no use for, or weights that are not there."""
    config = job.generator.config
    check_file("generator.perceptual_weights", getattr(config, "perceptual_weights", ""))
    guide_of(job).check()


def fit(spec: Spec) -> dict[str, Any]:
    """Runs in a worker, or in each worker of a group: train from the last checkpoint on, then write the weights."""
    import torch
    import torch.distributed as dist

    from synthaug.generators import GENERATORS, checkpoint
    from synthaug.generators.base import Batch
    from synthaug.generators.training.adversarial import AdversarialTraining

    job, folder = spec.job, Folder.at(spec.folder)
    section, plan = job.generator, job.generator.training
    grouped = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
    system = importlib.import_module(GENERATORS[section.system])
    whole = [parquet.read(parquet.Config(uri)) for uri in spec.tables]
    guide = guide_of(job)
    tables = [guide.accepted(table) for table in whole]
    used = [len(table) for table in tables]
    classes = [c.name for c in whole[0].categories]
    if not sum(used):
        raise guide.none_left()
    start, config = 0, section.config
    if hasattr(system, "trainee"):
        torch.set_num_threads(plan.threads or cores())
        seed = seed_for(job.seed, "train_generator")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**31)
            trainee = system.trainee(section.config, len(classes))
        for network in trainee.networks.values():
            # channels last is the faster layout for convolutions, on CPUs and on GPUs alike
            network.to(device(), memory_format=torch.channels_last)
        training = AdversarialTraining(trainee, job.train_generator, plan.steps, seed % 2**31)
        draw = draw_for(tables, plan.batch, seed, plan.sampling, plan.repeat_threshold, guide.keep)
        read = guide.batches(tables, draw, rank, world)

        def batches(step: int) -> Batch:
            return read(step).to(device())

        start = train(training, batches, plan.steps, plan.save_every, folder, rank)
        network = training.generator()
    else:
        network, config = _made(system, section.config, classes)
    if isinstance(guide, PasteGuide):
        remember(folder, spec.tables[0])
    if rank == 0:
        with folder.atomic_path(WEIGHTS) as path:
            checkpoint.save(path, network, section.system, config, classes, {"seed": job.seed})
    return {
        "resumed_from": start,
        "used": used,
        "left_out": [len(t) - n for t, n in zip(whole, used, strict=True)],
    }


def _made(system: Any, config: Any, classes: list[str]) -> tuple[Any, Any]:
    """Return a network that is not trained here, and the Config it is saved with."""
    try:
        network = system.build(config, len(classes))
    except ValueError as err:
        raise JobError(f"generator.{err}") from err
    if getattr(network, "classes", classes) != classes:
        raise DatasetError(
            "generator.layouts and generator.maps: their classes are not those of data.labelled; train them on its data set"
        )
    return network, getattr(network, "config", config)


def run(context: Context) -> dict[str, Any]:
    """Train; the manifest says how many images of each set were used and left out."""
    job = context.job
    tables = [context.inputs["ingest"].folder.sub("labelled").uri]
    made = isinstance(guide_of(job), PosthocGuide)  # of two that are trained already
    pasting = isinstance(guide_of(job), PasteGuide)  # which cuts out only what a person labelled
    if (
        job.generator.training.use_pseudo
        and context.inputs["pseudo_label"].manifest["images"]
        and not (pasting or made)
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
    if getattr(job.generator.config, "perceptual_weights", None) == "":
        context.tell("  without the perceptual term: generator.perceptual_weights names no file")
    context.tell(f"  images used {used}; left out {left_out}")
    if pasting:
        context.tell(
            f"  nothing is trained: {job.generator.system} cuts out labelled objects when images are made"
        )
    if made:
        context.tell("  nothing is trained: both generators come from their files")
    log = read_log(context.folder)
    last = log[-1] if log else {}
    return {
        "weights": WEIGHTS,
        "sha256": context.folder.sha256(WEIGHTS),
        "used": used,
        "left_out": left_out,
        "trained": not (pasting or made),
        "last": last,
    }

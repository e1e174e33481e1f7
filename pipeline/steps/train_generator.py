"""Train the generator on labelled and pseudo-labelled images.

The latter are weighed by their scores (LostGAN-V2, eq. 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.generators import System, load_system, named_files
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs, check_file
from synthaug.pipeline.steps.networks import check_generator_training
from synthaug.pipeline.synthesis.conditioning import conditioning_of

NEEDS = ("ingest", "pseudo_label")
VERSION = 3
WEIGHTS = "generator.safetensors"
PUBLISHES = (Published(WEIGHTS, "checkpoints"),)
SPLITS = ("labelled", "pseudo_labelled")


@dataclass(frozen=True)
class Spec:
    """Inputs of the training task, as plain data."""

    job: Job
    tables: tuple[str, ...]  # URIs of SPLITS, as far as they are used
    folder: str


@dataclass(frozen=True)
class Trained:
    """A network to be saved, and the step its training went on from."""

    network: Any
    config: Any  # of the generator, that it is saved with
    resumed_from: int


def settings(job: Job) -> Json:
    """Return the generator's sections, and the digests of the files they name.

    Sections generator and train_generator.
    """
    system = load_system(job.generator.system)
    digests = dict.fromkeys(system.FILES, "")
    for key, path in named_files(system, job.generator.config).items():
        digests[key] = file_digest(path)
    sections = {name: section_dict(job, name) for name in ("generator", "train_generator")}
    return {"seed": job.seed, "files": digests, **sections}


def check(job: Job) -> None:
    """Raise JobError for settings of no use to the generator, or missing weights."""
    system = load_system(job.generator.system)
    for key, path in named_files(system, job.generator.config).items():
        if system.FILES[key]:  # what a file that must be there lacks, the conditioning says
            check_file(f"generator.{key}", path)
    conditioning_of(job).check()


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError when the networks cannot be built.

    Or when a file of theirs cannot be used.
    """
    check_generator_training(job, len(inputs.categories))


def links(manifest: Manifest) -> list[Link]:
    """Return what training tells of the generator: its loss on held-out photos.

    That alone does not say what it paints; verification and scores do.
    """
    held_out = manifest.get("held_out")
    if not held_out:
        return []
    losses = [loss for _, loss in held_out]
    lowest = min(losses)
    step = held_out[losses.index(lowest)][0]
    figure = f"held-out loss {lowest:.3f} at step {step} of {manifest['last']['step']}"
    if lowest == losses[-1] and len(losses) > 1:
        figure = f"{figure}, still falling: more steps paint better"
    return [Link("generator", "untested", figure)]


def fit(spec: Spec) -> Json:
    """Train from the last checkpoint on, then write the weights.

    Runs in a worker, or in each worker of a group.
    """
    from synthaug.generators import checkpoint
    from synthaug.generators.nn.parallel import rank_and_world

    job = spec.job
    folder = Folder.at(spec.folder)
    conditioning = conditioning_of(job)
    tables = [parquet.open_table(uri) for uri in spec.tables]
    selected = [conditioning.select(table) for table in tables]
    used = [len(table) for table in selected]
    if not sum(used):
        raise conditioning.nothing_selected()
    classes = [category.name for category in tables[0].categories]
    rank, world = rank_and_world()
    if conditioning.system.LEARNS:
        trained = _train(job, selected, folder, rank, world)
    else:
        trained = _build(conditioning.system, job.generator.config, classes)
    if rank == 0:
        files = conditioning.files(spec.tables)
        for name, content in files.items():
            folder.write_json(name, content)
        with folder.atomic_path(WEIGHTS) as path:
            checkpoint.save(
                path,
                trained.network,
                job.generator.system,
                trained.config,
                classes,
                {"seed": job.seed},
            )
    pairs = zip(tables, used, strict=True)
    left_out = [len(table) - number for table, number in pairs]
    return {"resumed_from": trained.resumed_from, "used": used, "left_out": left_out}


def _train(job: Job, tables: Sequence[Subset], folder: Folder, rank: int, world: int) -> Trained:
    """Train the generator; JobError when a file of its Config cannot be used."""
    import torch

    from synthaug.generators.base import Remembers, TrainingInput

    conditioning = conditioning_of(job)
    options = job.generator.training
    config = job.generator.config
    num_classes = len(tables[0].categories)
    torch.set_num_threads(options.threads or cores())
    seed = seed_for(job.seed, "train_generator")
    try:
        training = conditioning.system.training(
            config, job.train_generator, num_classes, options.steps, seed % 2**31, device()
        )
    except ValueError as err:
        raise JobError(f"generator.{err}") from err
    if isinstance(training, Remembers):
        training.remember(conditioning.memory(tables[0]))
    draw = draw_for(
        tables,
        options.batch,
        seed,
        options.sampling,
        options.repeat_threshold,
        conditioning.drawn_for,
    )
    read = conditioning.batches(tables, draw, rank, world)

    def batches(step: int) -> TrainingInput:
        return read(step).to(device())

    resumed_from = train(training, batches, options.steps, options.save_every, folder, rank)
    return Trained(training.generator(), config, resumed_from)


def _build(system: System, config: Any, classes: list[str]) -> Trained:
    """Return a network that is not trained here.

    JobError when a file of its Config cannot be used.
    """
    network: Any
    try:
        network = system.build(config, len(classes))
    except ValueError as err:
        raise JobError(f"generator.{err}") from err
    if system.TWO_STAGE and network.classes != classes:
        raise DatasetError(
            "generator.layouts and generator.maps: their classes are not those of data.labelled; "
            "train them on its data set"
        )
    return Trained(network, network.config, 0)


def run(context: Context) -> Json:
    """Train; the manifest says how many images of each split were used and left out."""
    job = context.job
    conditioning = conditioning_of(job)
    system = conditioning.system
    options = job.generator.training
    parts = job.num_parts
    labelled = context.inputs["ingest"].folder.sub("labelled")
    tables = [labelled.uri]
    pseudo = context.inputs["pseudo_label"]
    if system.LEARNS and options.use_pseudo and pseudo.manifest["objects"]:
        tables.append(pseudo.folder.uri)
    spec = Spec(job, tuple(tables), context.folder.uri)
    result = context.train(
        fit,
        spec,
        context.folder,
        options.workers,
        lambda workers: parts == 1 or options.batch % (parts * workers) == 0,
    )
    used = dict(zip(SPLITS, result["used"], strict=False))
    left_out = dict(zip(SPLITS, result["left_out"], strict=False))
    if result["resumed_from"]:
        context.tell(f"  went on from step {result['resumed_from']}")
    for key, term in system.FILES.items():
        if term and not getattr(job.generator.config, key):
            context.tell(f"  without {term}: generator.{key} names no file")
    context.tell(f"  images used {used}; left out {left_out}")
    if conditioning.untrained_note:
        context.tell(f"  nothing is trained: {conditioning.untrained_note}")
    log = read_log(context.folder)
    last: Json = {}
    if log:
        last = log[-1]
    held_out = []
    for row in log:
        if "held_out" in row:
            held_out.append([row["step"], row["held_out"]])
    return {
        "weights": WEIGHTS,
        "sha256": context.folder.sha256(WEIGHTS),
        "used": used,
        "left_out": left_out,
        "trained": system.LEARNS,
        "last": last,
        "held_out": held_out,
    }

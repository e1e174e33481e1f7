"""Train the generator on labelled and pseudo-labelled images.

The latter are weighed by their scores (LostGAN-V2, eq. 15). Where the job asks for it the detector
learns along, and labels the images anew at each step (docs/joint.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthaug.generators import System, load_system, named_files
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.detection.evaluation import BATCH, average_precision, evaluate
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import cores, device, read_log, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.inputs import Inputs, check_file
from synthaug.pipeline.steps.networks import check_generator_training
from synthaug.pipeline.steps.pseudo_label import label_rules
from synthaug.pipeline.steps.self_train import WEIGHTS as LABELLER
from synthaug.pipeline.steps.self_train import before_and_after
from synthaug.pipeline.synthesis.conditioning import conditioning_of

if TYPE_CHECKING:
    from synthaug.pipeline.batches.joint import JointBatch

NEEDS = ("ingest", "pseudo_label")
VERSION = 4
WEIGHTS = "generator.safetensors"
DETECTOR = "joint_detector.safetensors"  # that has learnt along
PUBLISHES = (Published(WEIGHTS, "checkpoints"), Published(DETECTOR, "checkpoints"))
SPLITS = ("labelled", "pseudo_labelled")


@dataclass(frozen=True)
class JointInputs:
    """What the detector of a joint training begins with, as plain data."""

    ingest: str
    labeller: str  # folder of its weights
    calibration: Json  # manifest of `calibrate`
    labels: bool  # whether it labels images


@dataclass(frozen=True)
class Spec:
    """Inputs of the training task, as plain data."""

    job: Job
    tables: tuple[str, ...]  # URIs of SPLITS, as far as they are used
    folder: str
    joint: JointInputs | None = None


@dataclass(frozen=True)
class Trained:
    """A network to be saved, and the step its training went on from."""

    network: Any
    config: Any  # of the generator, that it is saved with
    resumed_from: int
    measured: Json = field(default_factory=dict)  # of a detector that learnt along


def settings(job: Job) -> Json:
    """Return the generator's sections, and the digests of the files they name.

    Sections generator and train_generator.
    """
    system = load_system(job.generator.system)
    digests = dict.fromkeys(system.FILES, "")
    for key, path in named_files(system, job.generator.config).items():
        digests[key] = file_digest(path)
    names = ["generator", "train_generator"]
    if job.joint.enabled:
        names.append("joint")
    sections = {name: section_dict(job, name) for name in names}
    return {"seed": job.seed, "files": digests, **sections}


def further_needs(job: Job) -> tuple[str, ...]:
    """Return the steps that the detector of a joint training begins with."""
    if job.joint.enabled:
        return ("self_train", "calibrate")
    return ()


def metrics(manifest: Manifest) -> Json:
    """Return AP before and after of a detector that learnt along."""
    if manifest.get("joint"):
        return {"joint": manifest["joint"]}
    return {}


def check(job: Job) -> None:
    """Raise JobError for settings of no use to the generator, or missing weights."""
    system = load_system(job.generator.system)
    for key, path in named_files(system, job.generator.config).items():
        if system.FILES[key]:  # what a file that must be there lacks, the conditioning says
            check_file(f"generator.{key}", path)
    conditioning_of(job).check()
    if job.joint.enabled:
        _check_joint(job)


def _check_joint(job: Job) -> None:
    """Raise JobError for a joint training of another system than LostGAN, or in parts."""
    system = job.generator.system
    if system != "lostgan":
        raise JobError(
            f"joint.enabled: {system} does not learn along with a detector; set generator.system "
            "to lostgan, or joint.enabled to false"
        )
    if job.num_parts > 1 or job.generator.training.workers > 1:
        raise JobError(
            "joint.enabled: the images that get labels differ in number from step to step and are "
            "not cut into parts; set train_generator.accumulate and generator.workers to 1"
        )


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
    if spec.joint is not None:
        trained = _train_jointly(job, selected[0], folder, spec.joint)
    elif conditioning.system.LEARNS:
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
    counts = {"used": used, "left_out": left_out}
    result: Json = {"resumed_from": trained.resumed_from, **counts}
    if trained.measured:
        result["joint"] = trained.measured
    return result


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


def _train_jointly(job: Job, labelled: Subset, folder: Folder, inputs: JointInputs) -> Trained:
    """Train the generator and the detector together; measure and write the latter.

    Its labels follow the rules of `pseudo_label`.
    """
    import torch

    from synthaug.detectors import load
    from synthaug.pipeline.batches.layouts import LayoutFilter, layout_batches
    from synthaug.pipeline.joint.labels import LabelRules
    from synthaug.pipeline.joint.training import JointTraining, joint_batches

    options = job.generator.training
    torch.set_num_threads(options.threads or cores())
    seed = seed_for(job.seed, "train_generator")
    ingest = Folder.at(inputs.ingest)
    validation = parquet.open_table(ingest.sub("validation"))
    with Folder.at(inputs.labeller).local_copy(LABELLER) as path:
        detector = load(path, device=device())
    before = average_precision(evaluate(detector, validation, BATCH))

    names = [category.name for category in labelled.categories]
    layouts = LayoutFilter(options.min_area, options.min_objects, options.max_objects)
    rules = LabelRules((), None, layouts)
    unlabelled = None
    if inputs.labels:
        of_step = label_rules(inputs.calibration, names, job)
        curves = of_step.curves if job.pseudo_label.calibrate else None
        rules = LabelRules(of_step.labels, curves, layouts)
        unlabelled = parquet.open_table(ingest.sub("unlabelled"))
    training = JointTraining(job, detector, rules, seed % 2**31)
    draw = draw_for(
        [labelled],
        options.batch,
        seed,
        options.sampling,
        options.repeat_threshold,
        conditioning_of(job).drawn_for,
    )
    of_generator = layout_batches(
        [labelled], draw, job.generator.config.size, layouts, options.flip
    )
    table = parquet.open_table(ingest.sub("labelled"))
    read = joint_batches(job, table, unlabelled, of_generator, seed)

    def batches(step: int) -> JointBatch:
        return read(step).to(device())

    start = train(training, batches, options.steps, options.save_every, folder)
    training.finish()
    after = average_precision(evaluate(detector, validation, BATCH))
    with folder.atomic_path(DETECTOR) as path:
        detector.save(path, {"classes": "\n".join(names)})
    measured = {"before": before, "after": after}
    return Trained(training.generator(), job.generator.config, start, measured)


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
    joint = None
    if job.joint.enabled:
        joint = _joint_inputs(context, labels=len(tables) > 1)
    spec = Spec(job, tuple(tables), context.folder.uri, joint)
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
    measured = result.get("joint", {})
    if measured:
        context.tell(f"  the detector that learnt along: {before_and_after(measured)}")
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
        "joint": measured,
    }


def _joint_inputs(context: Context, labels: bool) -> JointInputs:
    """Return what the detector begins with: that which has made the pseudo-labels."""
    calibrated = dict(context.inputs["calibrate"].manifest)
    labeller = context.inputs["self_train"].folder.uri
    return JointInputs(context.inputs["ingest"].folder.uri, labeller, calibrated, labels)

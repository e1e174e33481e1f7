"""A run of a job.

Checks before, the steps that are not done yet, what the user sees of them after.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import (
    DatasetError,
    JobError,
    RunError,
    SynthaugError,
    WeakLinkError,
)
from synthaug.pipeline.core.json_values import Json, json_digest
from synthaug.pipeline.core.links import Link, weak
from synthaug.pipeline.core.readable import read_scene
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.skipped import Skipped, short_lines
from synthaug.pipeline.core.storage import Folder, check_writable, link_all
from synthaug.pipeline.execution.context import MANIFEST, Context, Output
from synthaug.pipeline.execution.executor import Executor
from synthaug.pipeline.execution.machines import some_images
from synthaug.pipeline.execution.progress import (
    DONE,
    EARLIER,
    RUNNING,
    WAITING,
    ShowProgress,
    no_states,
)
from synthaug.pipeline.execution.ray_executor import RayExecutor, open_executor
from synthaug.pipeline.steps.contract import Published, Step, links_of, load_steps
from synthaug.pipeline.steps.inputs import Inputs, check_sides, check_size, check_split, open_inputs
from synthaug.pipeline.tracking.follow import Follower
from synthaug.pipeline.tracking.trackers import Settings, open_tracker
from synthaug.pipeline.tracking.trackers import check as check_tracker

log = logging.getLogger(__name__)

PACKAGES = (
    "synthaug",
    "torch",
    "torchvision",
    "ray",
    "numpy",
    "pyarrow",
    "pycocotools",
    "faster-coco-eval",
)
HOUSEKEEPING = ("seconds", "versions", "key", "step", "shards")  # of a manifest: no results
TICK = 50  # images between two lines of progress


@dataclass(frozen=True)
class Console:
    """Takes lines for the user, progress, and the states of the steps."""

    tell: Callable[[str], None]
    progress: ShowProgress
    states: Callable[[Mapping[str, str]], None] = no_states  # name of a step -> its state


# ---- Checks ----


def check(job: Job, console: Console) -> None:
    """Check all that can be known before a run and explain its steps.

    Every image is looked at.

    Changes nothing.
    """
    steps = load_steps()
    check_output(job.output)
    if job.cluster.executor == "ray" and job.cluster.address:
        RayExecutor.check_reachable(job.cluster.address)
    _check_job(job, steps)
    inputs = open_inputs(job)
    _check_labels(job, inputs)
    _check_data(job, steps, inputs)
    _check_images(job, inputs, console)
    for step in steps.values():
        for line in step.explain(job, inputs):
            console.tell(line)


JOB, DERIVED, METRICS = "job.yaml", "job.derived.yaml", "metrics.json"
STEPS, LOCK = "steps", ".lock"  # in every folder that a run has made


def check_output(uri: str) -> None:
    """Raise JobError for a folder that cannot be written or is not of a run.

    A run replaces those files, and removes what it takes for an earlier run's beside them.
    """
    check_writable(uri)
    output = Folder.at(uri)
    if output.exists(STEPS) or output.exists(LOCK):
        return
    for name in _names_written():
        if output.exists(name):
            raise JobError(
                f"output: {uri} holds '{name}', which no run has made and a run would replace; "
                "choose another folder with --output"
            )


def _names_written() -> list[str]:
    """Return the names that a run writes at the top of its output folder."""
    names = {JOB, DERIVED, METRICS}
    for step in load_steps().values():
        for entry in step.publishes:
            names.add(entry.target.split("/")[0] or entry.pattern)
    return sorted(names)


def _check_job(job: Job, steps: Mapping[str, Step]) -> None:
    check_tracker(job.report.track, job.output)
    for step in steps.values():
        step.check(job)


def _check_data(job: Job, steps: Mapping[str, Step], inputs: Inputs) -> None:
    for step in steps.values():
        step.check_data(job, inputs)


def _check_labels(job: Job, inputs: Inputs) -> None:
    """Raise DatasetError for a labelled split with nothing to be learnt in it."""
    for name, table in inputs.splits.items():
        if name == "unlabelled":
            continue
        found = any(_has_object(table, index) for index in range(len(table)))
        check_split(job, name, table, len(table), int(found))


def _has_object(table: Dataset, index: int) -> bool:
    """Whether a scene has an object that is no crowd, or one that cannot be read yet."""
    try:
        return not bool(table[index].objects.iscrowd.all())
    except DatasetError:
        return True  # told when its image is checked


def _check_images(job: Job, inputs: Inputs, console: Console) -> None:
    """Decode every image, and check that each split can be learnt from or measured on."""
    for name, table in inputs.splits.items():
        _check_split(job, name, table, console)


def _check_split(job: Job, name: str, table: Dataset, console: Console) -> None:
    """Decode the images of one split; says what is in it and what would be left out."""
    skipped = Skipped(table.skipped)
    total = len(table)
    images = objects = 0
    for index in range(total):
        scene = read_scene(table, index, skipped, job.data.on_bad == "skip")
        if scene is not None:
            check_size(scene, job.data.max_pixels)
            if job.detector.config.image_size:  # else it is fitted to the images
                check_sides(scene, job.detector.config)
            images += 1
            objects += int((~scene.objects.iscrowd).sum())
        done = index + 1
        if done % TICK == 0 or done == total:
            console.progress(done, total, f"images of {name} checked")
    console.tell(f"{name}: {images} images, {objects} objects, {len(table.categories)} classes")
    for line in short_lines(skipped):
        console.tell(line)
    if name != "unlabelled":
        check_split(job, name, table, images, objects)


# ---- The run ----


def run(job: Job, console: Console) -> Folder:
    """Run every step that is not done already, and write metrics.json.

    Returns the output folder.
    """
    steps = load_steps()
    output = _checked_output(job, steps)
    with _locked(output):
        done = _run_steps(job, steps, output, console)
        output.write_json(METRICS, metrics(job, steps, done))
    return output


def run_some(job: Job, console: Console, names: tuple[str, ...]) -> dict[str, Output]:
    """Run some steps, with all they need among them.

    In the folders that `run` would use.
    """
    steps = load_steps(names)
    output = _checked_output(job, steps)
    with _locked(output):
        return _run_steps(job, steps, output, console)


def _checked_output(job: Job, steps: Mapping[str, Step]) -> Folder:
    check_output(job.output)
    _check_job(job, steps)
    return Folder.at(job.output)


def _run_steps(
    job: Job, steps: Mapping[str, Step], output: Folder, console: Console
) -> dict[str, Output]:
    output.write_bytes(JOB, job.to_yaml().encode())
    keys = step_keys(job, steps)
    executor: Executor | None = None
    done: dict[str, Output] = {}
    provenance: dict[str, str] = {}
    derived = job
    states = dict.fromkeys(steps, WAITING)
    follower = Follower(open_tracker(job.report.track, job.name, _found_by(job), output))
    try:
        for number, (name, step) in enumerate(steps.items(), start=1):
            folder = output.sub(STEPS).sub(f"{name}-{keys[name]}")
            title = f"[{number}/{len(steps)}] {name}"
            if folder.exists(MANIFEST):
                states[name] = EARLIER
                console.tell(f"{title}: finished earlier")
            else:
                states[name] = RUNNING
                console.tell(title)
                console.states(states)
                if executor is None:
                    data = open_inputs(job)
                    _check_data(job, steps, data)
                    executor = open_executor(job.cluster, console.tell)
                    executor.check_machines(output, JOB, some_images(data.splits.values()))
                inputs = {need: done[need] for need in step.needs_of(job)}
                given = job if step.as_asked else derived
                progress = follower.beside(name, folder, console.progress)
                context = Context(given, folder, inputs, executor, console.tell, progress)
                _run_step(step, keys[name], context, provenance)
                states[name] = DONE
            console.states(states)
            follower.follow(name, folder)
            manifest = folder.read_json(MANIFEST)
            check_links(name, step.links(manifest), job.checks, console)
            provenance |= step.provenance(manifest)
            done[name] = Output(folder, manifest)
            if step.derived is not None:
                derived, line = step.derived(job, manifest)
                _tell_derived(derived, line, output, console)
            publish(step.publishes, folder, output)
    finally:
        follower.close()
        if executor is not None:
            executor.close()
    return done


def _found_by(job: Job) -> Settings:
    """Return what a run is found by in a tracker."""
    return {"job": job.name, "seed": job.seed, "system": job.generator.system}


def _tell_derived(job: Job, line: str, output: Folder, console: Console) -> None:
    """Write the job with all that its data decides, and tell what that is."""
    if line:
        console.tell(f"  {line}")
    output.write_bytes(DERIVED, job.to_yaml().encode())


def _run_step(step: Step, key: str, context: Context, provenance: Mapping[str, str]) -> None:
    """Run one step and write its manifest last.

    An unexpected error names the step and its folder.
    """
    began = time.monotonic()
    try:
        results = step.run(context)
    except (SynthaugError, KeyboardInterrupt):
        raise
    except Exception as err:
        stop = err.__cause__
        if isinstance(err, SystemError) and stop and not isinstance(stop, Exception):
            raise stop from None  # asked to stop inside a compiled function, such as Ray's wait
        log.exception("step %s failed", step.name)
        raise RunError(
            f"step {step.name} failed in {context.folder.uri}: "
            f"{type(err).__name__}: {_last_line(err)}; what was finished is kept: {_advice(err)}"
        ) from err
    seconds = round(time.monotonic() - began, 1)
    housekeeping = {"step": step.name, "key": key, "seconds": seconds, "versions": versions()}
    context.folder.write_json(MANIFEST, {**results, **provenance, **housekeeping})
    context.tell(f"  done in {seconds:.0f} s")


def check_links(step: str, links: list[Link], checks: str, console: Console) -> None:
    """Tell of the weak links of a step.

    WeakLinkError for one that nothing is to be built on, unless `checks` is report.

    It comes before the step's files are published and before the next step.
    """
    for link in weak(links):
        if link.stops and checks == "stop":
            raise WeakLinkError(
                f"step {step}: {link.line}; then run the same command again, "
                "or go on all the same with checks=report"
            )
        console.tell(f"  weak: {link.line}")


def _advice(err: Exception) -> str:
    """Return what to do: only what lies outside a step may pass by itself."""
    is_from_outside = isinstance(err, (OSError, MemoryError))
    if is_from_outside or type(err).__module__.split(".")[0] == "ray":
        return "run the same command again, or see run.log"
    return "the same command would fail so again; see run.log"


def _last_line(err: Exception) -> str:
    lines = str(err).strip().splitlines()
    return lines[-1][:300] if lines else ""


@contextmanager
def _locked(output: Folder) -> Iterator[None]:
    """Hold a local output folder until the end or the death of this process.

    Two runs in one folder would do all work twice. Raises JobError while another run holds it.
    """
    if not output.is_local:
        # object stores have no locks, but the name tells a next run whose folder this is
        output.write_bytes(LOCK, b"")
        yield
        return
    path = output.local_path(LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise JobError(
                f"output: another run works in this folder, {output.uri}; wait or give another one"
            ) from err
        except OSError as err:  # a file system without locks
            log.info("no lock on %s: %s", path, err)
        yield


# ---- Names of outputs ----


def step_keys(job: Job, steps: Mapping[str, Step]) -> dict[str, str]:
    """Return the key of each step.

    So that a mistake in a late step's settings is known first.
    """
    keys: dict[str, str] = {}
    for name, step in steps.items():
        keys[name] = step_key(job, step, keys)
    return keys


def step_key(job: Job, step: Step, keys: Mapping[str, str]) -> str:
    """Return 12 hex digits of a step's settings, version and inputs' keys."""
    content = {
        "step": step.name,
        "version": step.version,
        "settings": step.settings(job),
        "inputs": {need: keys[need] for need in step.needs_of(job)},
    }
    return json_digest(content)[:12]


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide results."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


# ---- What the user sees ----


def publish(published: tuple[Published, ...], folder: Folder, output: Folder) -> None:
    """Link a step's files into the output folder, and remove those of an earlier run."""
    for entry in published:
        source = folder.sub(entry.source) if entry.source else folder
        target = output.sub(entry.target) if entry.target else output
        names = _matching(source, entry.pattern)
        link_all(source, target, names)
        stale = set(_matching(target, entry.pattern)) - set(names)
        for name in sorted(stale):
            target.delete(name)


def _matching(folder: Folder, pattern: str) -> list[str]:
    return [name for name in folder.names() if fnmatch(name, pattern)]


def metrics(job: Job, steps: Mapping[str, Step], done: Mapping[str, Output]) -> Json:
    """Return every number of a run with its metric card, the content of metrics.json."""
    content: Json = {"job": job.name, "job_sha256": job.sha256(), "versions": versions()}
    content["seconds"] = {name: output.manifest["seconds"] for name, output in done.items()}
    content["steps"] = {name: _folder_name(output.folder) for name, output in done.items()}
    manifests = {name: output.manifest for name, output in done.items()}
    content["links"] = [link.to_json() for link in links_of(manifests)]
    for name, step in steps.items():
        manifest = done[name].manifest
        results = {key: value for key, value in manifest.items() if key not in HOUSEKEEPING}
        for key, value in step.metrics(results).items():
            if key in content:  # steps that tell of one thing, such as leaks and copies
                value = {**content[key], **value}
            content[key] = value
    return content


def _folder_name(folder: Folder) -> str:
    """Return the last part of a folder's address without options.

    Those of an S3 connection.
    """
    return folder.path.rpartition("/")[-1]

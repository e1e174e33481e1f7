"""Which steps run, in which order, what is done already; checks before, publishing after."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError, RunError, SynthaugError
from synthaug.pipeline.core.storage import Folder, check_writable, link_all
from synthaug.pipeline.execution.context import MANIFEST, Context, Output
from synthaug.pipeline.execution.executor import Executor
from synthaug.pipeline.execution.ray_executor import RayExecutor, open_executor
from synthaug.pipeline.steps import STEPS

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
PUBLISHED = {  # step -> what the user finds at the top of the output folder
    "leaks": "",
    "score": "",
    "train_detector": "checkpoints",
    "self_train": "checkpoints",
    "calibrate": "pseudo",
    "pseudo_label": "pseudo",
    "train_generator": "checkpoints",
    "verify": "data",
    "export": "coco",
    "trial": "",
    "report": "",
}
PUBLIC_SUFFIXES: dict[str, str | tuple[str, ...]] = {
    "leaks": "splits.json",
    "score": "nearest.jpg",
    "verify": ".parquet",
    "train_detector": ".safetensors",
    "self_train": ".safetensors",
    "calibrate": "calibration.json",
    "pseudo_label": ("detections.json", "instances.json"),  # its shards have .json files too
    "train_generator": ".safetensors",
    "trial": "trial.md",
    "report": ".html",
}
HOUSEKEEPING = ("seconds", "versions", "key", "step", "shards")  # of a manifest: no results
PRIVATE = (
    "state.safetensors",
    "best.safetensors",
)  # of use to a resumed run, or to one who looks into the step


@dataclass(frozen=True)
class Screen:
    """Where a run speaks: one line at a time, and a progress line that may be overwritten."""

    tell: Callable[[str], None]
    progress: Callable[[int, int, str], None]


def check(job: Job, screen: Screen) -> None:
    """Check all that can be known before training: data sets, images, weights, output folder, Ray. Changes nothing."""
    from synthaug.pipeline.steps.ingest import check_scene, open_inputs
    from synthaug.pipeline.steps.plan import check_counts
    from synthaug.pipeline.steps.self_train import thresholds
    from synthaug.pipeline.synthesis.conditioning import guide_of

    check_writable(job.output)
    if job.cluster.executor == "ray" and job.cluster.address:
        RayExecutor.check_reachable(job.cluster.address)
    inputs = open_inputs(job)
    check_counts(job, inputs.categories)
    thresholds(job, inputs.categories)
    check_files(job)
    check_backend(job)
    guide_of(job).check()
    for name, table in inputs.splits.items():
        for index in range(len(table)):
            if job.data.on_bad == "stop":
                check_scene(table[index], job.data.max_pixels)
            if index % 50 == 49 or index + 1 == len(table):
                screen.progress(index + 1, len(table), f"images of {name} checked")
        screen.tell(f"{name}: {len(table)} images, {len(table.categories)} classes")


def check_files(job: Job) -> None:
    """Raise JobError when a file of weights that the job names is not there."""
    named = {
        "detector.weights": getattr(job.detector.config, "weights", ""),
        "generator.perceptual_weights": getattr(job.generator.config, "perceptual_weights", ""),
        "verify.judge": job.verify.judge,
        "score.judge": job.score.judge,
    }
    for key, path in named.items():
        if path and not Path(path).is_file():
            raise JobError(
                f"{key}: there is no file '{path}'; correct the path or leave the key empty"
            )
    check_scores(job)


def check_scores(job: Job) -> None:
    """Raise JobError when a score that the job names needs a published network that is not there."""
    from synthaug.pipeline.scoring.engine import files_of, lacks

    folder = job.score.weights
    if folder and not Path(folder).is_dir():
        raise JobError(
            f"score.weights: there is no folder '{folder}'; correct the path or leave the key empty"
        )
    for name in job.score.asked:
        for file in files_of(name, job.score.settings[name]):
            if not folder or not (Path(folder) / file).is_file():
                where = (
                    f"is not in '{folder}'"
                    if folder
                    else "is looked for in the folder score.weights, which is empty"
                )
                raise JobError(
                    f"score.names: '{name}' needs the network {file}, which {where}; put it there, or leave the score out"
                )
        reason = lacks(name, job.score.settings[name], folder)
        if reason:
            raise JobError(f"score.names: '{name}' cannot be had: {reason}")


def check_backend(job: Job) -> None:
    """Raise JobError when the detector's back-end needs a library that is not installed."""
    from synthaug.detectors import check_installed

    try:
        check_installed(job.detector.backend)
    except ValueError as err:
        raise JobError(f"detector.backend: {err}") from err


def run(job: Job, screen: Screen) -> Folder:
    """Run every step that is not done already; returns the output folder."""
    check_writable(job.output)
    check_files(job)
    check_backend(job)
    output = Folder.at(job.output)
    with _alone(output):
        _write_metrics(job, _run_steps(job, output, screen, tuple(STEPS)), output)
    return output


def run_some(job: Job, screen: Screen, names: tuple[str, ...]) -> dict[str, Output]:
    """Run some steps, with all they need among them, in the folders a whole run would use; returns their outputs."""
    check_writable(job.output)
    output = Folder.at(job.output)
    with _alone(output):
        return _run_steps(job, output, screen, names)


@contextmanager
def _alone(output: Folder) -> Iterator[None]:
    """Hold a local output folder until the end or the death of this process: two runs in one would do all work twice."""
    if not output.is_local:
        yield
        return
    path = output.local_path(".lock")
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


def _run_steps(
    job: Job, output: Folder, screen: Screen, names: tuple[str, ...]
) -> dict[str, Output]:
    output.write_bytes("job.yaml", job.to_yaml().encode())
    executor: Executor | None = None
    done: dict[str, Output] = {}
    keys: dict[str, str] = {}
    steps = {name: importlib.import_module(path) for name, path in STEPS.items() if name in names}
    for (
        name,
        step,
    ) in (
        steps.items()
    ):  # all first: what is wrong with the settings of a late step is said before an early one
        keys[name] = step_key(job, name, step, keys)
    try:
        for number, (name, step) in enumerate(steps.items(), start=1):
            folder = output.sub("steps").sub(f"{name}-{keys[name]}")
            title = f"[{number}/{len(steps)}] {name}"
            if folder.exists(MANIFEST):
                screen.tell(f"{title}: finished earlier")
            else:
                screen.tell(title)
                executor = executor or _open(job)
                context = Context(
                    job, folder, _inputs(step, done), executor, screen.tell, screen.progress
                )
                _run_step(name, step, context, _splits(done))
            done[name] = Output(folder, folder.read_json(MANIFEST))
            publish(name, folder, output)
    finally:
        if executor:
            executor.close()
    return done


def _splits(done: Mapping[str, Output]) -> dict[str, str]:
    """Digest of the one manifest of which image is in which split, for every later step to record."""
    return {"splits_sha256": done["leaks"].manifest["sha256"]} if "leaks" in done else {}


def _open(job: Job) -> Executor:
    cluster = job.cluster
    return open_executor(cluster.executor, cluster.workers, cluster.address, cluster.memory_mb)


def _inputs(step: Any, done: Mapping[str, Output]) -> dict[str, Output]:
    return {need: done[need] for need in step.NEEDS}


def step_key(job: Job, name: str, step: Any, keys: Mapping[str, str]) -> str:
    """Name a step's output by all that decides it: its settings, its code version and its inputs' names."""
    content = {
        "step": name,
        "version": step.VERSION,
        "settings": step.settings(job),
        "inputs": {need: keys[need] for need in step.NEEDS},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _run_step(name: str, step: Any, context: Context, recorded: Mapping[str, str]) -> None:
    """Run one step and write its manifest, last; anything unexpected is reported with the step and its folder."""
    began = time.monotonic()
    try:
        manifest = step.run(context)
    except (SynthaugError, KeyboardInterrupt):
        raise
    except Exception as err:
        log.exception("step %s failed", name)
        reason = str(err).strip().splitlines()
        raise RunError(
            f"step {name} failed in {context.folder.uri}: {type(err).__name__}: {reason[-1][:300] if reason else ''}; "
            "what was finished is kept: run the same command again, or see run.log"
        ) from err
    seconds = round(time.monotonic() - began, 1)
    context.folder.write_json(
        MANIFEST,
        {
            **manifest,
            **recorded,
            "step": name,
            "key": context.folder.uri.rsplit("-", 1)[-1],
            "seconds": seconds,
            "versions": versions(),
        },
    )
    context.tell(f"  done in {seconds:.0f} s")


def versions() -> dict[str, str]:
    """Versions of the packages that decide results."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def publish(name: str, folder: Folder, output: Folder) -> None:
    """Show a step's results at the top of the output folder: hard links where possible, so nothing is stored twice."""
    if name not in PUBLISHED:
        return
    target = output.sub(PUBLISHED[name]) if PUBLISHED[name] else output
    suffix = PUBLIC_SUFFIXES.get(name, "")
    names = [n for n in folder.names() if n.endswith(suffix) and n not in (MANIFEST, *PRIVATE)]
    link_all(folder, target, names)
    if name == "verify":  # shards of an earlier, longer plan must not stay beside these
        for stale in set(target.names()) - set(names):
            target.delete(stale)
    if name in ("score", "trial") and isinstance(suffix, str) and not names:
        target.delete(suffix)  # of an earlier run that measured what this one does not
    if name == "export":
        for part in ("images", "panoptic"):
            files, there = folder.sub(part).names(), target.sub(part)
            link_all(folder.sub(part), there, files)
            for stale in set(there.names()) - set(files):
                there.delete(stale)
        if "panoptic.json" not in names:  # nor beside the images of a run that has no maps
            target.delete("panoptic.json")


def _write_metrics(job: Job, done: Mapping[str, Output], output: Folder) -> None:
    """Write every number of the run with its metric card."""
    scores = done["score"].manifest
    output.write_json(
        "metrics.json",
        {
            "job": job.name,
            "job_sha256": job.sha256(),
            "scores": scores["scores"],
            "scores_unavailable": scores["unavailable"],
            "validation": scores["validation"],
            "trial": {k: v for k, v in done["trial"].manifest.items() if k not in HOUSEKEEPING},
            "self_train": {
                k: v
                for k, v in done["self_train"].manifest.items()
                if k in ("steps", "kept", "before", "after")
            },
            "pseudo_label": {
                k: done["pseudo_label"].manifest[k] for k in ("images", "objects", "quality")
            },
            "calibration": {k: done["calibrate"].manifest.get(k) for k in ("images", "held_out")},
            "plan": done["plan"].manifest["classes"],
            "synthetic": {
                k: done["synthesize"].manifest[k] for k in ("images", "objects", "dropped")
            },
            "leaks": {name: done[name].manifest["pairs"] for name in ("leaks", "copies")},
            "splits_sha256": done["leaks"].manifest["sha256"],
            "verified": {k: v for k, v in done["verify"].manifest.items() if k not in HOUSEKEEPING},
            "steps": {
                name: out.folder.uri.rsplit("/", 1)[-1].partition("?")[0]
                for name, out in done.items()
            },
            "seconds": {name: out.manifest["seconds"] for name, out in done.items()},
            "versions": versions(),
        },
    )

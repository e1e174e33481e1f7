"""Lines about this machine.

Hardware, packages, Ray, weights and the scores they allow.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from synthaug.pipeline.config.schema import Cluster, Job
from synthaug.pipeline.core.errors import JobError, RunError
from synthaug.pipeline.scores import SCORES, load_score
from synthaug.pipeline.scores.features.weights import FILES, find

MARGIN = " " * 12
SHOWN = (
    "torch",
    "torchvision",
    "numpy",
    "ray",
    "pyarrow",
    "pycocotools",
    "faster-coco-eval",
    "opencv-python-headless",
)
OPTIONAL = {  # distribution -> what it is for
    "detectron2": "detector.backend=detectron2 (docs/detectors.md)",
    "torch-fidelity": "fid, kid, inception_score, prdc",
    "torchmetrics": "diversity",
    "triton": "faster panoptic generators on a GPU",
}


@dataclass(frozen=True)
class Package:
    """A package the program needs: its version here, and its fault ("" = none)."""

    name: str
    version: str
    problem: str = ""


def lines(job: Job | None = None, weights: str | None = None) -> Iterator[str]:
    """Say what there is, one screen.

    RunError at the end where something that every job needs is broken.

    With a job its own settings count: where weights are looked for (unless `weights` says), how
    scores are set, whether and which Ray is used.
    """
    chosen = weights or ""
    if job and not weights:
        chosen = job.score.weights
    needed = packages()
    broken = [f"{package.name}: {package.problem}" for package in needed if package.problem]
    own = _version("synthaug") or "not installed as a package"
    yield f"{'synthaug':<12}{own}, Python {platform.python_version()}, {platform.platform()}"
    yield from _machine(job)
    yield f"{'packages':<12}" + ", ".join(
        f"{p.name} {p.version}" for p in needed if p.name in SHOWN
    )
    summary = f"all {len(needed)} that are needed are in order"
    if broken:
        summary = f"{len(broken)} of {len(needed)} are broken"
    yield f"{MARGIN}{summary}"
    for problem in broken:
        yield f"{MARGIN}{problem}"
    for number, (name, use) in enumerate(OPTIONAL.items()):
        title = "" if number else "optional"
        yield f"{title:<12}{name} {_version(name) or 'is not installed'}: for {use}"
    if not broken:
        yield f"{'gpu':<12}{_gpu()}"
        serial = job is not None and job.cluster.executor == "serial"
        trouble = "" if serial else _ray(job)
        if trouble:
            state = trouble
            broken.append(trouble)
        elif serial:
            state = "not used by this job"
        else:
            state = "starts and runs a task"
        yield f"{'ray':<12}{state}"
        folder = None
        if chosen:
            folder = Path(chosen)
        yield from _weights(folder)
        yield from _scores(folder, job)
    if broken:
        raise RunError(f"not everything that is needed is in order: {broken[0]}")


def packages() -> list[Package]:
    """Return the packages that the project needs.

    Each with its version and what is wrong with it.
    """
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("synthaug") or ()]
    except PackageNotFoundError:
        return [_judged(name, None) for name in SHOWN]
    return [
        _judged(r.name, r.specifier)
        for r in wanted
        if r.marker is None or r.marker.evaluate({"extra": ""})
    ]


def _judged(name: str, specifier: Any) -> Package:
    found = _version(name)
    if not found:
        return Package(name, "", "is not installed; install the project again")
    if specifier and not specifier.contains(found, prereleases=True):
        return Package(
            name, found, f"is {found}, and {specifier} is needed; install the project again"
        )
    return Package(name, found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _machine(job: Job | None) -> Iterator[str]:
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    yield (
        f"{'machine':<12}{cores} CPU cores, {_gb(memory.total)} memory, {_gb(memory.available)} of "
        "it free"
    )
    output = "."
    if job and "://" not in job.output:
        output = job.output
    place = Path(output).absolute()
    while not place.exists():
        place = place.parent
    yield f"{MARGIN}{_gb(shutil.disk_usage(place).free)} free on disk, in {place}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.0f} GB"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use; everything runs on the CPU"
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"{card.name} with {_gb(card.total_memory)}" for card in cards)


def _ray(job: Job | None) -> str:
    """Return what is wrong with Ray, "" where nothing is."""
    from synthaug.pipeline.execution import ray_executor as door

    asked = job.cluster if job else Cluster(memory_mb=100)
    try:
        executor = door.open_executor(replace(asked, executor="ray", workers=1))
    except JobError as err:
        return str(err)
    try:
        return "" if executor.call(_double, 21) == 42 else "a task gave a wrong result"
    finally:
        executor.close()


def _double(number: int) -> int:
    return 2 * number


def _weights(folder: Path | None) -> Iterator[str]:
    """Say of each published network whether its file is there and sound."""
    where = (
        "no folder is named; name one with --weights FOLDER, or score.weights in a job "
        "(docs/weights.md)"
    )
    if folder:
        where = str(folder.absolute())
    yield f"{'weights':<12}{where}"
    for name, entry in FILES.items():
        found = find(folder, name)
        if found.reason is None:
            state = f"sha256 {found.sha256}"
        elif found.sha256:
            state = f"is damaged or another file: sha256 {found.sha256}"
        else:
            state = f"is not there ({entry.megabytes} MB)"
        yield f"{MARGIN}{entry.file}  {state}"


def _scores(folder: Path | None, job: Job | None) -> Iterator[str]:
    """Say which scores the machine allows.

    Whether the data allows them too only a run can tell.
    """
    lacking: dict[str, list[str]] = {}
    ready = []
    settings = job.score.settings if job else {}
    for name in SCORES:
        score = load_score(name)
        config = settings.get(name) or score.Config()
        reason = score.unsupported(folder, config)
        if reason:
            lacking.setdefault(reason, []).append(name)
        else:
            ready.append(name)
    yield f"{'scores':<12}can be had: {', '.join(ready)}"
    for reason, names in lacking.items():
        yield f"{MARGIN}not {', '.join(names)}: {reason}"

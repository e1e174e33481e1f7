"""The contract of a step, checked when its module is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.links import Link, merged
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.steps import STEPS
from synthaug.pipeline.steps.inputs import Inputs

OBLIGATORY = ("NEEDS", "VERSION", "PUBLISHES", "settings", "run")


@dataclass(frozen=True)
class Published:
    """Files of a step's folder that a run links into its output folder.

    Files there that match the pattern and that this step does not have are of an earlier run, and
    go.
    """

    pattern: str  # of file names, as in a shell: trial.md, *.parquet
    target: str = ""  # folder inside the output folder; "" = its top
    source: str = ""  # folder inside the step's; "" = its top


@dataclass(frozen=True)
class Step:
    """A step as a run sees it."""

    name: str
    needs: tuple[str, ...]
    version: int
    publishes: tuple[Published, ...]
    settings: Callable[[Job], Json]
    run: Callable[[Context], Json]
    check: Callable[[Job], None]
    check_data: Callable[[Job, Inputs], None]
    explain: Callable[[Job, Inputs], list[str]]
    metrics: Callable[[Manifest], Json]
    provenance: Callable[[Manifest], dict[str, str]]
    links: Callable[[Manifest], list[Link]]
    further_needs: Callable[[Job], tuple[str, ...]]
    as_asked: bool
    derived: Callable[[Job, Manifest], tuple[Job, str]] | None

    def needs_of(self, job: Job) -> tuple[str, ...]:
        """Return the names of the steps whose outputs it reads for a job."""
        return (*self.needs, *self.further_needs(job))


def _nothing_to_check(job: Job) -> None:
    """Accept every job."""


def _no_data_to_check(job: Job, inputs: Inputs) -> None:
    """Accept every data set."""


def _nothing_to_explain(_job: Job, _inputs: Inputs) -> list[str]:
    """Return no line."""
    return []


def _nothing_to_tell(_manifest: Manifest) -> Json:
    """Return no content."""
    return {}


def _no_further_needs(_job: Job) -> tuple[str, ...]:
    """Return no step."""
    return ()


def _no_links(_manifest: Manifest) -> list[Link]:
    """Return no link."""
    return []


def links_of(manifests: Mapping[str, Manifest]) -> list[Link]:
    """Return the links in the manifests of finished steps, in the order data flows.

    What several steps measured of one link is one.
    """
    links = []
    for name, step in load_steps(manifests).items():
        links += step.links(manifests[name])
    return merged(links)


def load_steps(names: Iterable[str] | None = None) -> dict[str, Step]:
    """Return steps by name, all or some, in the order data flows.

    Raises RunError for an incomplete module.
    """
    if names is None:
        names = STEPS
    chosen = set(names)
    steps = {}
    for name, path in STEPS.items():
        if name in chosen:
            steps[name] = read_step(name, importlib.import_module(path))
    return steps


def read_step(name: str, module: ModuleType) -> Step:
    """Return the step a module defines; raises RunError that names the parts it lacks."""
    parts = vars(module)
    missing = [part for part in OBLIGATORY if part not in parts]
    if missing:
        raise RunError(
            f"step {name}: {module.__name__} does not define {', '.join(missing)}; "
            "pipeline/steps/__init__.py says what a step's module has"
        )
    return Step(
        name,
        parts["NEEDS"],
        parts["VERSION"],
        parts["PUBLISHES"],
        parts["settings"],
        parts["run"],
        parts.get("check", _nothing_to_check),
        parts.get("check_data", _no_data_to_check),
        parts.get("explain", _nothing_to_explain),
        parts.get("metrics", _nothing_to_tell),
        parts.get("provenance", _nothing_to_tell),
        parts.get("links", _no_links),
        parts.get("further_needs", _no_further_needs),
        parts.get("AS_ASKED", False),
        parts.get("derived"),
    )

"""Which steps a key of the job changes: of every key, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from synthaug.pipeline.config.build import FaultError, build
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import SynthaugError
from synthaug.pipeline.core.json_values import json_digest
from synthaug.pipeline.steps.contract import load_steps
from tests.golden.recorded import hold
from tests.paths import JOBS

DATA = (
    *("data.labelled=toy:train?count=9", "data.validation=toy:val?count=9", "data.root=."),
    *("data.unlabelled=toy:unlabelled?count=8", "trial.evaluation=toy:test?count=9"),
)
WORDS = ("toy:val?count=5", "other")  # values of keys that are words; errors tell further ones
OWN = ("generator", "train_generator", "plan", "synthesize")  # sections with keys of a system's own
JOBS_OF = {
    "smoke": ["data.unlabelled=toy:unlabelled?count=8", "self_train.steps=4", "trial.seeds=2"],
    "panoptic": ["trial.seeds=2"],
    "photos": ["trial.seeds=2", *DATA],
}


def leaves(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a job with its value."""
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def others(value: Any) -> list[Any]:
    """Return values that a key may have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, value - 1, value + 7, value + 32]
    if isinstance(value, float):
        return [value * 0.5, value + 0.5, value + 0.01, value + 1, value - 0.1]
    if isinstance(value, str):
        return [word for word in WORDS if word != value]
    if isinstance(value, list):
        given = [[], value[:-1], [0.5], [0.7, 0.9], [32], [1.5, 2.5], [8.0, 16.0, 32.0, 64.0]]
        return [row for row in given if row != value]
    return [{"car": 1}, {"car": 0.5}, {"other": "toy:test?count=2"}]


def changed(content: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return a copy of a job with another value of a key."""
    key, _, rest = name.partition(".")
    if not rest:
        return {**content, key: value}
    return {**content, key: changed(content[key], rest, value)}


def settings(job: Job) -> dict[str, str]:
    """Return the digest of each step's settings, and of what it needs."""
    digests = {}
    for name, step in load_steps().items():
        digests[name] = json_digest([step.settings(job), list(step.needs_of(job))])
    return digests


def with_another(content: dict[str, Any], name: str, value: Any) -> dict[str, str] | None:
    """Return the settings with another value of a key; None where each is refused."""
    told: list[str] = []
    for other in others(value):
        if other == value:
            continue
        try:
            return settings(build(changed(content, name, other), "job"))
        except (FaultError, SynthaugError, ValueError, TypeError, OSError) as err:
            told += re.findall(r"[\w.-]+", str(err))
    if not isinstance(value, str):
        return None
    for word in dict.fromkeys(text for text in told if text != value):
        try:
            return settings(build(changed(content, name, word), "job"))
        except (FaultError, SynthaugError, ValueError, TypeError, OSError):
            continue
    return None


@pytest.mark.parametrize("name", JOBS_OF)
def test_a_key_changes_the_steps_that_it_is_of(name: str) -> None:
    job = load_job(JOBS / f"{name}.yaml", JOBS_OF[name])
    content = yaml.safe_load(job.to_yaml())
    usual = settings(job)
    rows = {}
    for key, value in leaves(content):
        if name != "smoke" and key.partition(".")[0] not in OWN:
            continue
        now = with_another(content, key, value)
        if now is None:
            rows[key] = "alone it cannot be changed"
            continue
        rows[key] = " ".join(step for step in usual if usual[step] != now[step])
    assert sum(bool(row) for row in rows.values()) > 20
    hold(f"keys_{name}", rows)

"""Every step of STEPS keeps the contract, and a run learns what a step does from the step alone."""

from __future__ import annotations

import inspect
import json
import types
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline import run
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import RunError
from synthaug.pipeline.steps import STEPS
from synthaug.pipeline.steps.contract import OBLIGATORY, Published, load_steps, read_step
from tests.paths import JOBS

SMOKE = JOBS / "smoke.yaml"


def module_with(**parts: Any) -> types.ModuleType:
    """Return a step's module that does nothing, with some parts replaced; None takes one away."""
    module = types.ModuleType("tests.step")
    usual: dict[str, Any] = {
        "NEEDS": (),
        "VERSION": 1,
        "PUBLISHES": (),
        "settings": lambda _job: {},
        "run": lambda _context: {},
    }
    for name, part in {**usual, **parts}.items():
        if part is not None:
            vars(module)[name] = part
    return module


@pytest.mark.parametrize("name", STEPS)
def test_a_step_needs_earlier_steps_only(name: str) -> None:
    order = list(STEPS)
    step = load_steps()[name]
    job = load_job(SMOKE, ["plan.target=weak"])
    assert set(step.needs_of(job)) <= set(order[: order.index(name)])


@pytest.mark.parametrize("name", STEPS)
def test_a_step_takes_what_the_contract_gives(name: str) -> None:
    step = load_steps()[name]
    parameters = {
        step.settings: ["job"],
        step.run: ["context"],
        step.check: ["job"],
        step.needs_of: ["job"],
        step.check_data: ["job", "inputs"],
    }
    for part, expected in parameters.items():
        assert list(inspect.signature(part).parameters) == expected
    assert all(isinstance(entry, Published) for entry in step.publishes)
    assert step.version >= 1


@pytest.mark.parametrize("name", STEPS)
def test_settings_are_plain_content_and_the_same_twice(name: str) -> None:
    settings = load_steps()[name].settings
    first, second = settings(load_job(SMOKE)), settings(load_job(SMOKE))
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_no_two_steps_publish_the_same_file() -> None:
    seen: set[tuple[str, str]] = set()
    for step in load_steps().values():
        for entry in step.publishes:
            assert (entry.target, entry.pattern) not in seen, step.name
            seen.add((entry.target, entry.pattern))


@pytest.mark.parametrize("part", OBLIGATORY)
def test_a_step_that_forgets_a_part_is_told_in_one_line(part: str) -> None:
    with pytest.raises(RunError, match=f"^step blur: tests.step does not define {part};") as error:
        read_step("blur", module_with(**{part: None}))
    assert "\n" not in str(error.value)


def test_what_a_step_has_nothing_to_say_about_may_be_left_out() -> None:
    step = read_step("blur", module_with())
    assert step.metrics({"images": 1}) == {}
    assert step.provenance({"images": 1}) == {}


# ---- The key of a step's output ----


def key(job: Any, step: types.ModuleType, inputs: dict[str, str]) -> str:
    return run.step_key(job, read_step("blur", step), inputs)


def test_a_key_depends_on_name_version_settings_and_the_inputs_it_needs() -> None:
    job = load_job(SMOKE)
    inputs = {"plan": "1", "ingest": "2"}
    usual = key(job, module_with(NEEDS=("plan",)), inputs)
    others = [
        run.step_key(job, read_step("sharpen", module_with(NEEDS=("plan",))), inputs),
        key(job, module_with(NEEDS=("plan",), VERSION=2), inputs),
        key(job, module_with(NEEDS=("plan",), settings=lambda _job: {"sigma": 1}), inputs),
        key(job, module_with(NEEDS=("plan",)), {**inputs, "plan": "3"}),
        key(job, module_with(NEEDS=("plan", "ingest")), inputs),
    ]
    assert len({usual, *others}) == 6
    assert key(job, module_with(NEEDS=("plan",)), {**inputs, "ingest": "3"}) == usual


def test_what_a_job_needs_besides_is_an_input_of_its_step_s_key() -> None:
    job = load_job(SMOKE)
    step = module_with(NEEDS=("plan",), further_needs=lambda _job: ("ingest",))
    inputs = {"plan": "1", "ingest": "2"}
    usual = key(job, step, inputs)
    assert key(job, step, {**inputs, "ingest": "3"}) != usual
    assert usual == key(job, module_with(NEEDS=("plan", "ingest")), inputs)


def test_who_does_the_work_changes_no_key(tmp_path: Path) -> None:
    steps = load_steps()
    usual = run.step_keys(load_job(SMOKE), steps)
    overrides = ["synthesize.workers=3", "cluster.executor=serial", "cluster.workers=2"]
    other = load_job(SMOKE, overrides, str(tmp_path))
    assert run.step_keys(other, steps) == usual


def test_a_changed_key_changes_its_step_and_those_that_need_it() -> None:
    steps = load_steps()
    usual = run.step_keys(load_job(SMOKE), steps)
    other = run.step_keys(load_job(SMOKE, ["verify.recall=0.5"]), steps)
    changed = {name for name in STEPS if usual[name] != other[name]}
    assert changed == {"verify", "export", "trial", "report"}

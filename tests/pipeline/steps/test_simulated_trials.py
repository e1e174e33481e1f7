"""Whole trials on simulated trainings: what was planted comes out in at least 95 of 100 of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.seeding import rng_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.steps import trial as step
from synthaug.pipeline.trial.arms import Arm
from synthaug.pipeline.trial.stages import Stage
from tests.fake_run import fake_run
from tests.trial_runs import CLASSES, measured

TRIALS = 100
BASE = np.array([0.6, 0.5, 0.3])  # AP of the classes
NOISE = 0.004  # of a class's AP; of a difference of two arms' AP: NOISE sqrt(2 / 3) = 0.0033
EFFECT = 0.013  # four times that
ARMS = ("real", "copy_paste", "synthetic", "synthetic_best", "placebo")
HEADROOM = {"half": -0.02}


@dataclass
class SimulatedBench:
    """Trainings whose true gains are known.

    Those of what an arm does, added up or only the largest.
    """

    gains: dict[str, float]
    start: int
    add_up: bool = True
    digests: ClassVar = {"trial.evaluation": "images"}

    def num_images(self, stage: Stage) -> int:
        return 50

    def key(self, training: Any) -> str:
        return training.arm.name

    def train(
        self, arms: Sequence[Arm], stage: Stage, seeds: range, steps: int
    ) -> list[dict[str, Any]]:
        runs = []
        for number in seeds:
            shared = rng_for(self.start, stage.name, number).normal(0, 0.02)
            for arm in arms:
                gain = self.gain(arm)
                # the same arm by another name is the same training
                what = f"{arm.added} {arm.sampling} {arm.labelled} {arm.steps}"
                noise = rng_for(self.start, stage.name, number, what).normal(0, NOISE, 3)
                values = BASE + shared + gain + noise
                run = {"arm": arm.name, "seed": number, "stage": stage.name}
                runs.append({**run, **measured(values.tolist())})
        return runs

    def gain(self, arm: Arm) -> float:
        done = [*arm.added, arm.sampling]
        if arm.labelled < 1:
            done.append("half")
        gains = [self.gains.get(name, 0.0) for name in done]
        return sum(gains) if self.add_up else max(gains, key=abs)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    context = fake_run(tmp_path_factory.mktemp("run"), labelled=2, images=2)
    settings = Trial(
        seeds=4,
        steps=100,
        arms=ARMS,
        evaluation="toy:test",
        repeat_thresholds=(0.3,),
        copy_paste=context.job.trial.copy_paste,
    )
    job = replace(context.job, trial=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "_classes", lambda _: CLASSES)
        patch.setattr(step.report_text, "markdown", lambda _: "")
        for module in ("conclusions", "headroom"):  # slow, and no part of a conclusion
            patch.setattr(
                f"synthaug.pipeline.trial.{module}.detectable_difference", lambda *_: 0.01
            )
        yield replace(context, job=job, folder=Folder.at(Path(context.job.output) / "trial"))


def trials(
    context: Context, gains: dict[str, float], add_up: bool = True, count: int = TRIALS
) -> list[dict[str, Any]]:
    """Conduct simulated trials."""
    return [
        step.conduct(context, SimulatedBench(gains, start, add_up))  # type: ignore[arg-type]
        for start in range(count)
    ]


def words(found: Sequence[dict[str, Any]]) -> list[str]:
    return [trial["verdict"]["word"] for trial in found]


def test_without_headroom_nothing_is_judged(context: Context) -> None:
    found = trials(context, {"half": 0.0, "synthetic": EFFECT})
    assert words(found).count("no headroom") >= 95
    assert all(t["recipe"] is None for t in found if t["verdict"]["word"] == "no headroom")


def test_a_gain_on_top_of_the_stack_is_confirmed_and_a_placebo_is_seen_through(
    context: Context,
) -> None:
    gains = {**HEADROOM, "copy_paste": 0.01, "instance_aware": 0.0}
    found = trials(context, {**gains, "synthetic": EFFECT, "placebo": -EFFECT})
    assert words(found).count("no headroom") <= 5
    assert words(found).count("helps") >= 95
    judged = [trial for trial in found if trial["recipe"]]
    assert [t["recipe"] for t in judged].count("synthetic_best") >= 95
    placebos = [trial["comparisons"]["placebo"]["word"] for trial in judged]
    assert placebos.count("suggests a loss") >= 95


def test_the_link_holds_where_the_trial_could_tell(context: Context) -> None:
    def state(gains: dict[str, float]) -> str:
        (trial,) = trials(context, gains, count=1)
        (link,) = step.links(trial)
        return link.state

    assert state({"half": 0.0}) == "ok", "no headroom is an answer"
    assert state({**HEADROOM, "synthetic": 0.05, "placebo": -0.05}) == "ok"
    assert state({**HEADROOM, "synthetic": 0.05, "placebo": 0.05}) == "weak"
    (untested,) = step.links({"seeds": 0})
    assert untested.state == "untested"


@pytest.mark.parametrize("gains", [{"half": 0.0}, {**HEADROOM, "synthetic": 0.05}])
def test_detectors_that_learned_nothing_make_a_weak_link_that_says_so(
    context: Context, monkeypatch: pytest.MonkeyPatch, gains: dict[str, float]
) -> None:
    monkeypatch.setattr("tests.pipeline.steps.test_simulated_trials.BASE", np.full(3, 0.02))
    (trial,) = trials(context, gains, count=1)
    (link,) = step.links(trial)
    assert link.is_weak
    assert "points after 100 steps, at least 5 are needed" in link.figure
    assert "trial.steps" in link.advice
    assert link.figure.partition("; ")[2] == trial["says"][1]


def test_images_that_are_worth_nothing_do_not_help(context: Context) -> None:
    found = trials(context, {**HEADROOM, "copy_paste": 0.01, "synthetic": 0.0})
    assert words(found).count("helps") <= 5
    assert words(found).count("no gain") >= 20, "most often they are not even confirmed"


def test_what_a_cheap_control_does_as_well_does_not_help(context: Context) -> None:
    """They beat real data alone, and nothing is gained by having both."""
    gains = {**HEADROOM, "copy_paste": EFFECT, "synthetic": EFFECT}
    found = trials(context, gains, add_up=False)
    assert words(found).count("helps") <= 5
    assert any("helps beyond cheap controls" in trial["says"][0] for trial in found)


def test_what_hurts_is_never_confirmed(context: Context) -> None:
    found = trials(context, {**HEADROOM, "synthetic": -0.03, "placebo": -0.03}, count=20)
    assert set(words(found)) == {"no gain"}
    assert not any(trial["confirmation"] for trial in found)
    losses = [trial["comparisons"]["synthetic"]["word"] for trial in found]
    assert losses.count("suggests a loss") == 20
    lines = [line for line in found[0]["says"] if "synthetic" in line]
    assert not any(" helps" in line for line in lines)


def test_the_stack_holds_what_gained(context: Context) -> None:
    gains = {**HEADROOM, "copy_paste": 0.03, "instance_aware": 0.02, "synthetic": 0.0}
    arms = replace(context.job.trial, arms=("real", "irfs", "copy_paste", "synthetic"))
    context = replace(context, job=replace(context.job, trial=arms))
    (trial,) = trials(context, gains, count=1)
    assert trial["stack"] == "copy_paste + irfs"
    assert any(line.startswith("the stack to beat is copy_paste + irfs") for line in trial["says"])
    (alone,) = trials(context, HEADROOM, count=1)
    assert alone["stack"].startswith("real data: no control gained")

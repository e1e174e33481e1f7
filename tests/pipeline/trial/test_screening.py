"""Screening chooses thresholds, stack and recipe by their means on the validation images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synthaug.pipeline.trial.arms import ARMS
from synthaug.pipeline.trial.screening import (
    arm_to_beat,
    best_threshold,
    choose_candidate,
    gained,
    ingredients,
    mean_of,
    whole_stack,
    with_thresholds,
)
from tests.trial_runs import simulate

REAL = ARMS["real"]
CONTROLS = [ARMS[name] for name in ("irfs", "lsj", "copy_paste")]


def test_only_arms_with_repeat_factors_have_thresholds() -> None:
    assert with_thresholds(ARMS["lsj"], (0.1, 0.3)) == [ARMS["lsj"]]
    (only,) = with_thresholds(ARMS["irfs"], (0.3,))
    assert (only.name, only.threshold) == ("irfs", 0.3)
    variants = with_thresholds(ARMS["irfs"], (0.1, 0.3))
    assert [arm.threshold for arm in variants] == [0.1, 0.3]
    assert len({arm.name for arm in variants}) == 2


def test_the_threshold_with_the_highest_mean_is_taken() -> None:
    variants = with_thresholds(ARMS["irfs"], (0.1, 0.3, 0.7))
    gains = dict(zip((arm.name for arm in variants), (0.0, 0.05, -0.05), strict=True))
    chosen = best_threshold(simulate(gains, 2), ARMS["irfs"], variants)
    assert (chosen.name, chosen.threshold, chosen.role) == ("irfs", 0.3, "control")
    assert chosen.description.endswith("threshold 0.3")


def test_controls_that_gain_are_stacked_the_best_first() -> None:
    runs = simulate({"real": 0.0, "irfs": 0.03, "lsj": -0.03, "copy_paste": 0.06})
    parts = gained(runs, CONTROLS, 0.005)
    assert [arm.name for arm in parts] == ["copy_paste", "irfs"]
    whole = whole_stack(parts, REAL)
    assert (whole.added, whole.sampling) == (("copy_paste",), "instance_aware")
    rows = ingredients(runs, CONTROLS, parts)
    assert [(row["name"], row["gained"]) for row in rows] == [
        ("copy_paste", True),
        ("irfs", True),
        ("lsj", False),
    ]
    assert rows[0]["difference"]["mean"] == pytest.approx(0.06, abs=0.01)


def test_a_gain_below_the_bound_is_none() -> None:
    runs = simulate({"real": 0.0, "irfs": 0.03, "lsj": 0.03, "copy_paste": 0.06})
    assert gained(runs, CONTROLS, 0.2) == []
    bound = mean_of(runs, "irfs") - mean_of(runs, "real")
    assert "irfs" in {arm.name for arm in gained(runs, CONTROLS, bound)}


def test_without_a_gain_real_data_alone_is_to_be_beaten() -> None:
    runs = simulate({"real": 0.0})
    whole = whole_stack([], REAL)
    stack = arm_to_beat(runs, whole, [], REAL)
    assert replace(stack, name="real", role="baseline", description=REAL.description) == REAL
    assert (stack.name, stack.role) == ("stack", "control")
    assert "no control gained" in stack.description


@pytest.mark.parametrize(("together", "is_whole"), [(0.05, True), (0.01, False)])
def test_the_best_part_is_to_be_beaten_where_the_whole_stack_is_worse(
    together: float, is_whole: bool
) -> None:
    parts = [ARMS["copy_paste"], ARMS["irfs"]]
    whole = whole_stack(parts, REAL)
    runs = simulate({"real": 0.0, "copy_paste": 0.03, "irfs": 0.02, whole.name: together})
    stack = arm_to_beat(runs, whole, parts, REAL)
    assert stack.name == "stack"
    assert (stack.sampling == "instance_aware") is is_whole
    assert ("does better than copy_paste + irfs" in stack.description) is not is_whole


def test_one_part_is_its_own_stack() -> None:
    whole = whole_stack([ARMS["lsj"]], REAL)
    runs = simulate({"real": 0.0, "lsj": 0.03}) + [
        {**run, "arm": whole.name} for run in simulate({"real": 0.0, "lsj": 0.03})[5:]
    ]
    stack = arm_to_beat(runs, whole, [ARMS["lsj"]], REAL)
    assert stack.detector == ARMS["lsj"].detector
    assert stack.description == "lsj"


def test_the_candidate_with_the_highest_mean_is_the_recipe() -> None:
    runs = simulate({"real": 0.0, "synthetic": 0.03, "verified": 0.06})
    candidates = [ARMS["synthetic"], ARMS["verified"]]
    assert choose_candidate(runs, candidates).name == "verified"
    rare_first = simulate({"synthetic": 0.06, "verified": 0.03}, goal="rare")
    assert choose_candidate(rare_first, candidates).name == "synthetic"
    rare = [run["per_class"]["2"]["AP"] for run in rare_first if run["arm"] == "synthetic"]
    assert mean_of(rare_first, "synthetic") == pytest.approx(sum(rare) / len(rare))

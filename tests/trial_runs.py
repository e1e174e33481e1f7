"""Simulated runs of a trial whose true gains are known."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.trial.arms import ARMS, STACK, Arm, arm_named, on_top_of
from synthaug.pipeline.trial.conclusions import confirm, screen
from synthaug.pipeline.trial.headroom import conclude_headroom
from synthaug.pipeline.trial.recipe import Recipe
from synthaug.pipeline.trial.recommendation import recommendation
from synthaug.pipeline.trial.runs import TrialClasses, with_goal
from synthaug.pipeline.trial.screening import ingredients
from synthaug.pipeline.trial.verdict import lines, verdict

OBJECTS = {"cat": 900, "dog": 300, "<b>emu</b>": 40}  # labelled, by class
CLASSES = TrialClasses(list(OBJECTS), [0, 1, 2], list(OBJECTS.values()), [400, 100, 10])


def simulate(
    gains: dict[str, float],
    seeds: int = 5,
    noise: float = 0.004,
    start: int = 0,
    goal: str = "all",
) -> list[dict[str, Any]]:
    """Return runs of arms with known gains; `emu` gains twice as much, `cat` nothing."""
    rng = np.random.default_rng(start)
    shared = rng.normal(0, 0.02, seeds)
    runs = []
    for name, gain in gains.items():
        for seed in range(seeds):
            own = [0.6, 0.5 + gain, 0.3 + 2 * gain] + shared[seed] + rng.normal(0, noise, 3)
            runs.append({"arm": name, "seed": seed, **measured(own.tolist())})
    return [dict(run) for run in with_goal(runs, goal, CLASSES)]


def measured(aps: list[float]) -> dict[str, Any]:
    """Return the values of a run whose classes have these AP."""
    per_class = {}
    for index, ap in enumerate(aps):
        values = {"AP": ap, "AP50": ap + 0.2, "AP75": ap - 0.1, "AP_fixed": 0.9 * ap}
        per_class[str(index)] = values
    means = {}
    for key in per_class["0"]:
        means[key] = float(np.mean([row[key] for row in per_class.values()]))
    return {"seconds": 10.0, "looking": 2.0, "values": means, "per_class": per_class}


def arms_of(names: Any) -> list[Arm]:
    """Return the arms of these names.

    A name that is in no table is synthetic data on top of rfs.
    """
    known = {*ARMS, STACK, "synthetic_0.25", "synthetic_0.5"}
    return [_arm(name) if name in known else _on_top(name) for name in names]


def _on_top(name: str) -> Arm:
    return replace(on_top_of(ARMS["rfs"], ARMS["synthetic"]), name=name)


def _arm(name: str) -> Arm:
    if name in ARMS:
        return arm_named(name)
    if name == STACK:
        return replace(ARMS["rfs"], name=STACK, description="rfs: nothing else gained")
    fraction = float(name.removeprefix("synthetic_"))
    return Arm(name, "candidate", "a part of them", ("synthetic",), fraction=fraction)


def concluded(gains: dict[str, float], start: int = 0, **trial: Any) -> dict[str, Any]:
    """Return the conclusions of screening on simulated runs."""
    runs = simulate(gains, start=start, goal=trial.get("goal", "all"))
    found = screen(runs, arms_of(gains), Trial(seeds=5, **trial), CLASSES, 1000)
    return {**found, "groups": CLASSES.group_names(), "grouped_by": CLASSES.rule}


def whole_trial(
    gains: dict[str, float], recipe: str = "synthetic", confirmed: bool = True, **trial: Any
) -> dict[str, Any]:
    """Return the manifest of a trial on simulated runs.

    `gains` has `stack`, `real_half` and the recipe.
    """
    settings = Trial(seeds=5, confirm_seeds=6, **trial)
    runs = simulate(gains, goal=settings.goal)
    arms = arms_of(gains)
    controls = [arm for arm in arms if arm.role == "control" and arm.name != STACK]
    found: dict[str, Any] = {
        "seeds": 5,
        "goal": "AP",
        "images": 87,
        "budget": {
            "steps": 200,
            "found": "plateau",
            "curve": [{"steps": 200, "AP": 0.41}, {"steps": 400, "AP": 0.415}],
        },
        "headroom": conclude_headroom(runs, more=False),
        "margin": settings.margin,
        **concluded(gains, **trial),
        "stack": "rfs: nothing else gained",
        "ingredients": ingredients(runs, controls, controls),
        "thresholds": [{"arm": "rfs", "threshold": 0.3, "value": 0.42}],
        "recipe": recipe,
        "recipe_keys": asdict(Recipe(added_boxes="agreed", real_last=0.3)),
        "confirmation": None,
    }
    if confirmed:
        names = ["real", STACK, recipe]
        fresh = simulate({name: gains[name] for name in names}, 6, start=77, goal=settings.goal)
        trained = arms_of(names)
        conclusion = confirm(fresh, trained, trained[2], trained[1], settings, CLASSES)
        found["confirmation"] = {**conclusion, "images": 72, "before": []}
    found["verdict"] = verdict(found, stops=True, why_not="nothing is confirmed, because")
    return {**found, "says": lines(found), "advice": recommendation(found)}

"""Simulated runs of a trial whose true gains are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.trial.arms import ARMS, Arm, arm_named, on_top_of
from synthaug.pipeline.trial.conclusions import TrialClasses, conclude

OBJECTS = {"cat": 900, "dog": 300, "<b>emu</b>": 40}  # labelled, by class
CLASSES = TrialClasses(list(OBJECTS), [0, 1, 2], list(OBJECTS.values()), [400, 100, 10])


def simulate(
    gains: dict[str, float], seeds: int = 5, noise: float = 0.004, start: int = 0
) -> list[dict[str, Any]]:
    """Return runs of arms with known gains; `emu` gains twice as much, `cat` nothing."""
    rng = np.random.default_rng(start)
    shared = rng.normal(0, 0.02, seeds)
    runs = []
    for name, gain in gains.items():
        for seed in range(seeds):
            own = [0.6, 0.5 + gain, 0.3 + 2 * gain] + shared[seed] + rng.normal(0, noise, 3)
            per_class = {}
            for index, ap in enumerate(own.tolist()):
                values = {"AP": ap, "AP50": ap + 0.2, "AP75": ap - 0.1, "AP_fixed": ap + 0.01}
                per_class[str(index)] = values
            means = {}
            for key in per_class["0"]:
                means[key] = float(np.mean([row[key] for row in per_class.values()]))
            runs.append(
                {
                    "arm": name,
                    "seed": seed,
                    "seconds": 10.0,
                    "looking": 2.0,
                    "values": means,
                    "per_class": per_class,
                }
            )
    return runs


def arms_of(names: Any) -> list[Arm]:
    """Return the arms of these names; a name that is in no table is synthetic data on top of rfs."""
    known = {*ARMS, "synthetic_0.25", "synthetic_0.5"}
    return [_arm(name) if name in known else _on_top(name) for name in names]


def _on_top(name: str) -> Arm:
    return replace(on_top_of(ARMS["rfs"], ARMS["synthetic"]), name=name)


def _arm(name: str) -> Arm:
    if name in ARMS:
        return arm_named(name)
    fraction = float(name.removeprefix("synthetic_"))
    return Arm(name, "candidate", "a part of them", ("synthetic",), fraction=fraction)


def concluded(gains: dict[str, float], start: int = 0, **trial: Any) -> dict[str, Any]:
    """Return the conclusions on simulated runs."""
    runs = simulate(gains, start=start)
    return conclude(runs, arms_of(gains), Trial(seeds=5, **trial), CLASSES, 1000)

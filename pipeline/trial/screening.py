"""The choices of screening, on the validation images.

They are thresholds, the stack of controls, and the one recipe to confirm. Chosen values are
flattered by the choice, so nothing is concluded from them: confirmation has seeds and images of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.trial.arms import STACK, Arm, stacked
from synthaug.pipeline.trial.paired_tests import paired_difference
from synthaug.pipeline.trial.runs import GOAL, Runs, values_of

WHOLE_STACK = "stack_all"  # the stack of all that gained, where one of them alone does better


def mean_of(runs: Runs, arm: str) -> float:
    """Return the mean over seeds of the value that decides."""
    values = values_of(runs, arm, GOAL)
    return float(np.mean(values))


# ---- Thresholds of repeat factors ----


def with_thresholds(arm: Arm, thresholds: Sequence[float]) -> list[Arm]:
    """Return the arm with each threshold, under names of their own.

    Of one arm alone nothing is to be chosen.
    """
    if arm.sampling == "uniform":
        return [arm]
    if len(thresholds) == 1:
        return [_at(arm, thresholds[0])]
    variants = []
    for threshold in thresholds:
        name = f"{arm.name} at {threshold:g}"
        variants.append(replace(arm, name=name, threshold=threshold))
    return variants


def best_threshold(runs: Runs, arm: Arm, variants: Sequence[Arm]) -> Arm:
    """Return the arm with the threshold of the variant that has the highest mean."""
    best = max(variants, key=lambda variant: mean_of(runs, variant.name))
    return _at(arm, best.threshold)


def _at(arm: Arm, threshold: float) -> Arm:
    description = f"{arm.description}, threshold {threshold:g}"
    return replace(arm, threshold=threshold, description=description)


# ---- The stack ----


def gained(runs: Runs, controls: Sequence[Arm], least: float) -> list[Arm]:
    """Return the controls at least `least` above real data alone, the best first."""
    real = mean_of(runs, "real")
    above = []
    for arm in controls:
        gain = mean_of(runs, arm.name) - real
        if gain >= least:
            above.append(arm)
    return sorted(above, key=lambda arm: -mean_of(runs, arm.name))


def whole_stack(parts: Sequence[Arm], real: Arm) -> Arm:
    """Return all controls that gained in one arm, the best first.

    Real data alone where there are none.
    """
    if not parts:
        return replace(real, name=WHOLE_STACK, role="control")
    return stacked(parts, WHOLE_STACK, "control")


def arm_to_beat(runs: Runs, whole: Arm, parts: Sequence[Arm], real: Arm) -> Arm:
    """Return the stack that recipes must beat.

    It is the whole one, or its best part where that alone does better.
    """
    if not parts:
        description = "real data: no control gained"
        return replace(real, name=STACK, role="control", description=description)
    best = parts[0]
    if mean_of(runs, whole.name) >= mean_of(runs, best.name):
        return replace(whole, name=STACK)
    description = f"{best.name} alone, which does better than {whole.description}"
    return replace(best, name=STACK, description=description)


def ingredients(runs: Runs, controls: Sequence[Arm], parts: Sequence[Arm]) -> list[Json]:
    """Return each control's difference to real data, and whether it gained.

    On validation, the best first.
    """
    real = values_of(runs, "real", GOAL)
    names = {part.name for part in parts}
    rows = []
    for arm in controls:
        own = values_of(runs, arm.name, GOAL)
        difference = paired_difference(own, real)
        row = {
            "name": arm.name,
            "says": arm.description,
            "gained": arm.name in names,
            "difference": difference.to_json(),
        }
        rows.append(row)
    return sorted(rows, key=lambda row: -row["difference"]["mean"])


# ---- The recipe ----


def choose_candidate(runs: Runs, candidates: Sequence[Arm]) -> Arm:
    """Return the candidate with the highest mean; the first of equal ones."""
    return max(candidates, key=lambda arm: mean_of(runs, arm.name))

"""The conclusions of a trial from its runs, per class, per group and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.trial.arms import BEST, Arm
from synthaug.pipeline.trial.paired_tests import (
    LEAST,
    LEVEL,
    SCREENED,
    Conclusion,
    Difference,
    budget_curve,
    compare_arms,
    detectable_difference,
    holm_adjusted,
    in_points,
    is_not_worse,
    paired_difference,
    screening_sentence,
    sentence,
)
from synthaug.pipeline.trial.runs import (
    FIXED,
    GOAL,
    GOAL_WORDS,
    KEYS,
    Runs,
    TrialClasses,
    class_values,
    runs_of,
    values_of,
)


def screen(
    runs: Runs, arms: Sequence[Arm], trial: Trial, classes: TrialClasses, synthetic_images: int
) -> Json:
    """Return the conclusions of screening as plain data.

    Every candidate and placebo is compared with real data and with the controls.
    """
    _check_pairs(runs, arms)
    key = GOAL_WORDS[trial.goal]
    real = values_of(runs, "real", GOAL)
    controls = _values_of_controls(runs, arms)
    candidates = [arm.name for arm in arms if arm.role == "candidate"]
    comparisons = {}
    for arm in arms:
        if arm.role in ("candidate", "placebo"):
            conclusion = compare_arms(values_of(runs, arm.name, GOAL), real, controls)
            comparisons[arm.name] = {
                "word": SCREENED[conclusion.word],
                "sentence": screening_sentence(arm.name, conclusion, key),
                **_comparison(conclusion),
                **differences(runs, arm.name, "real", classes, trial.margin),
            }
    control_differences = {}
    for name, values in controls.items():
        control_differences[name] = paired_difference(values, real).to_json()
    least = _detectable(runs, arms, trial.seeds)
    curve, curve_lines = _curve(runs, arms, synthetic_images, trial)

    lines = [
        f"{trial.seeds} seeds per arm: a true difference of {100 * least:.1f} {key} points is "
        "found four times out of five"
    ]
    lines += [comparison["sentence"] for comparison in comparisons.values()]
    lines += group_lines(comparisons, candidates)
    lines += frequent_lines(comparisons, candidates, trial.margin)
    lines += curve_lines
    lines += lvis_lines(classes)
    return {
        "detectable": least,
        "arms": arm_rows(runs, arms, classes),
        "comparisons": comparisons,
        "controls": control_differences,
        "curve": curve,
        "says": lines,
    }


def confirm(
    runs: Runs, arms: Sequence[Arm], recipe: Arm, stack: Arm, trial: Trial, classes: TrialClasses
) -> Json:
    """Return the conclusion of confirmation as plain data.

    The recipe is compared with real data and with the stack. `arms` are those that were trained:
    real, the stack where it is not real data alone, and the recipe.
    """
    _check_pairs(runs, arms)
    key = GOAL_WORDS[trial.goal]
    values = values_of(runs, recipe.name, GOAL)
    real = values_of(runs, "real", GOAL)
    controls = _values_of_controls(runs, arms)
    conclusion = compare_arms(values, real, controls)
    against = {"real": differences(runs, recipe.name, "real", classes, trial.margin)}
    for name in controls:
        against[name] = differences(runs, recipe.name, name, classes, trial.margin)
    least = _detectable(runs, arms, trial.confirm_seeds)
    lines = [
        sentence(recipe.name, conclusion, key),
        f"{trial.confirm_seeds} fresh seeds per arm: a true difference of {100 * least:.1f} {key} "
        "points is found four times out of five",
    ]
    for name, found in against.items():
        label = "real data alone" if name == "real" else f"the {name} ({stack.description})"
        lines += group_line(recipe.name, label, found["groups"])
    lines += frequent_lines({recipe.name: against["real"]}, [recipe.name], trial.margin)
    return {
        "recipe": recipe.name,
        "word": conclusion.word,
        "sentence": lines[0],
        "seeds": trial.confirm_seeds,
        "detectable": least,
        **_comparison(conclusion),
        "against": against,
        "arms": arm_rows(runs, arms, classes),
        "says": lines,
    }


def lvis_lines(classes: TrialClasses) -> list[str]:
    """Return the line on what LVIS counts otherwise, where its rule is used."""
    if classes.rule != "lvis":
        return []
    return [
        "AP here takes every class as looked for in every image; LVIS's own leaves out where it "
        "was not"
    ]


def _values_of_controls(runs: Runs, arms: Sequence[Arm]) -> dict[str, list[float]]:
    """Return the values that decide, by seed, of each control."""
    values = {}
    for arm in arms:
        if arm.role == "control":
            values[arm.name] = values_of(runs, arm.name, GOAL)
    return values


def _check_pairs(runs: Runs, arms: Sequence[Arm]) -> None:
    """Assert that every arm has the seeds of `real`: only so differences are paired."""
    seeds = [run["seed"] for run in runs_of(runs, "real")]
    for arm in arms:
        own = [run["seed"] for run in runs_of(runs, arm.name)]
        assert own == seeds, f"arm {arm.name} was trained with seeds {own}, real with {seeds}"


def group_lines(comparisons: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return a line per candidate on groups that gain or lose against real data."""
    lines = []
    for name in names:
        lines += group_line(name, "real data alone", comparisons[name]["groups"])
    return lines


def group_line(name: str, other: str, groups: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the line on the groups of classes that gain or lose, or none.

    With Holm's correction over groups. A long tail filled at the expense of its head is no
    difference over all classes, and yet what one wants to know.
    """
    adjusted = holm_adjusted({group: difference["p"] for group, difference in groups.items()})
    parts = []
    for group, difference in groups.items():
        if adjusted[group] >= 1 - LEVEL or abs(difference["mean"]) < LEAST:
            continue
        verb = "gain" if difference["mean"] > 0 else "lose"
        amount = 100 * abs(difference["mean"])
        low = in_points(difference["low"])
        high = in_points(difference["high"])
        parts.append(f"{group} classes {verb} {amount:.1f} points [{low}, {high}]")
    if not parts:
        return []
    return [f"{name} against {other}: {', '.join(parts)}"]


def frequent_lines(
    comparisons: Mapping[str, Mapping[str, Any]], names: Sequence[str], margin: float
) -> list[str]:
    """Return a line on the candidates' non-inferiority on frequent classes, or none."""
    parts = []
    for shown, words in ((True, "shown not to lose"), (False, "not shown not to lose")):
        members = [name for name in names if comparisons[name]["frequent_not_worse"] is shown]
        if members:
            verb = "is" if len(members) == 1 else "are"
            parts.append(f"{', '.join(members)} {verb} {words}")
    if not parts:
        return []
    return [f"frequent classes: {'; '.join(parts)} {100 * margin:g} points of AP"]


def _detectable(runs: Runs, arms: Sequence[Arm], seeds: int) -> float:
    """Return the least detectable difference at the typical spread of differences.

    The differences are to `real`, their spread the root mean square.
    """
    real = values_of(runs, "real", GOAL)
    others = [arm.name for arm in arms if arm.name != "real"]
    spreads = []
    for name in others:
        spread = paired_difference(values_of(runs, name, GOAL), real).sd
        if spread > 0:  # else it is the same arm by another name
            spreads.append(spread)
    if not spreads:
        return 0.0
    typical = float(np.sqrt(np.mean(np.square(spreads))))
    return detectable_difference(typical, seeds)


def arm_rows(runs: Runs, arms: Sequence[Arm], classes: TrialClasses) -> list[Json]:
    """Return the values of arms as plain data."""
    groups = classes.groups()
    return [_arm(runs, arm, groups) for arm in arms]


def _arm(runs: Runs, arm: Arm, groups: Mapping[str, Sequence[int]]) -> Json:
    """Return the values of an arm, their means and spreads, as plain data."""
    values = {key: values_of(runs, arm.name, key) for key in KEYS}
    seconds = [run["seconds"] + run["looking"] for run in runs_of(runs, arm.name)]
    return {
        "name": arm.name,
        "role": arm.role,
        "says": arm.description,
        "runs": values,
        "mean": {key: float(np.mean(own)) for key, own in values.items()},
        "sd": {key: float(np.std(own, ddof=1)) for key, own in values.items()},
        "groups": _group_means(runs, arm, groups, "AP"),
        "groups_fixed": _group_means(runs, arm, groups, FIXED),
        "seconds": round(float(np.mean(seconds)), 1),
    }


def _group_means(
    runs: Runs, arm: Arm, groups: Mapping[str, Sequence[int]], key: str
) -> dict[str, float | None]:
    """Return an arm's mean over each group of classes and the seeds.

    None where no class has a true object.
    """
    means: dict[str, float | None] = {}
    for group, members in groups.items():
        mean = float(np.mean(class_values(runs, arm.name, members, key)))
        means[group] = mean if math.isfinite(mean) else None
    return means


def _comparison(conclusion: Conclusion) -> Json:
    """Return the differences of the value that decides, as plain data."""
    against_controls = conclusion.against_controls
    return {
        "best_control": conclusion.best_control,
        "against_real": conclusion.against_real.to_json(),
        "against_best": conclusion.against_best.to_json(),
        "against_controls": {other: d.to_json() for other, d in against_controls.items()},
    }


def differences(runs: Runs, name: str, other: str, classes: TrialClasses, margin: float) -> Json:
    """Return the differences of an arm to another one as plain data.

    AP, fixed AP, per group and per class.
    """
    by_class = {}
    for label, index in zip(classes.names, classes.index, strict=True):
        difference = class_difference(runs, name, [index], other)
        if difference is not None:
            by_class[label] = difference
    adjusted = holm_adjusted({label: difference.p for label, difference in by_class.items()})
    class_differences = {}
    for label, difference in by_class.items():
        class_differences[label] = {**difference.to_json(), "p_holm": adjusted[label]}

    by_group = {}
    for group, members in classes.groups().items():
        difference = class_difference(runs, name, members, other)
        if difference is not None:
            by_group[group] = difference
    frequent_not_worse = None
    if "frequent" in by_group:
        frequent_not_worse = is_not_worse(by_group["frequent"], margin)

    whole = {}
    for key in ("AP", FIXED):
        whole[key] = paired_difference(values_of(runs, name, key), values_of(runs, other, key))
    return {
        "AP": whole["AP"].to_json(),
        "fixed": whole[FIXED].to_json(),
        "groups": {group: difference.to_json() for group, difference in by_group.items()},
        "classes": class_differences,
        "frequent_not_worse": frequent_not_worse,
    }


def class_difference(
    runs: Runs, arm: str, classes: Sequence[int], other: str = "real"
) -> Difference | None:
    """Compare an arm with another one on some classes.

    None where none of them has a true object.
    """
    own = class_values(runs, arm, classes)
    theirs = class_values(runs, other, classes)
    if not np.isfinite([*own, *theirs]).all():
        return None
    return paired_difference(own, theirs)


def _curve(
    runs: Runs, arms: Sequence[Arm], images: int, trial: Trial
) -> tuple[list[Json], list[str]]:
    """Return the budget curve over the parts of the synthetic images, and its line."""
    if not trial.curve:
        return [], []
    amounts = {}
    for arm in arms:
        if arm.added == ("synthetic",) and arm.name != BEST:
            amount = max(1, round(arm.fraction * images))
            amounts[amount] = values_of(runs, arm.name, GOAL)
    steps, enough = budget_curve(values_of(runs, "real", GOAL), amounts, trial.worthwhile)
    curve = []
    for step in steps:
        increment = step.increment.to_json() if step.increment else None
        curve.append({"images": step.images, "gain": step.gain.to_json(), "increment": increment})
    if enough is None:
        line = f"no amount up to {steps[-1].images} images is shown to be enough"
    else:
        line = (
            f"{enough} images are enough; more are shown to bring less than {trial.worthwhile:g} AP"
        )
    return curve, [f"budget curve: {line}"]

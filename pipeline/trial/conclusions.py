"""The conclusions of a trial from its runs: values per arm, comparisons, per class and per group, in words.

A run is a dict: arm, seed, seconds, looking, values {AP, AP50, AP75, AP_fixed} and per_class {class index: the same}. Numbers
are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.scores.detection.evaluator import frequency_groups, lvis_groups
from synthaug.pipeline.trial.arms import BEST, Arm
from synthaug.pipeline.trial.paired_tests import (
    LEVEL,
    Conclusion,
    Difference,
    budget_curve,
    compare_arms,
    detectable_difference,
    holm_adjusted,
    is_not_worse,
    paired_difference,
    sentence,
)

Runs = Sequence[Mapping[str, Any]]
FIXED = "AP_fixed"  # see scores/detection/fixed_ap.py
KEYS = ("AP", "AP50", "AP75", FIXED)
# By training objects, see frequency_groups.
GROUPS = {"frequent": "head", "common": "middle", "rare": "tail"}


@dataclass(frozen=True)
class TrialClasses:
    """The thing classes of a trial, in one order."""

    names: Sequence[str]
    index: Sequence[int]  # class indices
    objects: Sequence[int]  # labelled ones
    images: Sequence[int]  # labelled ones with the class
    rule: str = "relative"  # or lvis: by images, 1-10 rare, 11-100 common, more frequent (Gupta et al. 2019, section 3)

    def groups(self) -> dict[str, list[int]]:
        """Return the class indices of the frequent, common and rare classes; those without an object are in none."""
        if self.rule == "lvis":
            by_images = lvis_groups(self.images)
            members = {group: by_images[group] for group in GROUPS}
        else:
            by_objects = frequency_groups(self.objects)
            members = {group: by_objects[part] for group, part in GROUPS.items()}
        groups = {}
        for group, positions in members.items():
            groups[group] = [self.index[position] for position in positions]
        return groups

    def group_names(self) -> dict[str, list[str]]:
        """Return the names of the classes of each group, in the order of the classes."""
        groups = {}
        for group, members in self.groups().items():
            pairs = zip(self.names, self.index, strict=True)
            groups[group] = [name for name, index in pairs if index in members]
        return groups


def values_of(runs: Runs, arm: str, key: str = "AP") -> list[float]:
    """Return an arm's values, in the order of the seeds; 0 where there is no true object."""
    return [run["values"][key] or 0.0 for run in runs_of(runs, arm)]


def class_values(runs: Runs, arm: str, classes: Sequence[int], key: str = "AP") -> list[float]:
    """Return an arm's mean over some classes, in the order of the seeds; NaN where none has a true object."""
    means = []
    for run in runs_of(runs, arm):
        values = [run["per_class"][str(index)][key] for index in classes]
        known = [value for value in values if value is not None]
        means.append(float(np.mean(known)) if known else math.nan)
    return means


def runs_of(runs: Runs, arm: str) -> list[Mapping[str, Any]]:
    """Return the runs of an arm in the order of their seeds."""
    own = [run for run in runs if run["arm"] == arm]
    return sorted(own, key=lambda run: int(run["seed"]))


def best_control(runs: Runs, arms: Sequence[Arm]) -> Arm:
    """Return the control, or plain real data, with the highest mean AP."""
    controls = [arm for arm in arms if arm.role in ("control", "baseline")]
    return max(controls, key=lambda arm: np.mean(values_of(runs, arm.name)))


def conclude(
    runs: Runs, arms: Sequence[Arm], trial: Trial, classes: TrialClasses, synthetic_images: int
) -> dict[str, Any]:
    """Return the trial's conclusions as plain data."""
    _check_pairs(runs, arms)
    real = values_of(runs, "real")
    controls = {arm.name: values_of(runs, arm.name) for arm in arms if arm.role == "control"}
    candidates = [arm.name for arm in arms if arm.role == "candidate"]
    comparisons = {}
    for arm in arms:
        if arm.role in ("candidate", "placebo"):
            conclusion = compare_arms(values_of(runs, arm.name), real, controls)
            comparisons[arm.name] = _comparison(runs, arm.name, conclusion, classes, trial)
    control_differences = {}
    for name, values in controls.items():
        control_differences[name] = paired_difference(values, real).to_json()
    least = _detectable(runs, arms, trial.seeds)
    curve, curve_lines = _curve(runs, arms, synthetic_images, trial)

    lines = [
        f"{trial.seeds} seeds per arm: a true difference of {100 * least:.1f} AP points is found four times out of five"
    ]
    lines += [comparison["sentence"] for comparison in comparisons.values()]
    lines += group_lines(comparisons, candidates)
    lines += frequent_lines(comparisons, candidates, trial.margin)
    lines += curve_lines
    if classes.rule == "lvis":
        lines.append(
            "AP here takes every class as looked for in every image; LVIS's own leaves out where it was not"
        )
    return {
        "seeds": trial.seeds,
        "detectable": least,
        "arms": [_arm(runs, arm, classes.groups()) for arm in arms],
        "comparisons": comparisons,
        "controls": control_differences,
        "groups": classes.group_names(),
        "grouped_by": classes.rule,
        "margin": trial.margin,
        "curve": curve,
        "says": lines,
    }


def _check_pairs(runs: Runs, arms: Sequence[Arm]) -> None:
    """Assert that every arm was trained with the seeds of `real`: only then are differences paired."""
    seeds = [run["seed"] for run in runs_of(runs, "real")]
    for arm in arms:
        own = [run["seed"] for run in runs_of(runs, arm.name)]
        assert own == seeds, f"arm {arm.name} was trained with seeds {own}, real with {seeds}"


def group_lines(comparisons: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return a line per candidate on the groups of classes that gain or lose, after Holm's correction over groups.

    A long tail filled at the expense of its head is no difference over all classes, and yet what one wants to know.
    """
    lines = []
    for name in names:
        groups = comparisons[name]["groups"]
        adjusted = holm_adjusted({group: groups[group]["p"] for group in groups})
        parts = []
        for group, difference in groups.items():
            if adjusted[group] >= 1 - LEVEL:
                continue
            verb = "gain" if difference["mean"] > 0 else "lose"
            points = 100 * abs(difference["mean"])
            low, high = 100 * difference["low"], 100 * difference["high"]
            parts.append(f"{group} classes {verb} {points:.1f} points [{low:+.1f}, {high:+.1f}]")
        if parts:
            lines.append(f"{name} against real data alone: {', '.join(parts)}")
    return lines


def frequent_lines(
    comparisons: Mapping[str, Mapping[str, Any]], names: Sequence[str], margin: float
) -> list[str]:
    """Return a line on the non-inferiority of the candidates on frequent classes, or none."""
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
    """Return the least detectable difference at the typical (root mean square) spread of differences to `real`."""
    real = values_of(runs, "real")
    others = [arm.name for arm in arms if arm.name != "real"]
    if not others:
        return 0.0
    spreads = [paired_difference(values_of(runs, name), real).sd for name in others]
    typical = float(np.sqrt(np.mean(np.square(spreads))))
    return detectable_difference(typical, seeds)


def _arm(runs: Runs, arm: Arm, groups: Mapping[str, Sequence[int]]) -> dict[str, Any]:
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
    """Return an arm's mean over each group of classes and the seeds; None where no class has a true object."""
    means: dict[str, float | None] = {}
    for group, members in groups.items():
        mean = float(np.mean(class_values(runs, arm.name, members, key)))
        means[group] = mean if math.isfinite(mean) else None
    return means


def _comparison(
    runs: Runs, name: str, conclusion: Conclusion, classes: TrialClasses, trial: Trial
) -> dict[str, Any]:
    """Return the comparison of an arm with real data and with the controls, as plain data."""
    by_class = {}
    for label, index in zip(classes.names, classes.index, strict=True):
        difference = class_difference(runs, name, [index])
        if difference is not None:
            by_class[label] = difference
    adjusted = holm_adjusted({label: difference.p for label, difference in by_class.items()})
    class_differences = {}
    for label, difference in by_class.items():
        class_differences[label] = {**difference.to_json(), "p_holm": adjusted[label]}

    by_group = {}
    for group, members in classes.groups().items():
        difference = class_difference(runs, name, members)
        if difference is not None:
            by_group[group] = difference
    frequent_not_worse = None
    if "frequent" in by_group:
        frequent_not_worse = is_not_worse(by_group["frequent"], trial.margin)

    against_controls = conclusion.against_controls
    fixed = paired_difference(values_of(runs, name, FIXED), values_of(runs, "real", FIXED))
    return {
        "word": conclusion.word,
        "sentence": sentence(name, conclusion),
        "best_control": conclusion.best_control,
        "against_real": conclusion.against_real.to_json(),
        "against_best": conclusion.against_best.to_json(),
        "against_controls": {other: d.to_json() for other, d in against_controls.items()},
        "groups": {group: difference.to_json() for group, difference in by_group.items()},
        "fixed": fixed.to_json(),
        "classes": class_differences,
        "frequent_not_worse": frequent_not_worse,
    }


def class_difference(runs: Runs, arm: str, classes: Sequence[int]) -> Difference | None:
    """Compare an arm with real data on some classes; None where none of them has a true object."""
    own = class_values(runs, arm, classes)
    real = class_values(runs, "real", classes)
    if not np.isfinite([*own, *real]).all():
        return None
    return paired_difference(own, real)


def _curve(
    runs: Runs, arms: Sequence[Arm], images: int, trial: Trial
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the budget curve over the parts of the synthetic images, and its line."""
    if not trial.curve:
        return [], []
    amounts = {}
    for arm in arms:
        if arm.added == ("synthetic",) and arm.name != BEST:
            amount = max(1, round(arm.fraction * images))
            amounts[amount] = values_of(runs, arm.name)
    steps, enough = budget_curve(values_of(runs, "real"), amounts, trial.worthwhile)
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

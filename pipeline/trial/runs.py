"""The runs of a trial: values per arm, means over classes, the goal.

A run is a dict: arm, seed, seconds, looking, values {AP, AP50, AP75, AP_fixed, goal} and per_class
{class index: the same without the goal}. Numbers are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.scores.detection.evaluator import frequency_groups, lvis_groups

Runs = Sequence[Mapping[str, Any]]
FIXED = "AP_fixed"  # see scores/detection/fixed_ap.py
KEYS = ("AP", "AP50", "AP75", FIXED)
GOAL = "goal"  # the value that decides, see with_goal
GOAL_WORDS = {"all": "AP", "rare": "rare AP"}
# By training objects, see frequency_groups.
GROUPS = {"frequent": "head", "common": "middle", "rare": "tail"}


@dataclass(frozen=True)
class TrialClasses:
    """The thing classes of a trial, in one order."""

    names: Sequence[str]
    index: Sequence[int]  # class indices
    objects: Sequence[int]  # labelled ones
    images: Sequence[int]  # labelled ones with the class
    # or lvis: by images, 1-10 rare, 11-100 common, more frequent (Gupta et al. 2019, section 3)
    rule: str = "relative"

    def groups(self) -> dict[str, list[int]]:
        """Return the class indices of the frequent, common and rare classes.

        Classes without an object are in none.
        """
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
    """Return an arm's values by seed; 0 where there is no true object."""
    return [run["values"][key] or 0.0 for run in runs_of(runs, arm)]


def class_values(runs: Runs, arm: str, classes: Sequence[int], key: str = "AP") -> list[float]:
    """Return an arm's mean over some classes, by seed.

    NaN where none has a true object.
    """
    means = []
    for run in runs_of(runs, arm):
        mean = class_mean(run, classes, key)
        if mean is None:
            mean = math.nan
        means.append(mean)
    return means


def class_mean(run: Mapping[str, Any], classes: Sequence[int], key: str = "AP") -> float | None:
    """Return a run's mean over some classes; None where none has a true object."""
    values = [run["per_class"][str(index)][key] for index in classes]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def runs_of(runs: Runs, arm: str) -> list[Mapping[str, Any]]:
    """Return the runs of an arm in the order of their seeds."""
    own = [run for run in runs if run["arm"] == arm]
    return sorted(own, key=lambda run: int(run["seed"]))


# ---- The goal ----


def with_goal(runs: Runs, goal: str, classes: TrialClasses) -> list[Mapping[str, Any]]:
    """Return the runs with the value that decides as a further one.

    It is AP over all classes, or over the rare ones. Raises JobError where no class is rare.
    """
    if goal == "all":
        return [_with_value(run, run["values"]["AP"]) for run in runs]
    rare = classes.groups()["rare"]
    if not rare:
        raise JobError(
            "trial.goal: no class is rare here (trial.groups says how that is told); set "
            "trial.goal to all"
        )
    return [_with_value(run, class_mean(run, rare)) for run in runs]


def _with_value(run: Mapping[str, Any], value: float | None) -> Mapping[str, Any]:
    return {**run, "values": {**run["values"], GOAL: value}}

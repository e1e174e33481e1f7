"""From the runs of a trial to what it says: values per arm, comparisons, per class and per group, verdicts.

A run is a dict: arm, seed, seconds, looking, values {AP, AP50, AP75, AP_fixed} and per_class {class index: the same}. Numbers
are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Trial
from synthaug.pipeline.scores.detection.evaluator import frequency_groups, lvis_groups
from synthaug.pipeline.trial.arms import BEST, Arm
from synthaug.pipeline.trial.paired_tests import (
    LEVEL,
    Verdict,
    budget_curve,
    detectable,
    holm,
    judge,
    not_worse,
    paired,
    sentence,
)

Runs = Sequence[Mapping[str, Any]]
FIXED = "AP_fixed"  # see scores/fixed_ap.py
KEYS = ("AP", "AP50", "AP75", FIXED)
GROUPS = {
    "frequent": "head",
    "common": "middle",
    "rare": "tail",
}  # by training objects, see frequency_groups


@dataclass(frozen=True)
class Classes:
    """The thing classes of a trial, in one order."""

    names: Sequence[str]
    index: Sequence[int]  # class indices
    objects: Sequence[int]  # labelled ones
    images: Sequence[int]  # labelled ones with the class
    rule: str = "relative"  # or lvis: by images, 1-10 rare, 11-100 common, more frequent (Gupta et al. 2019, section 3)

    def groups(self) -> dict[str, list[int]]:
        """Class indices of the frequent, common and rare classes; classes without an object are in none."""
        if self.rule == "lvis":
            found = lvis_groups(self.images)
            return {name: [self.index[i] for i in found[name]] for name in GROUPS}
        found = frequency_groups(self.objects)
        return {name: [self.index[i] for i in found[part]] for name, part in GROUPS.items()}


def values_of(runs: Runs, arm: str, key: str = "AP") -> list[float]:
    """Return an arm's values, in the order of the seeds; 0 where there is nothing to find."""
    return [run["values"][key] or 0.0 for run in _of(runs, arm)]


def class_values(runs: Runs, arm: str, classes: Sequence[int], key: str = "AP") -> list[float]:
    """Return an arm's mean over some classes, in the order of the seeds; classes without truth do not count."""
    found = []
    for run in _of(runs, arm):
        numbers = [
            run["per_class"][str(c)][key]
            for c in classes
            if run["per_class"][str(c)][key] is not None
        ]
        found.append(float(np.mean(numbers)) if numbers else math.nan)
    return found


def _of(runs: Runs, arm: str) -> list[Mapping[str, Any]]:
    return sorted((run for run in runs if run["arm"] == arm), key=lambda run: int(run["seed"]))


def best_control(runs: Runs, arms: Sequence[Arm]) -> Arm:
    """Return the control, or plain real data, with the highest mean AP."""
    return max(
        (arm for arm in arms if arm.role in ("control", "baseline")),
        key=lambda a: np.mean(values_of(runs, a.name)),
    )


def conclude(
    runs: Runs, arms: Sequence[Arm], trial: Trial, classes: Classes, synthetic_images: int
) -> dict[str, Any]:
    """Return the trial's findings as plain data."""
    real = values_of(runs, "real")
    controls = {arm.name: values_of(runs, arm.name) for arm in arms if arm.role == "control"}
    judged = [arm for arm in arms if arm.role in ("candidate", "placebo")]
    verdicts = {arm.name: judge(values_of(runs, arm.name), real, controls) for arm in judged}
    groups = classes.groups()
    least = _detectable(runs, arms, trial.seeds)
    comparisons = {
        name: _comparison(runs, name, verdict, classes, trial) for name, verdict in verdicts.items()
    }
    curve, curve_says = _curve(runs, arms, real, synthetic_images, trial)
    told = [
        f"{trial.seeds} seeds per arm: a true difference of {100 * least:.1f} AP points is found four times out of five",
        *(found["sentence"] for found in comparisons.values()),
        *_group_says(comparisons, [arm.name for arm in judged if arm.role == "candidate"]),
        *_frequent_says(
            comparisons, [arm.name for arm in judged if arm.role == "candidate"], trial
        ),
        *curve_says,
    ]
    if classes.rule == "lvis":
        told.append(
            "AP here takes every class as looked for in every image; LVIS's own leaves out where it was not"
        )
    return {
        "seeds": trial.seeds,
        "detectable": least,
        "arms": [_arm(runs, arm, groups) for arm in arms],
        "comparisons": comparisons,
        "controls": {n: paired(v, real).to_json() for n, v in controls.items()},
        "groups": {
            name: [n for n, c in zip(classes.names, classes.index, strict=True) if c in found]
            for name, found in groups.items()
        },
        "grouped_by": classes.rule,
        "margin": trial.margin,
        "curve": curve,
        "says": told,
    }


def _group_says(comparisons: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """One line per candidate on the groups of classes that are shown to gain or to lose, after Holm's correction over groups.

    A long tail filled at the expense of its head is no difference over all classes, and yet what one wants to know.
    """
    lines = []
    for name in names:
        found = comparisons[name]["groups"]
        shown = holm({group: difference["p"] for group, difference in found.items()})
        parts = [
            f"{group} classes {'gain' if d['mean'] > 0 else 'lose'} {100 * abs(d['mean']):.1f} points "
            f"[{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
            for group, d in found.items()
            if shown[group] < 1 - LEVEL
        ]
        lines += [f"{name} against real data alone: {', '.join(parts)}"] if parts else []
    return lines


def _frequent_says(
    comparisons: Mapping[str, Mapping[str, Any]], names: Sequence[str], trial: Trial
) -> list[str]:
    """One line on the non-inferiority of the candidates on frequent classes."""
    known = {name: comparisons[name]["frequent_not_worse"] for name in names}
    parts = []
    for word, wanted in (("shown not to lose", True), ("not shown not to lose", False)):
        found = [name for name, value in known.items() if value is wanted]
        parts += (
            [f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} {word}"] if found else []
        )
    return (
        [f"frequent classes: {'; '.join(parts)} {100 * trial.margin:g} points of AP"]
        if parts
        else []
    )


def _detectable(runs: Runs, arms: Sequence[Arm], seeds: int) -> float:
    """The smallest detectable difference at the typical (root mean square) spread of paired differences to `real`."""
    real = values_of(runs, "real")
    spread = [paired(values_of(runs, arm.name), real).sd for arm in arms if arm.name != "real"]
    return detectable(float(np.sqrt(np.mean(np.square(spread)))), seeds) if spread else 0.0


def _arm(runs: Runs, arm: Arm, groups: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    own = _of(runs, arm.name)
    means = {key: values_of(runs, arm.name, key) for key in KEYS}
    return {
        **{key: value for key, value in asdict(arm).items() if key in ("name", "role", "says")},
        "runs": means,
        "mean": {key: float(np.mean(values)) for key, values in means.items()},
        "sd": {key: float(np.std(values, ddof=1)) for key, values in means.items()},
        "groups": {
            name: _finite(np.mean(class_values(runs, arm.name, found)))
            for name, found in groups.items()
        },
        "groups_fixed": {
            name: _finite(np.mean(class_values(runs, arm.name, found, FIXED)))
            for name, found in groups.items()
        },
        "seconds": round(float(np.mean([run["seconds"] + run["looking"] for run in own])), 1),
    }


def _comparison(
    runs: Runs,
    name: str,
    verdict: Verdict,
    classes: Classes,
    trial: Trial,
) -> dict[str, Any]:
    """All that is said of one judged arm, against real data and against the best control."""
    named = zip(classes.names, classes.index, strict=True)
    per_class = {label: _against(runs, name, "real", [c]) for label, c in named}
    found = {label: difference for label, difference in per_class.items() if difference is not None}
    adjusted = holm({label: difference.p for label, difference in found.items()})
    by_group = {
        group: _against(runs, name, "real", members) for group, members in classes.groups().items()
    }
    fixed = paired(values_of(runs, name, FIXED), values_of(runs, "real", FIXED))
    frequent = by_group["frequent"]
    return {
        "word": verdict.word,
        "sentence": sentence(name, verdict),
        "best_control": verdict.best_control,
        "against_real": verdict.against_real.to_json(),
        "against_best": verdict.against_best.to_json(),
        "against_controls": {
            control: d.to_json() for control, d in verdict.against_controls.items()
        },
        "groups": {group: d.to_json() for group, d in by_group.items() if d},
        "fixed": fixed.to_json(),
        "classes": {
            label: {**d.to_json(), "p_holm": adjusted[label]} for label, d in found.items()
        },
        "frequent_not_worse": None if frequent is None else not_worse(frequent, trial.margin),
    }


def _against(runs: Runs, arm: str, control: str, classes: Sequence[int]) -> Any:
    """Compare two arms on some classes; None where none of them has truth."""
    mine, theirs = class_values(runs, arm, classes), class_values(runs, control, classes)
    return paired(mine, theirs) if np.isfinite([*mine, *theirs]).all() else None


def _curve(
    runs: Runs, arms: Sequence[Arm], real: Sequence[float], images: int, trial: Trial
) -> tuple[list[dict[str, Any]], list[str]]:
    """The budget curve over the parts of the synthetic images, and its sentence."""
    if not trial.curve:
        return [], []
    parts = {
        arm.name: arm.fraction for arm in arms if arm.added == ("synthetic",) and arm.name != BEST
    }
    amounts = {max(1, round(part * images)): values_of(runs, name) for name, part in parts.items()}
    steps, stop = budget_curve(real, amounts, trial.worthwhile)
    plain = [
        {
            "images": s.images,
            "gain": s.gain.to_json(),
            "increment": s.increment.to_json() if s.increment else None,
        }
        for s in steps
    ]
    if stop is None:
        return plain, [
            f"budget curve: no amount up to {steps[-1].images} images is shown to be enough"
        ]
    return plain, [
        f"budget curve: {stop} images are enough; more are shown to bring less than {trial.worthwhile:g} AP"
    ]


def _finite(value: float | np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None

"""From the runs of a trial to what it says: values per arm, comparisons, per class and per group, verdicts.

A run is a dict: arm, seed, seconds, values {AP, AP50, AP75} and per_class {class index: the same}. Numbers are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.arms import BEST, Arm
from pipeline.comparison import Verdict, budget_curve, detectable, holm, judge, not_worse, paired, sentence
from pipeline.scores.detection import frequency_groups
from pipeline.sections import Trial

Runs = Sequence[Mapping[str, Any]]
GROUPS = {"frequent": "head", "common": "middle", "rare": "tail"}  # by training objects, see frequency_groups


def values_of(runs: Runs, arm: str, key: str = "AP") -> list[float]:
    """Return an arm's values, in the order of the seeds; 0 where there is nothing to find."""
    return [run["values"][key] or 0.0 for run in _of(runs, arm)]


def class_values(runs: Runs, arm: str, classes: Sequence[int], key: str = "AP") -> list[float]:
    """Return an arm's mean over some classes, in the order of the seeds; classes without truth do not count."""
    found = []
    for run in _of(runs, arm):
        numbers = [run["per_class"][str(c)][key] for c in classes if run["per_class"][str(c)][key] is not None]
        found.append(float(np.mean(numbers)) if numbers else math.nan)
    return found


def _of(runs: Runs, arm: str) -> list[Mapping[str, Any]]:
    return sorted((run for run in runs if run["arm"] == arm), key=lambda run: int(run["seed"]))


def best_control(runs: Runs, arms: Sequence[Arm]) -> Arm:
    """Return the control, or plain real data, with the highest mean AP."""
    return max(
        (arm for arm in arms if arm.role in ("control", "baseline")), key=lambda a: np.mean(values_of(runs, a.name))
    )


def conclude(
    runs: Runs,
    arms: Sequence[Arm],
    trial: Trial,
    counts: Mapping[str, int],
    synthetic_images: int,
    classes: Sequence[int],
) -> dict[str, Any]:
    """Return the trial's findings as plain data.

    `counts` has the labelled training objects of each thing class by name, `classes` their class indices, in one order.
    """
    real = values_of(runs, "real")
    controls = {arm.name: values_of(runs, arm.name) for arm in arms if arm.role == "control"}
    judged = [arm for arm in arms if arm.role in ("candidate", "placebo")]
    verdicts = {arm.name: judge(values_of(runs, arm.name), real, controls) for arm in judged}
    groups = _groups(counts, classes)
    least = _detectable(runs, arms, trial.seeds)
    comparisons = {
        name: _comparison(runs, name, verdict, groups, counts, classes, trial) for name, verdict in verdicts.items()
    }
    curve, curve_says = _curve(runs, arms, real, synthetic_images, trial)
    told = [
        f"{trial.seeds} seeds per arm: a true difference of {100 * least:.1f} AP points is found four times out of five",
        *(found["sentence"] for found in comparisons.values()),
        *curve_says,
    ]
    return {
        "seeds": trial.seeds,
        "detectable": least,
        "arms": [_arm(runs, arm, groups) for arm in arms],
        "comparisons": comparisons,
        "controls": {n: paired(v, real).to_json() for n, v in controls.items()},
        "groups": {
            name: [n for n, c in zip(counts, classes, strict=True) if c in found] for name, found in groups.items()
        },
        "curve": curve,
        "says": told,
    }


def _groups(counts: Mapping[str, int], classes: Sequence[int]) -> dict[str, list[int]]:
    found = frequency_groups(list(counts.values()))
    return {name: [classes[i] for i in found[part]] for name, part in GROUPS.items()}


def _detectable(runs: Runs, arms: Sequence[Arm], seeds: int) -> float:
    """The smallest detectable difference at the typical (root mean square) spread of paired differences to `real`."""
    real = values_of(runs, "real")
    spread = [paired(values_of(runs, arm.name), real).sd for arm in arms if arm.name != "real"]
    return detectable(float(np.sqrt(np.mean(np.square(spread)))), seeds) if spread else 0.0


def _arm(runs: Runs, arm: Arm, groups: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    own = _of(runs, arm.name)
    means = {key: values_of(runs, arm.name, key) for key in ("AP", "AP50", "AP75")}
    return {
        **{key: value for key, value in asdict(arm).items() if key in ("name", "role", "says")},
        "runs": means,
        "mean": {key: float(np.mean(values)) for key, values in means.items()},
        "sd": {key: float(np.std(values, ddof=1)) for key, values in means.items()},
        "groups": {name: _finite(np.mean(class_values(runs, arm.name, found))) for name, found in groups.items()},
        "seconds": round(float(np.mean([run["seconds"] for run in own])), 1),
    }


def _comparison(
    runs: Runs,
    name: str,
    verdict: Verdict,
    groups: Mapping[str, Sequence[int]],
    counts: Mapping[str, int],
    classes: Sequence[int],
    trial: Trial,
) -> dict[str, Any]:
    """All that is said of one judged arm, against real data and against the best control."""
    per_class = {label: _against(runs, name, "real", [c]) for label, c in zip(counts, classes, strict=True)}
    found = {label: difference for label, difference in per_class.items() if difference is not None}
    adjusted = holm({label: difference.p for label, difference in found.items()})
    by_group = {group: _against(runs, name, "real", members) for group, members in groups.items()}
    frequent = by_group["frequent"]
    return {
        "word": verdict.word,
        "sentence": sentence(name, verdict),
        "best_control": verdict.best_control,
        "against_real": verdict.against_real.to_json(),
        "against_best": verdict.against_best.to_json(),
        "against_controls": {control: d.to_json() for control, d in verdict.against_controls.items()},
        "groups": {group: d.to_json() for group, d in by_group.items() if d},
        "classes": {label: {**d.to_json(), "p_holm": adjusted[label]} for label, d in found.items()},
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
    parts = {arm.name: arm.fraction for arm in arms if arm.added == ("synthetic",) and arm.name != BEST}
    amounts = {max(1, round(part * images)): values_of(runs, name) for name, part in parts.items()}
    steps, stop = budget_curve(real, amounts, trial.worthwhile)
    plain = [
        {"images": s.images, "gain": s.gain.to_json(), "increment": s.increment.to_json() if s.increment else None}
        for s in steps
    ]
    if stop is None:
        return plain, [f"budget curve: no amount up to {steps[-1].images} images is shown to be enough"]
    return plain, [f"budget curve: {stop} images are enough; more are shown to bring less than {trial.worthwhile:g} AP"]


def _finite(value: float | np.floating[Any]) -> float | None:
    return float(value) if math.isfinite(value) else None

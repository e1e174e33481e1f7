"""What a paired trial may say: intervals over seeds, corrections for many looks, and the verdict.

Legend: N seeds. Every arm was trained with the same N seeds, so arms are compared seed by seed: the difference of two
runs with one seed has less noise than their values. Intervals are Student's t intervals of the mean difference; they
cover what a seed changes (start, order of images, augmentation), not the choice of the evaluation images, which all
arms share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

LEVEL = 0.95
POWER = 0.8

Word = Literal["helps", "hurts", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """A mean difference of two arms over N seeds, with its two-sided interval and p-value."""

    mean: float
    low: float
    high: float
    p: float  # two-sided, of the paired t test against 0
    seeds: int
    sd: float  # of the differences, N - 1 in the denominator

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {name: getattr(self, name) for name in ("mean", "low", "high", "p", "seeds", "sd")}


def paired(arm: Sequence[float], control: Sequence[float], level: float = LEVEL) -> Difference:
    """Compare two arms seed by seed; both have one value per seed, in the same order, at least two.

    Differences that are all equal have an interval of width zero; if they are all zero, p is 1.
    """
    from scipy import stats

    gains = np.asarray(arm, np.float64) - np.asarray(control, np.float64)
    n = len(gains)
    assert n >= 2 and gains.shape == (n,), "a paired comparison needs two seeds or more"
    mean, sd = float(gains.mean()), float(gains.std(ddof=1))
    error = sd / math.sqrt(n)
    reach = float(stats.t.ppf(0.5 + level / 2, n - 1)) * error
    certain = 1.0 if mean == 0 else 0.0
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error else certain
    return Difference(mean, mean - reach, mean + reach, p, n, sd)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p-values (Holm 1979): below alpha, a difference stands although many were looked at."""
    order = sorted(p_values, key=lambda name: p_values[name])
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def detectable(sd: float, seeds: int, level: float = LEVEL, power: float = POWER) -> float:
    """Return the smallest true difference that a trial of `seeds` pairs finds with probability `power`.

    `sd` is the standard deviation of paired differences; solved with the noncentral t distribution.
    """
    from scipy import optimize, stats

    if sd == 0:
        return 0.0
    freedom, edge = seeds - 1, float(stats.t.ppf(0.5 + level / 2, seeds - 1))

    def missing(effect: float) -> float:
        shift = effect * math.sqrt(seeds)
        found = float(stats.nct.sf(edge, freedom, shift) + stats.nct.cdf(-edge, freedom, shift))
        return (
            found if math.isfinite(found) else 1.0
        ) - power  # far out the library gives up: certain to be found

    upper = 1.0
    while missing(upper) < 0:
        upper *= 2
    return sd * float(optimize.brentq(missing, 0.0, upper))


@dataclass(frozen=True)
class Verdict:
    """What may be said of one arm: against plain real data, and against every cheap control."""

    word: Word
    against_real: Difference
    against_controls: Mapping[str, Difference]  # the controls other than real, may be empty
    best_control: str  # the control with the highest mean, "real" among them

    @property
    def against_best(self) -> Difference:
        """The difference to the best control."""
        return self.against_controls.get(self.best_control, self.against_real)


def judge(
    arm: Sequence[float],
    real: Sequence[float],
    controls: Mapping[str, Sequence[float]],
    level: float = LEVEL,
) -> Verdict:
    """Judge an arm: `helps` when it beats real data and every control, `hurts` when it is worse than real data alone.

    "Every control" is an intersection-union test (Berger 1982): each difference must have its whole interval above zero, so
    no correction for several controls is due, and choosing the luckiest control as the best one cannot favour the arm.
    """
    against_real = paired(arm, real, level)
    against = {name: paired(arm, values, level) for name, values in controls.items()}
    means = {
        "real": float(np.mean(real)),
        **{name: float(np.mean(values)) for name, values in controls.items()},
    }
    best = max(means, key=lambda name: means[name])
    word: Word = "cannot tell"
    if against_real.high < 0:
        word = "hurts"
    elif against_real.low > 0 and all(difference.low > 0 for difference in against.values()):
        word = "helps"
    return Verdict(word, against_real, against, best)


def not_worse(difference: Difference, margin: float) -> bool:
    """Whether the arm is shown not to be worse by `margin` or more: the interval's low end lies above -margin."""
    return difference.low > -margin


def sentence(name: str, verdict: Verdict, key: str = "AP") -> str:
    """Put a verdict into words; differences in AP points (hundredths)."""
    real, best = verdict.against_real, verdict.against_best
    beside = f"{_points(best)} {key} against the best control, {verdict.best_control}"
    if verdict.best_control == "real":
        beside = f"{_points(real)} {key} against real data alone, which no control beats"
    alone = f"{_points(real)} against real data alone"
    if verdict.word == "helps":
        return f"{name} helps: {beside}" + (
            "." if verdict.best_control == "real" else f"; {alone}."
        )
    if verdict.word == "hurts":
        return f"{name} hurts: {alone}."
    if real.low > 0:
        return f"cannot tell whether {name} helps beyond cheap controls: {beside}; it does beat real data alone: {alone}."
    return f"cannot tell whether {name} helps: {beside}" + (
        "." if verdict.best_control == "real" else f"; {alone}."
    )


def _points(difference: Difference) -> str:
    return f"{100 * difference.mean:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


@dataclass(frozen=True)
class Step:
    """One step of a budget curve: more synthetic images, and what they brought over the step before."""

    images: int
    gain: Difference  # over real data alone
    increment: Difference | None  # over the step before; None for the first


def budget_curve(
    real: Sequence[float], amounts: Mapping[int, Sequence[float]], worthwhile: float
) -> tuple[list[Step], int | None]:
    """Return gain against number of synthetic images, and the amount at which to stop (None: keep going).

    Stop at the first amount whose next step is shown to bring less than `worthwhile`: the increment's interval lies
    wholly below it. An interval that still reaches above it is no reason to stop.
    """
    steps: list[Step] = []
    stop: int | None = None
    ordered = sorted(amounts)
    for place, images in enumerate(ordered):
        before = amounts[ordered[place - 1]] if place else None
        increment = None if before is None else paired(amounts[images], before)
        if stop is None and increment is not None and increment.high < worthwhile:
            stop = ordered[place - 1]
        steps.append(Step(images, paired(amounts[images], real), increment))
    return steps, stop

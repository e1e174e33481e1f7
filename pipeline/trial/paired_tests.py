"""Significance tests of a paired trial: intervals, corrections, conclusions.

Legend: N seeds. Every arm was trained with the same N seeds, so arms are compared seed by seed: the
difference of two runs with one seed has less noise than their values. Intervals are Student's t
intervals of the mean difference; they cover what a seed changes (start, order of images,
augmentation), not the choice of the evaluation images, which all arms share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from synthaug.pipeline.core.json_values import Json

LEVEL = 0.95
POWER = 0.8
# AP: the last digit that is printed. Less is no gain and no loss, however narrow the interval:
# few seeds may agree to the last digit by chance, and nobody trains on images for so little.
LEAST = 0.001

Word = Literal["helps", "hurts", "cannot tell"]
# What screening may say instead: it has chosen on the images that it was measured on.
SCREENED: Mapping[Word, str] = {
    "helps": "suggests a gain",
    "hurts": "suggests a loss",
    "cannot tell": "cannot tell",
}


@dataclass(frozen=True)
class Difference:
    """A mean difference of two arms over N seeds, with its interval and p-value."""

    mean: float
    low: float
    high: float
    p: float  # two-sided, of the paired t test against 0
    seeds: int
    sd: float  # of the differences, N - 1 in the denominator

    @property
    def is_gain(self) -> bool:
        """Return whether it is a gain: LEAST or more, its whole interval above 0."""
        return self.low > 0 and self.mean >= LEAST

    @property
    def is_loss(self) -> bool:
        """Return whether it is a loss: LEAST or more, its whole interval below 0."""
        return self.high < 0 and self.mean <= -LEAST

    @property
    def is_nothing(self) -> bool:
        """Whether its whole interval is less than LEAST from 0."""
        return -LEAST < self.low and self.high < LEAST

    def to_json(self) -> Json:
        """Return plain numbers."""
        return asdict(self)


def paired_difference(
    arm: Sequence[float], control: Sequence[float], level: float = LEVEL
) -> Difference:
    """Compare two arms seed by seed.

    Both have one value per seed, in the same order, at least two. Differences that are all equal
    have an interval of width zero; if they are all zero, p is 1.
    """
    from scipy import special

    seeds = len(arm)
    assert seeds == len(control), "a paired comparison needs the same seeds in both arms"
    assert seeds >= 2, "a paired comparison needs two seeds or more"
    gains = np.asarray(arm, np.float64) - np.asarray(control, np.float64)
    mean = float(gains.mean())
    sd = float(gains.std(ddof=1))
    standard_error = sd / math.sqrt(seeds)
    quantile = float(special.stdtrit(seeds - 1, 0.5 + level / 2))
    half_width = quantile * standard_error
    if standard_error > 0:
        p = float(2 * special.stdtr(seeds - 1, -abs(mean) / standard_error))
    elif mean == 0:
        p = 1.0
    else:
        p = 0.0
    return Difference(mean, mean - half_width, mean + half_width, p, seeds, sd)


def holm_adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p-values (Holm 1979), by name.

    Below alpha, a difference stands although many were tested.
    """
    order = sorted(p_values, key=lambda name: p_values[name])
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(order):
        own = (len(order) - rank) * p_values[name]
        largest = max(largest, min(1.0, own))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def detectable_difference(
    sd: float, seeds: int, level: float = LEVEL, power: float = POWER
) -> float:
    """Return the smallest true difference that `seeds` pairs detect.

    They do so with probability `power`. `sd` is the standard deviation of paired differences;
    solved with the noncentral t distribution.
    """
    from scipy import optimize, stats

    if sd == 0:
        return 0.0
    freedom = seeds - 1
    edge = float(stats.t.ppf(0.5 + level / 2, freedom))

    def excess_power(effect: float) -> float:
        """Return the power for an effect (in standard deviations) above the wanted one."""
        shift = effect * math.sqrt(seeds)
        above = float(stats.nct.sf(edge, freedom, shift))
        below = float(stats.nct.cdf(-edge, freedom, shift))
        detected = above + below
        if not math.isfinite(detected):  # far out the library gives up: certain to be detected
            detected = 1.0
        return detected - power

    upper = 1.0
    while excess_power(upper) < 0:
        upper *= 2
    return sd * float(optimize.brentq(excess_power, 0.0, upper))


@dataclass(frozen=True)
class Conclusion:
    """What may be said of one arm: against plain real data, and against every control."""

    word: Word
    against_real: Difference
    against_controls: Mapping[str, Difference]  # the controls other than real, may be empty
    best_control: str  # the control with the highest mean, "real" among them

    @property
    def against_best(self) -> Difference:
        """The difference to the best control."""
        return self.against_controls.get(self.best_control, self.against_real)


def compare_arms(
    arm: Sequence[float],
    real: Sequence[float],
    controls: Mapping[str, Sequence[float]],
    level: float = LEVEL,
) -> Conclusion:
    """Conclude on an arm from its differences to real data and to every control.

    It `helps` when it beats them all, and `hurts` when it is worse than real data, both by LEAST or
    more. "Every control" is an intersection-union test (Berger 1982): each difference must have its
    whole interval above zero, so no correction for several controls is due, and choosing the
    luckiest control as the best one cannot favour the arm.
    """
    against_real = paired_difference(arm, real, level)
    against_controls = {}
    means = {"real": float(np.mean(real))}
    for name, values in controls.items():
        against_controls[name] = paired_difference(arm, values, level)
        means[name] = float(np.mean(values))
    best_control = max(means, key=lambda name: means[name])
    beats_controls = all(difference.is_gain for difference in against_controls.values())
    word: Word = "cannot tell"
    if against_real.is_loss:
        word = "hurts"
    elif against_real.is_gain and beats_controls:
        word = "helps"
    return Conclusion(word, against_real, against_controls, best_control)


def is_not_worse(difference: Difference, margin: float) -> bool:
    """Return whether an arm is shown not to be worse by `margin` or more.

    A non-inferiority test.
    """
    return difference.low > -margin


def sentence(name: str, conclusion: Conclusion, key: str = "AP") -> str:
    """Put a conclusion into words; differences in AP points (hundredths)."""
    against_best, alone = _against(conclusion, key)
    if conclusion.word == "helps":
        return f"{name} helps: {against_best}."
    if conclusion.word == "hurts":
        return f"{name} hurts: {alone}."
    if conclusion.against_real.is_gain:
        return (
            f"cannot tell whether {name} helps beyond cheap controls: {against_best}; "
            "it does beat real data alone."
        )
    if conclusion.against_best.is_nothing:
        return f"{name} makes no difference: {against_best}."
    return f"cannot tell whether {name} helps: {against_best}."


def screening_sentence(name: str, conclusion: Conclusion, key: str = "AP") -> str:
    """Put what screening shows into words; it suggests, and says no more."""
    against_best, alone = _against(conclusion, key)
    if conclusion.word == "helps":
        return f"screening suggests a gain of {name}: {against_best}."
    if conclusion.word == "hurts":
        return f"screening suggests a loss of {name}: {alone}."
    if conclusion.against_best.is_nothing and not conclusion.against_real.is_gain:
        return f"screening shows no difference of {name}: {against_best}."
    return f"screening cannot tell whether {name} gains anything: {against_best}."


def _against(conclusion: Conclusion, key: str) -> tuple[str, str]:
    """Return differences in words: to control and real data, and to real data alone."""
    best = points(conclusion.against_best)
    alone = f"{points(conclusion.against_real)} against real data alone"
    if conclusion.best_control == "real":
        return f"{best} {key} against real data alone, which no control beats", alone
    control = f"the best control, {conclusion.best_control}"
    if conclusion.best_control == "stack":
        control = "the stack of controls"
    return f"{best} {key} against {control}; {alone}", alone


def points(difference: Difference) -> str:
    """Return a difference with its interval, in AP points."""
    low = in_points(difference.low)
    high = in_points(difference.high)
    return f"{in_points(difference.mean)} points [{low}, {high}]"


def in_points(value: float) -> str:
    """Return a difference of AP in points with its sign; zero has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


@dataclass(frozen=True)
class BudgetStep:
    """One step of a budget curve: more synthetic images, and what they brought."""

    images: int
    gain: Difference  # over real data alone
    increment: Difference | None  # over the step before; None for the first


def budget_curve(
    real: Sequence[float], amounts: Mapping[int, Sequence[float]], worthwhile: float
) -> tuple[list[BudgetStep], int | None]:
    """Return gain against number of synthetic images, and the amount to stop at.

    None: keep going. Stop at the first amount whose next step is shown to bring less than
    `worthwhile`: the increment's interval lies wholly below it. An interval that still reaches
    above it is no reason to stop.
    """
    steps: list[BudgetStep] = []
    enough: int | None = None
    before: int | None = None
    for images in sorted(amounts):
        gain = paired_difference(amounts[images], real)
        increment = None
        if before is not None:
            increment = paired_difference(amounts[images], amounts[before])
            if enough is None and increment.high < worthwhile:
                enough = before
        steps.append(BudgetStep(images, gain, increment))
        before = images
    return steps, enough

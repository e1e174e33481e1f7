"""The budget of a trial: steps of which twice as many bring next to nothing.

Short of it every arm is limited by its steps: added data cannot show, and what seems a gain may be
a faster start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthaug.pipeline.config.schema import DetectorJob, Trial
from synthaug.pipeline.core.json_values import Json

START = 0.25  # of detector.steps
# A doubling that brings nothing is a plateau only where something was learnt: AP of this many times
# trial.plateau.
LEARNT = 5


@dataclass(frozen=True)
class Budget:
    """The optimizer steps of every arm, and how they were found."""

    steps: int
    curve: tuple[tuple[int, float], ...] = ()  # steps and AP of `real`, one seed, on validation
    found: Literal["given", "plateau", "limit"] = "given"

    def to_json(self) -> Json:
        """Return plain data."""
        curve = [{"steps": steps, "AP": value} for steps, value in self.curve]
        return {"steps": self.steps, "found": self.found, "curve": curve}


def first_steps(trial: Trial, detector: DetectorJob) -> int:
    """Return the steps that the search begins with."""
    return trial.start_steps or max(1, round(START * detector.steps))


def find_budget(
    measure: Callable[[int], float], start: int, plateau: float, doublings: int
) -> Budget:
    """Double the steps from `start` on until a doubling brings less than `plateau` AP.

    `measure` returns the AP of real data after so many steps. The budget is the steps before that
    doubling; without one among `doublings`, the most steps that were tried.
    """
    steps = start
    curve = [(steps, measure(steps))]
    for _ in range(doublings):
        value = curve[-1][1]
        twice = measure(2 * steps)
        curve.append((2 * steps, twice))
        if twice - value < plateau and value >= LEARNT * plateau:
            return Budget(steps, tuple(curve), "plateau")
        steps *= 2
    return Budget(steps, tuple(curve), "limit")


def budget_line(budget: Mapping[str, Any]) -> str:
    """Return the line on a budget in its plain form."""
    steps = budget["steps"]
    if budget["found"] == "given":
        return f"{steps} steps per arm, as the job says"
    before, last = budget["curve"][-2:]
    brought = 100 * (last["AP"] - before["AP"])
    doubling = f"{brought:+.1f} points of AP to real data alone (one seed, on validation)"
    if budget["found"] == "plateau":
        return f"{steps} steps per arm: twice as many bring {doubling}"
    return (
        f"{steps} steps per arm, where trial.doublings ended the search: the last doubling brought "
        f"{doubling}; raise it to see what the arms come to"
    )

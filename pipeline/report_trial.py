"""The trial on the report's page: verdicts first, then the arms, their differences to real data, and each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("report_trial.html.j2")
WIDTH = 320  # of the interval plot, in its own units
EDGE = 12  # free at either side
GROUPS = ("frequent", "common", "rare")  # of a trial's classes, in the order they are shown


@dataclass(frozen=True)
class Bar:
    """One arm's difference to real data as a place on the plot's line."""

    low: float
    mean: float
    high: float
    text: str  # in AP points


def section(trial: Mapping[str, Any]) -> str:
    """Return the HTML of the section, every text escaped; empty where there was no trial."""
    from jinja2 import Environment, StrictUndefined

    if not trial.get("seeds"):
        return ""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"points": points, "ap": ap}
    page = environment.from_string(TEMPLATE.read_text("utf-8"))
    differences = against_real(trial)
    return page.render(
        trial=trial,
        bars=bars(differences),
        zero=zero(differences),
        width=WIDTH,
        classes=class_rows(trial),
        groups=[name for name in GROUPS if trial["groups"][name]],
    )


def against_real(trial: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Every arm's difference to `real`, controls and judged arms alike."""
    judged = {name: found["against_real"] for name, found in trial["comparisons"].items()}
    return {**trial["controls"], **judged}


def _limits(differences: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
    low = min([0.0, *(d["low"] for d in differences.values())])
    high = max([0.0, *(d["high"] for d in differences.values())])
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _place(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return round(EDGE + (value - low) / (high - low) * (WIDTH - 2 * EDGE), 1)


def zero(differences: Mapping[str, Mapping[str, float]]) -> float:
    """Where no difference lies on the plot's line."""
    return _place(0.0, _limits(differences))


def bars(differences: Mapping[str, Mapping[str, float]]) -> dict[str, Bar]:
    """The plot's bars by arm."""
    limits = _limits(differences)
    return {
        name: Bar(_place(d["low"], limits), _place(d["mean"], limits), _place(d["high"], limits), points(d))
        for name, d in differences.items()
    }


def class_rows(trial: Mapping[str, Any]) -> list[tuple[str, Sequence[Mapping[str, float] | None]]]:
    """(Class, its difference to real data per judged arm), in the order of the classes."""
    names = [name for group in GROUPS for name in trial["groups"][group]]
    found = [comparison["classes"] for comparison in trial["comparisons"].values()]
    return [(name, [classes.get(name) for classes in found]) for name in names]


def points(difference: Mapping[str, float]) -> str:
    """A difference with its interval, in AP points."""
    mean, low, high = (100 * difference[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def ap(value: float | None) -> str:
    """An AP in points."""
    return "n/a" if value is None else f"{100 * value:.1f}"

"""The trial on the report's page: the verdict first, then what it stands on."""

from __future__ import annotations

from collections.abc import Sequence

from synthaug.pipeline.core.json_values import Manifest
from synthaug.pipeline.report.charts import Interval, forest_chart, line_chart
from synthaug.pipeline.report.frame import escaped, render_section
from synthaug.pipeline.report.trial.rows import (
    RULES,
    Difference,
    confirmation_rows,
    confirmed_against,
    differences_to_real,
    present_groups,
    screening_rows,
)

ROLE_COLORS = {"control": 4, "placebo": 3, "candidate": 0}  # of an arm's interval
HEADROOM = {
    "real_half": "all labelled images against half of them",
    "real_more": "more real images against these",
}


def section(trial: Manifest) -> str:
    """Return the section's HTML, every text escaped; empty where no trial was."""
    if not trial.get("seeds"):
        return ""
    heads = []
    if trial["confirmation"]:
        heads = confirmed_against(trial)
    rows = []
    if trial["comparisons"]:
        rows = screening_rows(trial)
    return render_section(
        "trial.html.j2",
        trial=trial,
        verdict=trial["verdict"],
        notes=[*_advice(trial), *trial["says"][1:]],
        confirmed=confirmation_rows(trial),
        confirmed_heads=heads,
        budget=escaped(budget_chart(trial)),
        headroom=escaped(headroom_chart(trial)),
        forest=escaped(forest(trial)),
        curve=escaped(curve(trial)),
        differences=differences_to_real(trial),
        rows=rows,
        groups=present_groups(trial),
        rule=RULES[trial["grouped_by"]],
    )


def _advice(trial: Manifest) -> list[str]:
    """Return the advice as a note; nothing of a trial that gave none."""
    return [f"advice: {trial['advice']}"] if "advice" in trial else []


def budget_chart(trial: Manifest) -> str:
    """Return the AP of real data alone against its steps as SVG.

    Empty where the job gave the steps.
    """
    points = [(row["steps"], 100 * row["AP"]) for row in trial["budget"]["curve"]]
    if not points:
        return ""
    return line_chart("Real data alone, AP on validation", {"AP": points}, "steps", "")


def headroom_chart(trial: Manifest) -> str:
    """Return the headroom as SVG; empty where it was not looked at."""
    if not trial["headroom"]:
        return ""
    gains = trial["headroom"]["gains"]
    intervals = [_interval(HEADROOM[name], gain, 4) for name, gain in gains.items()]
    return forest_chart("Headroom, 95 % intervals", intervals, f"{trial['goal']} points")


def forest(trial: Manifest) -> str:
    """Return the intervals of screening as SVG; empty where there are none."""
    colors = {arm["name"]: ROLE_COLORS.get(arm["role"], 4) for arm in trial["arms"]}
    intervals = []
    for name, difference in differences_to_real(trial).items():
        intervals.append(_interval(name, difference, colors[name]))
    if not intervals:
        return ""
    title = f"Screening: {trial['goal']} against real data alone, 95 % intervals"
    return forest_chart(title, intervals, f"{trial['goal']} points")


def _interval(name: str, difference: Difference, color: int) -> Interval:
    low, mean, high = (100 * difference[key] for key in ("low", "mean", "high"))
    return Interval(name, low, mean, high, color)


def curve(trial: Manifest) -> str:
    """Return the gain against the number of synthetic images as SVG.

    Empty where it was not asked for.
    """
    if not trial["curve"]:
        return ""
    lines: dict[str, Sequence[tuple[float, float]]] = {}
    for name, key in (("gain", "mean"), ("low", "low"), ("high", "high")):
        points = [(0.0, 0.0)]
        for step in trial["curve"]:
            points.append((step["images"], 100 * step["gain"][key]))
        lines[name] = points
    return line_chart("Gain over real data, AP points", lines, "synthetic images", "")

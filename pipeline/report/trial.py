"""The trial on the report's page and as Markdown: conclusions, the arms, their differences to real data, each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.pipeline.report.charts import Interval, forest_chart, line_chart
from synthaug.pipeline.report.frame import escaped, render_section
from synthaug.pipeline.report.number_text import ap, ap_difference, p_value

GROUPS = ("frequent", "common", "rare")  # of a trial's classes, in the order of the page
ROLE_COLORS = {"control": 4, "placebo": 3, "candidate": 0}  # of an arm's interval
RULES = {
    "relative": "by labelled objects, relative to the largest class: frequent from a half on, rare below an eighth",
    "lvis": "by labelled images with the class, as in LVIS: rare up to 10, common up to 100, frequent above",
}
Difference = Mapping[str, float]
Manifest = Mapping[str, Any]  # of the step


def section(trial: Manifest) -> str:
    """Return the HTML of the section, every text escaped; empty where there was no trial."""
    if not trial.get("seeds"):
        return ""
    conclusions, notes = sentences(trial)
    return render_section(
        "trial.html.j2",
        trial=trial,
        conclusions=conclusions,
        notes=notes,
        forest=escaped(forest(trial)),
        curve=escaped(curve(trial)),
        differences=differences_to_real(trial),
        classes=class_rows(trial),
        groups=present_groups(trial),
        rule=RULES[trial["grouped_by"]],
    )


def sentences(trial: Manifest) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (word, sentence) of each candidate, that of the synthetic data first; then the trial's other lines."""
    candidates = [arm["name"] for arm in trial["arms"] if arm["role"] == "candidate"]
    first = ""
    for name in ("synthetic", "verified"):
        if name in candidates:
            first = name
    conclusions = []
    for name in sorted(candidates, key=lambda name: name != first):
        comparison = trial["comparisons"][name]
        conclusions.append((comparison["word"], comparison["sentence"]))
    shown = {sentence for _, sentence in conclusions}
    notes = [line for line in trial["says"] if line not in shown]
    return conclusions, notes


def present_groups(trial: Manifest) -> list[str]:
    """Return the groups that have a class."""
    return [name for name in GROUPS if trial["groups"][name]]


def differences_to_real(trial: Manifest) -> dict[str, Difference]:
    """Return every arm's difference to `real`, in the order of the arms."""
    known = dict(trial["controls"])
    for name, comparison in trial["comparisons"].items():
        known[name] = comparison["against_real"]
    names = [arm["name"] for arm in trial["arms"]]
    return {name: known[name] for name in names if name in known}


def forest(trial: Manifest) -> str:
    """Return the intervals as SVG, in AP points; empty where there are none."""
    colors = {arm["name"]: ROLE_COLORS.get(arm["role"], 4) for arm in trial["arms"]}
    intervals = []
    for name, difference in differences_to_real(trial).items():
        low, mean, high = (100 * difference[key] for key in ("low", "mean", "high"))
        intervals.append(Interval(name, low, mean, high, colors[name]))
    if not intervals:
        return ""
    title = "AP against real data alone, 95 % intervals"
    return forest_chart(title, intervals, "AP points")


def curve(trial: Manifest) -> str:
    """Return the budget curve as SVG; empty where there is none."""
    if not trial["curve"]:
        return ""
    lines = {}
    for name, key in (("gain", "mean"), ("low", "low"), ("high", "high")):
        points = [(0.0, 0.0)]
        for step in trial["curve"]:
            points.append((step["images"], 100 * step["gain"][key]))
        lines[name] = points
    return line_chart("Gain over real data, AP points", lines, "synthetic images", "")


def class_rows(trial: Manifest) -> list[tuple[str, Sequence[Difference | None]]]:
    """Return (class, its difference to real data per compared arm), from the frequent to the rare."""
    rows: list[tuple[str, Sequence[Difference | None]]] = []
    for group in GROUPS:
        for name in trial["groups"][group]:
            comparisons = trial["comparisons"].values()
            rows.append((name, [comparison["classes"].get(name) for comparison in comparisons]))
    return rows


def markdown(trial: Manifest) -> str:
    """Return the same as Markdown: conclusions, the arms, differences per group and per class, the budget curve."""
    conclusions, notes = sentences(trial)
    lines = [f"- {_escape_sentence(sentence)}" for _, sentence in conclusions]
    lines.append("")
    lines += [f"- {_escape_sentence(note)}" for note in notes]
    lines.append("")
    lines += _arm_table(trial)
    if trial["comparisons"]:
        lines.append("")
        lines.append(
            "Differences to real data in AP points (p after Holm's correction over classes):"
        )
        lines.append("")
        lines += _difference_table(trial)
    if trial["curve"]:
        lines.append("")
        lines += _curve_table(trial)
    lines.append("")
    lines.append(f"Groups {RULES[trial['grouped_by']]}. {_group_members(trial)}.")
    return "\n".join(lines) + "\n"


def _arm_table(trial: Manifest) -> list[str]:
    """Return a table with a row per arm."""
    groups = present_groups(trial)
    differences = differences_to_real(trial)
    head = ["arm", "AP", "AP50", *groups, "fixed AP", "against real, AP points [95 %]", "seconds"]
    rows = []
    for arm in trial["arms"]:
        name, mean = arm["name"], arm["mean"]
        difference = "–"
        if name in differences:
            difference = ap_difference(differences[name])
        row = [_escape(name), f"{ap(mean['AP'])} ± {ap(arm['sd']['AP'])}", ap(mean["AP50"])]
        row += [ap(arm["groups"][group]) for group in groups]
        row += [ap(mean["AP_fixed"]), difference, f"{arm['seconds']:.0f}"]
        rows.append(row)
    return _table(head, rows)


def _difference_table(trial: Manifest) -> list[str]:
    """Return a table of the differences to real data: a row per group and per class, a column per arm."""
    comparisons = trial["comparisons"]
    rows = []
    for group in present_groups(trial):
        cells = [_cell(comparison["groups"].get(group)) for comparison in comparisons.values()]
        rows.append([group, *cells])
    fixed = [_cell(comparison["fixed"]) for comparison in comparisons.values()]
    rows.append(["fixed AP", *fixed])
    for name, differences in class_rows(trial):
        cells = [_cell(difference) for difference in differences]
        rows.append([_escape(name), *cells])
    head = ["group or class", *(_escape(name) for name in comparisons)]
    return _table(head, rows)


def _curve_table(trial: Manifest) -> list[str]:
    """Return the budget curve as a table."""
    head = ["synthetic images", "gain over real, AP points", "over the step before"]
    rows = []
    for step in trial["curve"]:
        gain = ap_difference(step["gain"])
        rows.append([str(step["images"]), gain, _cell(step["increment"])])
    return _table(head, rows)


def _group_members(trial: Manifest) -> str:
    """Return the classes of every group in one line."""
    parts = []
    for group in present_groups(trial):
        names = [_escape(name) for name in trial["groups"][group]]
        parts.append(f"{group.capitalize()}: {', '.join(names)}")
    return "; ".join(parts)


def _cell(difference: Difference | None) -> str:
    """Return a difference with its corrected p-value, where it has one."""
    if difference is None:
        return "n/a"
    text = ap_difference(difference)
    if "p_holm" in difference:
        text += f", p {p_value(difference['p_holm'])}"
    return text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _escape(text: str, marks: str = "\\`*<>[]|") -> str:
    """Return a text that Markdown takes as text, on one line: names come from the user's files."""
    escaped_text = "".join(f"\\{c}" if c in marks else c for c in text)
    return " ".join(escaped_text.split())


def _escape_sentence(text: str) -> str:
    """Return the same of a sentence, whose intervals have brackets."""
    return _escape(text, "\\`*<>|").replace("](", "] (")

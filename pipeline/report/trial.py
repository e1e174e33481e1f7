"""The trial on the report's page and as Markdown: verdicts, the arms, their differences to real data, each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.pipeline.report.charts import Interval, forest_chart, line_chart
from synthaug.pipeline.report.frame import escaped, render_section
from synthaug.pipeline.report.number_text import ap, ap_difference, p_value

GROUPS = ("frequent", "common", "rare")  # of a trial's classes, in the order they are shown
COLOURS = {"control": 4, "placebo": 3, "candidate": 0}  # of an arm's interval, by its role
RULES = {
    "relative": "by labelled objects, relative to the largest class: frequent from a half on, rare below an eighth",
    "lvis": "by labelled images with the class, as in LVIS: rare up to 10, common up to 100, frequent above",
}
Row = Mapping[str, Any]


def section(trial: Mapping[str, Any]) -> str:
    """Return the HTML of the section, every text escaped; empty where there was no trial."""
    if not trial.get("seeds"):
        return ""
    verdicts, notes = said(trial)
    return render_section(
        "trial.html.j2",
        trial=trial,
        verdicts=verdicts,
        notes=notes,
        forest=escaped(forest(trial)),
        curve=escaped(curve(trial)),
        differences=against_real(trial),
        classes=class_rows(trial),
        groups=shown_groups(trial),
        rule=RULES[trial["grouped_by"]],
    )


def said(trial: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """(Word, sentence) of each candidate, the one that stands for the synthetic data first; then what else is to be told."""
    candidates = [arm["name"] for arm in trial["arms"] if arm["role"] == "candidate"]
    found = {name: trial["comparisons"][name] for name in candidates}
    first = next((name for name in ("verified", "synthetic") if name in found), "")
    order = sorted(found, key=lambda name: name != first)
    verdicts = [(found[name]["word"], found[name]["sentence"]) for name in order]
    told = {sentence for _, sentence in verdicts}
    return verdicts, [line for line in trial["says"] if line not in told]


def shown_groups(trial: Mapping[str, Any]) -> list[str]:
    """The groups that have a class."""
    return [name for name in GROUPS if trial["groups"][name]]


def against_real(trial: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Every arm's difference to `real`, in the order of the arms."""
    known = {
        **trial["controls"],
        **{name: found["against_real"] for name, found in trial["comparisons"].items()},
    }
    return {arm["name"]: known[arm["name"]] for arm in trial["arms"] if arm["name"] in known}


def forest(trial: Mapping[str, Any]) -> str:
    """The intervals as SVG, in AP points."""
    roles = {arm["name"]: COLOURS.get(arm["role"], 4) for arm in trial["arms"]}
    rows = [
        Interval(name, 100 * d["low"], 100 * d["mean"], 100 * d["high"], roles[name])
        for name, d in against_real(trial).items()
    ]
    return (
        forest_chart("AP against real data alone, 95 % intervals", rows, "AP points")
        if rows
        else ""
    )


def curve(trial: Mapping[str, Any]) -> str:
    """The budget curve as SVG; empty where there is none."""
    if not trial["curve"]:
        return ""
    lines = {
        name: [(0.0, 0.0), *((step["images"], 100 * step["gain"][key]) for step in trial["curve"])]
        for name, key in (("gain", "mean"), ("low", "low"), ("high", "high"))
    }
    return line_chart("Gain over real data, AP points", lines, "synthetic images", "")


def class_rows(trial: Mapping[str, Any]) -> list[tuple[str, Sequence[Mapping[str, float] | None]]]:
    """(Class, its difference to real data per judged arm), from the frequent to the rare."""
    names = [name for group in GROUPS for name in trial["groups"][group]]
    found = [comparison["classes"] for comparison in trial["comparisons"].values()]
    return [(name, [classes.get(name) for classes in found]) for name in names]


def markdown(trial: Mapping[str, Any]) -> str:
    """Return the same as Markdown: verdicts, the arms, differences per group and per class, the budget curve."""
    verdicts, notes = said(trial)
    parts = [
        *(f"- {_sentence(sentence)}" for _, sentence in verdicts),
        "",
        *(f"- {_sentence(line)}" for line in notes),
        "",
    ]
    parts += _table(*_arms(trial))
    judged = list(trial["comparisons"])
    if judged:
        rows = [
            [group, *(_cell(trial["comparisons"][name]["groups"].get(group)) for name in judged)]
            for group in shown_groups(trial)
        ]
        rows += [["fixed AP", *(_cell(trial["comparisons"][name]["fixed"]) for name in judged)]]
        rows += [[_plain(name), *map(_cell, cells)] for name, cells in class_rows(trial)]
        parts += [
            "",
            "Differences to real data in AP points (p after Holm's correction over classes):",
            "",
        ]
        parts += _table(["group or class", *map(_plain, judged)], rows)
    if trial["curve"]:
        steps = [
            [str(s["images"]), ap_difference(s["gain"]), _cell(s["increment"])]
            for s in trial["curve"]
        ]
        parts += [
            "",
            *_table(
                ["synthetic images", "gain over real, AP points", "over the step before"], steps
            ),
        ]
    parts += ["", f"Groups {RULES[trial['grouped_by']]}. {_groups(trial)}."]
    return "\n".join(parts) + "\n"


def _arms(trial: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    groups, differences = shown_groups(trial), against_real(trial)
    head = ["arm", "AP", "AP50", *groups, "fixed AP", "against real, AP points [95 %]", "seconds"]
    rows = []
    for arm in trial["arms"]:
        name, mean = arm["name"], arm["mean"]
        told = ap_difference(differences[name]) if name in differences else "–"
        numbers = [ap(mean["AP50"]), *(ap(arm["groups"][g]) for g in groups), ap(mean["AP_fixed"])]
        rows.append(
            [
                _plain(name),
                f"{ap(mean['AP'])} ± {ap(arm['sd']['AP'])}",
                *numbers,
                told,
                f"{arm['seconds']:.0f}",
            ]
        )
    return head, rows


def _groups(trial: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name.capitalize()}: {', '.join(map(_plain, trial['groups'][name]))}"
        for name in shown_groups(trial)
    )


def _cell(difference: Mapping[str, float] | None) -> str:
    if difference is None:
        return "n/a"
    return ap_difference(difference) + (
        f", p {p_value(difference['p_holm'])}" if "p_holm" in difference else ""
    )


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str, marks: str = "\\`*<>[]|") -> str:
    """Text that Markdown takes as text: names come from the user's files."""
    return " ".join("".join(f"\\{c}" if c in marks else c for c in text).split())


def _sentence(text: str) -> str:
    """The same of a sentence, whose intervals have brackets."""
    return _plain(text, "\\`*<>|").replace("](", "] (")

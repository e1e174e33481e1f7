"""The trial as Markdown: the verdict first, then what it stands on."""

from __future__ import annotations

from collections.abc import Sequence

from synthaug.pipeline.core.json_values import Manifest
from synthaug.pipeline.report.number_text import ap, ap_difference, p_value
from synthaug.pipeline.report.trial.rows import (
    RULES,
    Difference,
    Row,
    confirmation_rows,
    confirmed_against,
    differences_to_real,
    present_groups,
    screening_rows,
)


def markdown(trial: Manifest) -> str:
    """Return the same as the page: lines, then a table for each part of the trial."""
    verdict, *notes = trial["says"]
    parts = [
        [f"**{_escape_sentence(verdict)}**"],
        [f"- {_escape_sentence(note)}" for note in notes],
    ]
    parts += _confirmation(trial)
    parts += _stack(trial)
    if trial["budget"]["curve"]:
        parts += [["Budget: real data alone, one seed, on validation"], _budget_table(trial)]
    parts += [[f"Screening on {trial['images']} validation images"], _arm_table(trial, trial)]
    if trial["comparisons"]:
        head = ["group or class", *(_escape(name) for name in trial["comparisons"])]
        parts += [
            ["Differences to real data in AP points (p after Holm's correction over classes):"],
            _difference_table(head, screening_rows(trial)),
        ]
    if trial["curve"]:
        parts.append(_curve_table(trial))
    parts.append([f"Groups {RULES[trial['grouped_by']]}. {_group_members(trial)}."])
    blocks = ["\n".join(part) for part in parts if part]
    return "\n\n".join(blocks) + "\n"


def _confirmation(trial: Manifest) -> list[list[str]]:
    """Return the tables of confirmation, where there was one."""
    confirmation = trial["confirmation"]
    if not confirmation:
        return []
    title = (
        f"Confirmation: {confirmation['seeds']} fresh seeds, {confirmation['images']} images that "
        "nothing else has seen"
    )
    recipe = _escape(confirmation["recipe"])
    head = [f"{recipe}, AP points", *confirmed_against(trial)]
    table = _difference_table(head, confirmation_rows(trial))
    return [[title], _arm_table(trial, confirmation), table]


def _stack(trial: Manifest) -> list[list[str]]:
    """Return the controls by what each gained, and the thresholds that were tried."""
    if not trial["ingredients"]:
        return []
    rows = []
    for row in trial["ingredients"]:
        gained = "yes" if row["gained"] else "no"
        rows.append([_escape(row["name"]), ap_difference(row["difference"]), gained])
    head = ["control", f"over real data, {trial['goal']} points [95 %]", "gained"]
    parts = [[f"The stack to beat: {_escape(trial['stack'])}"], _table(head, rows)]
    if trial["thresholds"]:
        tried = [
            [_escape(row["arm"]), f"{row['threshold']:g}", ap(row["value"])]
            for row in trial["thresholds"]
        ]
        parts.append(_table(["repeat factors", "threshold", trial["goal"]], tried))
    return parts


def _budget_table(trial: Manifest) -> list[str]:
    """Return real data's AP at each number of steps that was tried."""
    rows = [[str(row["steps"]), ap(row["AP"])] for row in trial["budget"]["curve"]]
    return _table(["steps", "AP"], rows)


def _arm_table(trial: Manifest, stage: Manifest) -> list[str]:
    """Return a table with a row per arm of a stage."""
    groups = present_groups(trial)
    differences = differences_to_real(stage) if "controls" in stage else {}
    head = ["arm", "AP", "AP50", *groups, "fixed AP", "seconds"]
    against = f"against real, {trial['goal']} points [95 %]"
    if differences:
        head.insert(-1, against)
    rows = []
    for arm in stage["arms"]:
        name = arm["name"]
        mean = arm["mean"]
        spread = f"{ap(mean['AP'])} ± {ap(arm['sd']['AP'])}"
        row = [_escape(name), spread, ap(mean["AP50"])]
        row += [ap(arm["groups"][group]) for group in groups]
        row.append(ap(mean["AP_fixed"]))
        if name in differences:
            row.append(ap_difference(differences[name]))
        elif differences:
            row.append("–")
        rows.append([*row, f"{arm['seconds']:.0f}"])
    return _table(head, rows)


def _difference_table(head: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return a table of differences: a row per group and per class, a column per arm."""
    cells = []
    for name, differences in rows:
        cells.append([_escape(name), *(_cell(difference) for difference in differences)])
    return _table(head, cells)


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
    """Return a text that Markdown takes as text, on one line.

    Names come from the user's files.
    """
    characters = []
    for character in text:
        if character in marks:
            character = f"\\{character}"
        characters.append(character)
    escaped_text = "".join(characters)
    return " ".join(escaped_text.split())


def _escape_sentence(text: str) -> str:
    """Return the same of a sentence, whose intervals have brackets."""
    return _escape(text, "\\`*<>|").replace("](", "] (")

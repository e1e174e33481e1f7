"""The text of a job: each key with its comment, and above them what was found."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from synthaug.pipeline.config.base_yaml import COMMENT_COLUMN, WIDTH, line, yaml_value
from synthaug.pipeline.core.errors import printable
from synthaug.pipeline.scaffold.choices import Choices
from synthaug.pipeline.scaffold.given import Given, Section
from synthaug.pipeline.scaffold.measure import SplitFacts

LONGEST_NAME = 40  # characters of a class in a comment
LATE = 1.02  # times the time that is given: a run that takes longer is told
MOST_CLASSES = 60  # that are listed
GROUPS = {  # of classes, as the trial calls them -> as they are told
    "head": "Frequent things",
    "middle": "Common things",
    "tail": "Rare things",
    "unseen": "Things without an object",
}


def job_text(given: Given, choices: Choices, path: str) -> str:
    """Return the commented job file, which `path` names in its first lines."""
    lines = [*_head(given, choices, path), "", "defaults: [base, _self_]", ""]
    for section in choices.sections:
        lines += _section(section)
    return "\n".join(lines) + "\n"


def duration_text(seconds: Mapping[str, float]) -> str:
    """Return how long a run takes, part by part."""
    total = sum(seconds.values())
    parts = [f"{name} {_minutes(value)}" for name, value in seconds.items() if value >= 30]
    return f"about {_minutes(total)} minutes ({', '.join(parts)})"


def _minutes(seconds: float) -> str:
    return f"{max(seconds / 60, 1):.0f}"


def classes_text(facts: SplitFacts, classes: Sequence[int]) -> str:
    """Return classes with their numbers of objects, the most frequent first."""
    ordered = sorted(classes, key=lambda at: -facts.objects[at])
    parts = [f"{_name(facts, at)} {facts.objects[at]}" for at in ordered[:MOST_CLASSES]]
    if len(ordered) > MOST_CLASSES:
        parts.append(f"and {len(ordered) - MOST_CLASSES} more")
    return ", ".join(parts)


def _name(facts: SplitFacts, at: int) -> str:
    return printable(facts.categories[at].name)[:LONGEST_NAME]


def _head(given: Given, choices: Choices, path: str) -> Iterator[str]:
    facts = given.labelled
    file = shlex.quote(printable(path))
    yield f"# {given.name}: written by synthaug init by what the data holds; change what you like."
    yield "# Keys that are not here have the values of jobs/base.yaml, which says what each means."
    yield "#"
    yield f"#   synthaug run {file} --dry-run   check it and all data, train nothing"
    yield f"#   synthaug run {file}"
    yield f"#   synthaug trial {file}   does the synthetic data help the detector?"
    yield "#"
    yield from _comment(_duration(given, choices))
    yield from _comment(f"Labelled: {facts.told()}.")
    for group, called in GROUPS.items():
        classes = choices.groups[group]
        if classes:
            yield from _comment(f"{called}: {classes_text(facts, classes)}.")
    stuff = [at for at in range(len(facts.categories)) if at not in facts.things]
    if stuff:
        yield from _comment(f"Stuff, of which none is added: {classes_text(facts, stuff)}.")
    if 0.05 < facts.masks < 0.95:
        yield from _comment(f"{facts.masks:.0%} of the objects have masks.")
    if given.copies is None:
        yield from _comment(
            "Copies of images across the splits were not looked for, because there are so many; "
            "the run does, and stops in one line where it finds any."
        )
    if given.roles.unused:
        names = ", ".join(printable(name) for name in given.roles.unused)
        yield from _comment(f"Found and not used: {names}.")


def _duration(given: Given, choices: Choices) -> str:
    machine = str(given.machine)
    if not choices.seconds:
        return (
            f"Sizes are the full ones: this machine ({machine}) has a GPU, for which no rates were "
            "measured, so nothing is known of the duration."
        )
    parts = duration_text(choices.seconds)
    text = f"On this machine ({machine}), alone on it, {parts}, by rates measured on another."
    if sum(choices.seconds.values()) > LATE * 60 * given.minutes:
        text += f" In the {given.minutes:g} minutes asked for nothing useful would be learned."
    return text


def _comment(text: str) -> Iterator[str]:
    """Yield a text as comment lines."""
    for part in textwrap.wrap(text, WIDTH - 2, break_long_words=False):
        yield f"# {part}"


def _section(section: Section) -> Iterator[str]:
    indent = ""
    if section.name:
        yield f"{section.name}:"
        indent = "  "
    for key in section.keys:
        text = f"{indent}{key.name}: {yaml_value(key.value)}"
        why = printable(key.why)
        is_long = len(text) > COMMENT_COLUMN and len(text) + len(why) + 4 > WIDTH
        if is_long and why:
            yield from (f"{indent}{part}" for part in _comment(why))
            yield text
        else:
            yield from line(text, why)

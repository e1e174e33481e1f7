"""Metric cards: headline, comparisons, and on demand all numbers and protocol.

Nothing here knows a score by name: a new one has its card without a change of code. What is read of
a metric is its form (scores/card.py) and these habits: a control named `real...` is the ceiling,
others are floors or chance; beside a number `x` there may be `x_low` and `x_high` (an interval) or
`x_std`; `card.warnings` are sentences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report.number_text import plain

# Where every number is below, a line does not reach up to 1: differences would not be seen.
SMALL = 0.2
HIDDEN = ("confusion", "headline_key", "warnings", "warning")  # of a card: shown elsewhere

Metric = Mapping[str, Any]
Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class NumberLine:
    """A headline, its interval and its controls as positions on a line 100 long."""

    value: float
    low: float | None  # of the interval
    high: float | None
    marks: Sequence[tuple[float, bool]]  # (position, whether it is the ceiling)


@dataclass(frozen=True)
class Card:
    """The content of one metric's card."""

    name: str
    anchor: str
    headline: str
    line: NumberLine | None
    notes: Sequence[str]
    warnings: Sequence[str]
    columns: Sequence[str]  # of the table
    table: Sequence[tuple[str, Sequence[float | None]]]
    keys: Sequence[str]  # columns of the classes
    classes: Sequence[tuple[str, Sequence[float | None]]]
    protocol: Sequence[tuple[str, str]]


def cards(scores: Mapping[str, Metric]) -> list[Card]:
    """Return the card of every metric, in their order."""
    return [card(name, metric, index) for index, (name, metric) in enumerate(scores.items())]


def card(name: str, metric: Metric, index: int = 0, also: Sequence[float] = ()) -> Card:
    """Return the card of one metric; its scale holds the numbers `also` as well."""
    content = metric.get("card") or {}
    key = headline(metric)
    columns = {"value": metric.get("values") or {}, **(metric.get("controls") or {})}
    per_class = metric.get("per_class") or {}
    keys = _names(per_class.values())
    warnings = content.get("warnings", content.get("warning", ()))
    protocol = []
    for entry in content:
        if entry not in HIDDEN:
            protocol.append((entry, words(content[entry])))
    classes = []
    for label, own in per_class.items():
        classes.append((label, [own.get(key) for key in keys]))
    return Card(
        name=name,
        anchor=str(index),
        headline=plain(metric.get("value")),
        line=number_line(metric, key, also),
        notes=_notes(metric, key),
        warnings=_sentences(warnings),
        columns=list(columns),
        table=_table_rows(_names(columns.values()), columns.values()),
        keys=keys,
        classes=classes,
        protocol=protocol,
    )


def _names(columns: Any) -> list[str]:
    """Return the names of all numbers of some mappings, sorted."""
    names: set[str] = set()
    for column in columns:
        names.update(column)
    return sorted(names)


def _table_rows(names: Sequence[str], columns: Any) -> list[tuple[str, list[float | None]]]:
    """Return a row per number: its name and its value in every column."""
    return [(name, [column.get(name) for column in columns]) for name in names]


def headline(metric: Metric) -> str:
    """Return the name of a metric's headline, such as AP50; "" where it has none."""
    values = metric.get("values") or {}
    controls = metric.get("controls") or {}
    chosen = (metric.get("card") or {}).get("headline_key")
    if chosen in values:
        return str(chosen)
    own_name = metric.get("name", "")
    equal = []
    for key, value in values.items():
        if value is not None and value == metric.get("value"):
            equal.append(key)
    if not equal:
        return str(own_name) if own_name in values else ""

    def rank(key: str) -> tuple[bool, bool]:
        in_controls = any(key in numbers for numbers in controls.values())
        return key != own_name, not in_controls

    return str(min(equal, key=rank))


def is_ceiling(control: str) -> bool:
    """Return whether a control is the ceiling.

    The same measured on real images, or learnt from them.
    """
    return control.startswith("real") or "ceiling" in control


def control_values(metric: Metric, key: str) -> dict[str, float]:
    """Return the headline's value in every control that has it; chance counts as one."""
    values = {}
    for name, numbers in (metric.get("controls") or {}).items():
        values[name] = numbers.get(key)
    chance = (metric.get("values") or {}).get("chance")
    if chance not in values.values():
        values["chance"] = chance
    return {name: float(value) for name, value in values.items() if value is not None}


def interval(metric: Metric, key: str) -> tuple[float, float] | None:
    """Return the headline's interval, where it has one."""
    values = metric.get("values") or {}
    low = values.get(f"{key}_low", values.get("low"))
    high = values.get(f"{key}_high", values.get("high"))
    if low is None or high is None:
        return None
    return float(low), float(high)


def drawn_numbers(metric: Metric) -> list[float]:
    """Return all numbers that are drawn on a metric's line."""
    key = headline(metric)
    numbers = []
    if metric.get("value") is not None:
        numbers.append(float(metric["value"]))
    numbers += control_values(metric, key).values()
    numbers += interval(metric, key) or ()
    return numbers


def number_line(metric: Metric, key: str, also: Sequence[float] = ()) -> NumberLine | None:
    """Place the headline, its interval and its controls on a line.

    It begins at 0, or at the least number where some are below 0.
    """
    value = metric.get("value")
    if value is None:
        return None
    numbers = [*drawn_numbers(metric), *also]
    least = min(0.0, *numbers)
    most = max(numbers)
    end = most * 1.05
    if SMALL <= most <= 1 or most <= 0:
        end = 1.0

    def position(number: float) -> float:
        return round(100 * (number - least) / (end - least), 1)

    low = None
    high = None
    span = interval(metric, key)
    if span:
        low = position(span[0])
        high = position(span[1])
    marks = []
    for name, number in control_values(metric, key).items():
        marks.append((position(number), is_ceiling(name)))
    return NumberLine(position(float(value)), low, high, marks)


def _notes(metric: Metric, key: str) -> list[str]:
    """Return the notes on the headline: name, interval, spread and controls.

    Then the other intervals.
    """
    values = metric.get("values") or {}
    span = interval(metric, key)
    spread = values.get(f"{key}_std")
    notes = []
    if key and key != metric.get("name"):
        notes.append(key)
    if span:
        notes.append(f"interval {plain(span[0])} – {plain(span[1])}")
    if spread is not None:
        notes.append(f"± {plain(spread)} (standard deviation)")
    for name, value in control_values(metric, key).items():
        notes.append(f"{name.replace('_', ' ')} {plain(value)}")
    return notes + _other_intervals(values, key)


def _other_intervals(values: Numbers, key: str) -> list[str]:
    """Return the other numbers that have an interval.

    Parts of a number (AP_tail of AP) only for the headline.
    """
    notes = []
    for name, value in values.items():
        number = name.rpartition("_")[0]  # of which it is a part
        if name == key or (number != key and number in values):
            continue
        low = values.get(f"{name}_low")
        high = values.get(f"{name}_high")
        if value is None or low is None or high is None:
            continue
        notes.append(f"{name} {plain(value)}, interval {plain(low)} – {plain(high)}")
    return notes


def _sentences(value: Any) -> list[str]:
    """Return one sentence or several as a list."""
    if isinstance(value, str):
        return [value]
    return [words(entry) for entry in value or ()]


def words(value: Any) -> str:
    """Return an entry of a card as text."""
    if isinstance(value, str):
        return value
    if value in ([], {}):
        return "none"
    if isinstance(value, Mapping) and _is_flat(value.values()):
        return ", ".join(f"{key} {words(entry)}" for key, entry in value.items())
    if isinstance(value, list) and _is_flat(value):
        return ", ".join(words(entry) for entry in value)
    return json.dumps(value, ensure_ascii=False)


def _is_flat(entries: Any) -> bool:
    """Return whether no entry holds others."""
    return not any(isinstance(entry, (Mapping, list)) for entry in entries)

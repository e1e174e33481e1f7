"""Metric cards: any score as its headline, what it must be compared with, and on demand every number and its protocol.

Nothing here knows a score by name: a new one has its card without a change of code. What is read of a metric is its form
(scores/card.py) and these habits: a control named `real...` is the ceiling, others are floors or chance; beside a number `x`
there may be `x_low` and `x_high` (an interval) or `x_std`; `card.warnings` are sentences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report.number_text import plain

SMALL = (
    0.2  # where every number is below, a bar does not reach up to 1: differences would not be seen
)
HIDDEN = ("confusion", "headline_key", "warnings", "warning")  # of a card: shown elsewhere
Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Bar:
    """A headline with its controls as places on a line 100 long."""

    value: float
    low: float | None  # of the interval
    high: float | None
    marks: Sequence[tuple[float, bool]]  # (place, whether it is the ceiling)


@dataclass(frozen=True)
class Card:
    """All that is shown of one metric."""

    name: str
    anchor: str
    headline: str
    bar: Bar | None
    says: Sequence[str]
    warnings: Sequence[str]
    columns: Sequence[str]
    table: Sequence[tuple[str, Sequence[float | None]]]
    keys: Sequence[str]
    classes: Sequence[tuple[str, Sequence[float | None]]]
    protocol: Sequence[tuple[str, str]]


def cards(scores: Mapping[str, Mapping[str, Any]]) -> list[Card]:
    """Return the card of every metric, in their order."""
    return [card(name, metric, place) for place, (name, metric) in enumerate(scores.items())]


def card(name: str, metric: Mapping[str, Any], place: int = 0, also: Sequence[float] = ()) -> Card:
    """Return the card of one metric; the bar's scale holds the numbers `also` as well."""
    values, controls, told = (metric.get(part) or {} for part in ("values", "controls", "card"))
    key = headline(metric)
    columns = {"value": values, **controls}
    names = sorted({name for numbers in columns.values() for name in numbers})
    keys = sorted(
        {name for numbers in (metric.get("per_class") or {}).values() for name in numbers}
    )
    return Card(
        name=name,
        anchor=str(place),
        headline=plain(metric.get("value")),
        bar=bar(metric, key, also),
        says=_says(metric, key),
        warnings=_listed(told.get("warnings", told.get("warning", ()))),
        columns=list(columns),
        table=[(name, [numbers.get(name) for numbers in columns.values()]) for name in names],
        keys=keys,
        classes=[(c, [n.get(k) for k in keys]) for c, n in (metric.get("per_class") or {}).items()],
        protocol=[(name, words(value)) for name, value in told.items() if name not in HIDDEN],
    )


def headline(metric: Mapping[str, Any]) -> str:
    """Return the name of the headline among the metric's numbers, such as AP50; "" where it has none."""
    values, controls = metric.get("values") or {}, metric.get("controls") or {}
    told = (metric.get("card") or {}).get("headline_key")
    if told in values:
        return str(told)
    named = [
        key for key, value in values.items() if value is not None and value == metric.get("value")
    ]
    named.sort(
        key=lambda key: (
            key != metric.get("name"),
            not any(key in numbers for numbers in controls.values()),
        )
    )
    if named:
        return str(named[0])
    return str(metric.get("name", "")) if metric.get("name") in values else ""


def control(name: str) -> bool:
    """Whether a control is the ceiling: the same measured on, or learnt from, real images."""
    return name.startswith("real") or "ceiling" in name


def compared(metric: Mapping[str, Any], key: str) -> dict[str, float]:
    """The headline's value in every control that has it; chance counts as one."""
    found = {name: numbers.get(key) for name, numbers in (metric.get("controls") or {}).items()}
    chance = (metric.get("values") or {}).get("chance")
    found |= {} if chance in found.values() else {"chance": chance}
    return {name: float(value) for name, value in found.items() if value is not None}


def interval(metric: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """The headline's interval, where it has one."""
    values = metric.get("values") or {}
    low, high = (values.get(f"{key}_{side}", values.get(side)) for side in ("low", "high"))
    return None if low is None or high is None else (float(low), float(high))


def numbers(metric: Mapping[str, Any]) -> list[float]:
    """All that is drawn on a metric's bar."""
    key, value = headline(metric), metric.get("value")
    own = [] if value is None else [float(value)]
    return [*own, *compared(metric, key).values(), *(interval(metric, key) or ())]


def bar(metric: Mapping[str, Any], key: str, also: Sequence[float] = ()) -> Bar | None:
    """Place the headline, its interval and its controls on a line from 0, or from the least where some are below."""
    value, others, span = metric.get("value"), compared(metric, key), interval(metric, key)
    if value is None:
        return None
    drawn = [*numbers(metric), *also]
    least, most = min(0.0, *drawn), max(drawn)
    most = 1.0 if SMALL <= most <= 1 else most * 1.05 if most > 0 else 1.0

    def place(number: float) -> float:
        return round(100 * (number - least) / (most - least), 1)

    low, high = (place(span[0]), place(span[1])) if span else (None, None)
    return Bar(
        place(float(value)),
        low,
        high,
        [(place(number), control(name)) for name, number in others.items()],
    )


def _says(metric: Mapping[str, Any], key: str) -> list[str]:
    span, spread = interval(metric, key), (metric.get("values") or {}).get(f"{key}_std")
    said = [key] if key and key != metric.get("name") else []
    said += [f"interval {plain(span[0])} – {plain(span[1])}"] if span else []
    said += [f"± {plain(spread)} (standard deviation)"] if spread is not None else []
    said += [
        f"{name.replace('_', ' ')} {plain(value)}" for name, value in compared(metric, key).items()
    ]
    return said + _ranges(metric.get("values") or {}, key)


def _ranges(values: Numbers, key: str) -> list[str]:
    """The other numbers that have an interval; parts of a number (AP_tail of AP) only for the headline."""
    spans = {
        name: (value, values.get(f"{name}_low"), values.get(f"{name}_high"))
        for name, value in values.items()
    }
    whole = {name: name.rpartition("_")[0] for name in spans}
    told = [n for n in spans if n != key and (whole[n] == key or whole[n] not in values)]
    known = {name: spans[name] for name in told if None not in spans[name]}
    return [
        f"{name} {plain(value)}, interval {plain(low)} – {plain(high)}"
        for name, (value, low, high) in known.items()
    ]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [words(entry) for entry in value or ()]


def words(value: Any) -> str:
    """An entry of a card as text."""
    if isinstance(value, str):
        return value
    if value in ([], {}):
        return "none"
    if (
        isinstance(value, Mapping)
        and value
        and not any(isinstance(v, (Mapping, list)) for v in value.values())
    ):
        return ", ".join(f"{key} {words(entry)}" for key, entry in value.items())
    if isinstance(value, list) and not any(isinstance(v, (Mapping, list)) for v in value):
        return ", ".join(words(entry) for entry in value)
    return json.dumps(value, ensure_ascii=False)

"""A metric in one line.

Its headline, the interval, and the controls to compare it with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary_cells(metric: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Return a metric as cells of a table.

    Its name, the key of its headline, the number, its interval, and the controls.
    """
    key = metric["card"].get("headline_key", "")
    controls = []
    for name, numbers in metric["controls"].items():
        if numbers.get(key) is not None:
            controls.append(f"{name} {_number(numbers[key])}")
    values = metric["values"]
    low = values.get(f"{key}_low")
    high = values.get(f"{key}_high")
    interval = ""
    if low is not None and high is not None:
        interval = f"[{_number(low)}, {_number(high)}]"
    value = _number(metric["value"])
    return metric["name"], key, value, interval, ", ".join(controls)


def summary(metric: Mapping[str, Any]) -> str:
    """Return a metric's headline and its controls in one line."""
    name, key, value, interval, controls = summary_cells(metric)
    parts = [f"{name}:", key, value, interval]
    line = " ".join(part for part in parts if part)
    if controls:
        line = f"{line} ({controls})"
    return line


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    if abs(value) >= 10:
        return f"{value:.4g}"
    return f"{value:.3f}"

"""Numbers as the text of pages, tables and terminals.

Every function is a filter of the templates too.
"""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "n/a"


def num(value: float | None) -> str:
    """Return a share or a score with three decimals, n/a where there is none."""
    if value is None:
        return UNKNOWN
    return f"{value:.3f}"


def count(value: float | None) -> str:
    """Return a number of things, grouped by thousands."""
    if value is None:
        return UNKNOWN
    return f"{round(value):,}"


def plain(value: float | None) -> str:
    """Return any number with the digits that tell it from its neighbours."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if value.is_integer() and size >= 10:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:,.1f}"
    if size >= 0.01 or size == 0:
        return f"{value:.3f}"
    return f"{value:.2g}"


def percent(value: float | None) -> str:
    """Return a share in percent, with one decimal where it is small."""
    if value is None:
        return UNKNOWN
    if value < 0.1:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.0f} %"


def share(part: float | None, total: float | None = 1) -> str:
    """Return a part of a total in full percent.

    n/a where one of them is unknown or the total 0.
    """
    if part is None or not total:
        return UNKNOWN
    return f"{100 * part / total:.0f} %"


def ap(value: float | None) -> str:
    """Return an average precision in points (hundredths)."""
    if value is None:
        return UNKNOWN
    return f"{100 * value:.1f}"


def ap_difference(difference: Mapping[str, float]) -> str:
    """Return a difference (`mean`, `low`, `high`) with its interval, in AP points."""
    mean, low, high = (100 * difference[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def p_value(p: float) -> str:
    """Return a p-value with three digits."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}"

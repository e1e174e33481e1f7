"""The verification on the report's page: what stands, what does not, and how often the judge itself is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.report.frame import render_section
from synthaug.pipeline.verification.verdicts import EXTRA, FAILED, KEPT

NAMES = {
    "kept": "found where it should be",
    "missing": "not found at all",
    "swapped": "another class is there",
    "misplaced": "found, but not where its box is",
    "duplicate": "what is there is another object's",
    "doubtful": "perhaps there",
    "too_small": "too small",
    "extra": "found without a label",
}


@dataclass(frozen=True)
class ClassYield:
    """What became of the synthetic objects of one class."""

    name: str
    made: int
    verdicts: Sequence[int]  # kept, then in the order of FAILED
    not_judged: int
    extra: int
    left: int  # labels in the data
    rejects: float | None  # share of true validation objects that the judge does not pass
    bar: Mapping[str, Any]


def section(told: Mapping[str, Any]) -> str:
    """Return the HTML of the section from the step's manifest, every text escaped; empty where nothing was verified."""
    if not told.get("enabled"):
        return ""
    rows = class_rows(told)
    return render_section(
        "verify.html.j2",
        told=told,
        rows=rows,
        made=sum(row.made for row in rows),
        failed=[
            (name, NAMES[name], sum(told[name].values()), told["policy"][name]) for name in FAILED
        ],
        total={key: sum(told[key].values()) for key in (KEPT, EXTRA, "not_judged", "objects")},
        faults=[
            (NAMES[name], n, name == EXTRA)
            for name, n in _in_order(told["errors"]["planted"])
            if n["planted"]
        ],
        heads=[NAMES[name] for name in FAILED],
    )


def class_rows(told: Mapping[str, Any]) -> list[ClassYield]:
    """Classes with synthetic objects, those that lost the largest share of them first."""
    rows = []
    for name, bar in told["bars"].items():
        verdicts = [told[key].get(name, 0) for key in (KEPT, *FAILED)]
        unknown, extra, left = (told[key].get(name, 0) for key in ("not_judged", EXTRA, "objects"))
        made = sum(verdicts) + unknown
        true = told["errors"]["true"].get(name, {})
        seen = sum(true.values())
        rejects = 1 - true[KEPT] / seen if seen else None
        if made or extra:
            rows.append(ClassYield(name, made, verdicts, unknown, extra, left, rejects, bar))
    return sorted(rows, key=lambda row: row.left / row.made if row.made else 1.0)


def _in_order(planted: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    return [(name, planted[name]) for name in (*FAILED, EXTRA) if name in planted]

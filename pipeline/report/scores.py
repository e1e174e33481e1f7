"""The scores on the report: tables per class and per group, and every metric with how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from synthaug.pipeline.report.tables import GROUPS, ClassRow, Numbers, Run

CONFUSED = 24  # classes up to which the confusion matrix is shown


def dap_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    """The measured classes with their numbers on synthetic and (`real_...`) on real images."""
    return _measured(run, "dap", rows)


def cas_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    """The classes the classifier knows, with its accuracy."""
    return _measured(run, "cas", rows)


def _measured(run: Run, score: str, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    per_class = (run.score(score) or {}).get("per_class", {})
    return [(row, per_class[row.name]) for row in rows if row.name in per_class]


def group_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, int, Sequence[Numbers]]]:
    """(Group, its classes, AP and AP50 on [synthetic, real, shuffled]) over all things and per frequency group."""
    dap = run.score("dap")
    if dap is None:
        return []
    sources = [dap["values"], dap["controls"].get("real", {}), dap["controls"].get("shuffled", {})]
    table: list[tuple[str, int, Sequence[Numbers]]] = []
    for group in ("", *GROUPS):
        suffix = f"_{group}" if group else ""
        numbers = [
            {key: source.get(f"{key}{suffix}") for key in ("AP", "AP50")} for source in sources
        ]
        size = sum(1 for row in rows if row.isthing and group in ("", row.group))
        table.append((group or "all things", size, numbers))
    return table


def cas_groups(
    run: Run, rows: Sequence[ClassRow]
) -> list[tuple[str, int, float | None, float | None]]:
    """(Group, classes with test crops, mean accuracy learnt from synthetic, from real crops)."""
    known = [
        (row, numbers)
        for row, numbers in cas_rows(run, rows)
        if numbers.get("accuracy") is not None
    ]
    table = []
    for group in ("", *GROUPS):
        members = [numbers for row, numbers in known if group in ("", row.group)]
        made, real = (
            _mean([numbers.get(key) for numbers in members])
            for key in ("accuracy", "real_accuracy")
        )
        table.append((group or "all", len(members), made, real))
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def confusion(run: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    """(True class, [(crops, share of them) per answer]) of CAS, for sets with few classes."""
    cas = run.score("cas") or {}
    matrix = cas.get("card", {}).get("confusion", [])
    # The matrix is in the order of the classes; the keys of a manifest have been sorted.
    names = [
        c["name"]
        for c in run.manifests["ingest"]["classes"]
        if c["name"] in cas.get("per_class", {})
    ]
    if len(matrix) > CONFUSED:
        return []
    pairs = zip(names, matrix, strict=True)
    return [
        (name, [(n, round(n / sum(row), 2) if sum(row) else 0.0) for n in row])
        for name, row in pairs
    ]

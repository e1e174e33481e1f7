"""The scores on the report: tables per class and group, CAS's confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

from synthaug.pipeline.report.tables import GROUPS, ClassRow, Numbers, Run

MOST_CONFUSED = 24  # classes up to which the confusion matrix is shown


def dap_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    """Return the measured classes with their numbers on synthetic and real images.

    Those on real images are named `real_...`.
    """
    return _measured(run, "dap", rows)


def cas_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    """Return the classes the classifier knows, with its accuracy."""
    return _measured(run, "cas", rows)


def _measured(run: Run, score: str, rows: Sequence[ClassRow]) -> list[tuple[ClassRow, Numbers]]:
    metric = run.score(score) or {}
    per_class = metric.get("per_class", {})
    return [(row, per_class[row.name]) for row in rows if row.name in per_class]


def group_rows(run: Run, rows: Sequence[ClassRow]) -> list[tuple[str, int, Sequence[Numbers]]]:
    """Return (group, number of classes, AP, AP50) of all things, then per group.

    AP and AP50 each on [synthetic, real, shuffled].
    """
    dap = run.score("dap")
    if dap is None:
        return []
    controls = dap["controls"]
    sources = [dap["values"], controls.get("real", {}), controls.get("shuffled", {})]
    things = [row for row in rows if row.isthing]
    table: list[tuple[str, int, Sequence[Numbers]]] = []
    for group in ("all things", *GROUPS):
        members = things
        suffix = ""
        if group in GROUPS:
            members = [row for row in things if row.group == group]
            suffix = f"_{group}"
        numbers = []
        for source in sources:
            ap = source.get(f"AP{suffix}")
            ap50 = source.get(f"AP50{suffix}")
            numbers.append({"AP": ap, "AP50": ap50})
        table.append((group, len(members), numbers))
    return table


def cas_groups(
    run: Run, rows: Sequence[ClassRow]
) -> list[tuple[str, int, float | None, float | None]]:
    """Return (group, classes with test crops, two mean accuracies).

    Learnt from synthetic and from real crops.
    """
    known = []
    for row, numbers in cas_rows(run, rows):
        if numbers.get("accuracy") is not None:
            known.append((row.group, numbers))
    table = []
    for group in ("all", *GROUPS):
        members = [numbers for own, numbers in known if group in ("all", own)]
        synthetic = _mean([numbers.get("accuracy") for numbers in members])
        real = _mean([numbers.get("real_accuracy") for numbers in members])
        table.append((group, len(members), synthetic, real))
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the known values, None without any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return sum(known) / len(known)


def confusion(run: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return (true class, [(crops, share of them) per answer]) of CAS.

    For sets with few classes.
    """
    cas = run.score("cas") or {}
    matrix = cas.get("card", {}).get("confusion", [])
    if len(matrix) > MOST_CONFUSED:
        return []
    # The matrix is in the order of the classes; the keys of a manifest have been sorted.
    classes = [category["name"] for category in run.manifests["ingest"]["classes"]]
    names = [name for name in classes if name in cas.get("per_class", {})]
    table = []
    for name, crops in zip(names, matrix, strict=True):
        total = sum(crops) or 1
        cells = [(number, round(number / total, 2)) for number in crops]
        table.append((name, cells))
    return table

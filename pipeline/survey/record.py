"""A survey as plain data: the JSON file, and what page and lines are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from synthaug.pipeline.core.errors import printable
from synthaug.pipeline.core.json_values import Json
from synthaug.pipeline.survey.findings import ERROR, WARNING, Finding
from synthaug.pipeline.survey.tally import Tally, mean, quantile

VERSION = 1  # raised when what stands in the record changes
SHARES = {"p05": 0.05, "median": 0.5, "p95": 0.95}


def record(tallies: Sequence[Tally], found: Sequence[Finding]) -> Json:
    """Return the survey of data sets as JSON values."""
    return {
        "version": VERSION,
        "state": state(found),
        "sets": [_set(tally) for tally in tallies],
        "findings": [_finding(finding) for finding in found],
    }


def _finding(finding: Finding) -> Json:
    names = [printable(name) for name in finding.names]
    summary = {"what": printable(finding.what), "data": printable(finding.data), "names": names}
    return asdict(finding) | summary


def state(found: Sequence[Finding]) -> str:
    """Return the worst level among findings; "in order" without an error or a warning."""
    levels = {finding.level for finding in found}
    for level in (ERROR, WARNING):
        if level in levels:
            return level
    return "in order"


def _set(tally: Tally) -> Json:
    side, name = tally.smallest
    sizes = []
    for (height, width), count in tally.sizes.most_common():
        sizes.append({"width": width, "height": height, "images": count})
    smallest = None
    if name:
        smallest = {"side": side, "what": printable(name)}
    return {
        "data": printable(tally.reference),
        "images": tally.images,
        "bytes": tally.num_bytes,
        "labelled": tally.table.has_labels,
        "sizes": sizes,
        "files": dict(tally.kinds.most_common()),
        "objects": tally.num_objects,
        "crowds": tally.crowds,
        "masks": tally.masks,
        "objects_per_image": _distribution(tally.per_image),
        "shorter_sides": _distribution(tally.sides),
        "smallest": smallest,
        "classes": _classes(tally),
    }


def _distribution(counts: Any) -> dict[str, float] | None:
    """Return where counted values lie, None without any."""
    if not counts:
        return None
    summary: dict[str, float] = {"least": min(counts), "most": max(counts), "mean": mean(counts)}
    for key, share in SHARES.items():
        summary[key] = quantile(counts, share)
    return summary


def _classes(tally: Tally) -> list[Json]:
    """Return the classes with their counts, the most frequent first."""
    rows: list[Json] = []
    for at, category in enumerate(tally.table.categories):
        rows.append(
            {
                "id": category.id,
                "name": category.name,
                "thing": category.isthing,
                "objects": tally.objects[at],
                "images": tally.images_of[at],
            }
        )
    rows.sort(key=lambda row: -row["objects"])
    return rows

"""Verification on the report's page.

Verdicts per class, and how often the verifying detector itself is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.json_values import Manifest
from synthaug.pipeline.report.frame import render_section
from synthaug.pipeline.report.number_text import share
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
    """The verdicts on the synthetic objects of one class, and the labels left."""

    name: str
    synthesized: int
    verdicts: Sequence[int]  # kept, then in the order of FAILED
    not_judged: int
    extra: int
    left: int  # labels in the data
    rejects: float | None  # share of true validation objects that are rejected
    thresholds: Mapping[str, Any]

    @property
    def judged(self) -> bool:
        """Whether its objects have verdicts."""
        return not self.not_judged

    @property
    def share_left(self) -> float:
        """The share of the synthetic objects whose labels are left."""
        return self.left / self.synthesized if self.synthesized else 1.0

    @property
    def yields(self) -> str:
        """That share as text; what nobody judged has none."""
        return share(self.left, self.synthesized) if self.judged else "–"


def section(manifest: Manifest) -> str:
    """Return the section from the step's manifest; empty where nothing was verified.

    HTML, every text escaped.
    """
    if not manifest.get("enabled"):
        return ""
    rows = class_rows(manifest)
    failed = []
    for verdict in FAILED:
        action = manifest["policy"][verdict]
        failed.append((NAMES[verdict], sum(manifest[verdict].values()), action))
    totals = {}
    for key in (KEPT, EXTRA, "not_judged", "objects"):
        totals[key] = sum(manifest[key].values())
    return render_section(
        "verify.html.j2",
        manifest=manifest,
        rows=rows,
        synthesized=sum(row.synthesized for row in rows),
        failed=failed,
        totals=totals,
        injected=injected_rows(manifest),
        unjudged=unjudged_classes(manifest),
        tail=tail_rows(manifest),
        heads=[NAMES[verdict] for verdict in FAILED],
    )


def class_rows(manifest: Manifest) -> list[ClassYield]:
    """Return the classes with synthetic objects.

    Those that lost the largest share of them first.
    """
    rows = []
    for name, thresholds in manifest["bars"].items():
        verdicts = [manifest[verdict].get(name, 0) for verdict in (KEPT, *FAILED)]
        not_judged = manifest["not_judged"].get(name, 0)
        extra = manifest[EXTRA].get(name, 0)
        synthesized = sum(verdicts) + not_judged
        if not synthesized and not extra:
            continue
        rows.append(
            ClassYield(
                name=name,
                synthesized=synthesized,
                verdicts=verdicts,
                not_judged=not_judged,
                extra=extra,
                left=manifest["objects"].get(name, 0),
                rejects=rejected_share(manifest["errors"]["true"].get(name, {})),
                thresholds=thresholds,
            )
        )
    return sorted(rows, key=lambda row: (not row.judged, row.share_left))


def unjudged_classes(manifest: Manifest) -> list[str]:
    """Return the thing classes with synthetic objects that nobody judges."""
    things = manifest.get("things", ())
    return [name for name in things if manifest["not_judged"].get(name)]


@dataclass(frozen=True)
class TailRow:
    """One judge that was tried on a class which the detector finds too rarely."""

    name: str
    judge: str
    used: bool
    evidence: Mapping[str, int]  # true, accepted_true, false, accepted_false


def tail_rows(manifest: Manifest) -> list[TailRow]:
    """Return every judge that was tried, class by class."""
    rows = []
    for name, tail in manifest.get("tail", {}).items():
        for judge, evidence in tail["tried"].items():
            rows.append(TailRow(name, judge, judge == tail["judge"], evidence))
    return rows


def rejected_share(verdicts: Mapping[str, int]) -> float | None:
    """Return the share of true objects that were not kept; None without any."""
    total = sum(verdicts.values())
    if not total:
        return None
    return 1 - verdicts[KEPT] / total


def injected_rows(manifest: Manifest) -> list[tuple[str, Mapping[str, int], bool]]:
    """Return (name, counts, whether a label was taken) of each kind of injected error."""
    errors = manifest["errors"]["planted"]
    rows = []
    for kind in (*FAILED, EXTRA):
        if kind in errors and errors[kind]["planted"]:
            rows.append((NAMES[kind], errors[kind], kind == EXTRA))
    return rows

"""The part of the report on pseudo-labels: what was kept and why, how far to trust it, and the two ends to look at."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.report.charts import line_chart
from synthaug.pipeline.report.frame import escaped
from synthaug.pipeline.report.pictures import Picture

SHEET = 12  # labels shown at either end of certainty
BASES = {
    "class": "its own objects",
    "pooled": "all classes: too few of its own",
    "fixed": "fixed",
    "unreached": "precision not reached: none kept",
}
RULES = {
    "fixed": "one threshold for all",
    "precision": "precision per class",
    "f1": "highest F1 per class",
}
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """One bin of a histogram of scores; the frame is 1 wide and 1 high."""

    x: float
    height: float
    kept: bool


@dataclass(frozen=True)
class PseudoRow:
    """One class: what was found and kept, from which score on, and how right that is."""

    found: int
    kept: int
    least: float | None
    basis: str
    truths: int  # in validation
    held_out: Numbers  # precision, recall, f1 of validation images the threshold was not learnt on
    truth: Numbers  # the same of the unlabelled images themselves, where their truth is known
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Labelled:
    """One kept label to look at."""

    picture: Picture
    name: str
    score: float
    image_id: str


@dataclass(frozen=True)
class Sheets:
    """The most and the least certain of the kept labels."""

    most: Sequence[Labelled] = ()
    least: Sequence[Labelled] = ()


@dataclass(frozen=True)
class Candidate:
    """Where a kept label is."""

    score: float
    scene: int
    place: int
    category: int


def class_row(
    name: str, pseudo: Mapping[str, Any], learnt: Mapping[str, Any], rule: str
) -> PseudoRow:
    """Return what the manifests of `pseudo_label` and `calibrate` say of one class."""
    threshold = pseudo.get("thresholds", {}).get(name, {})
    held = (learnt.get("held_out") or {}).get("rules", {}).get(rule, {}).get("classes", {})
    return PseudoRow(
        pseudo.get("found", {}).get(name, 0),
        pseudo["objects"].get(name, 0),
        threshold.get("least"),
        BASES.get(threshold.get("basis", ""), ""),
        learnt["classes"].get(name, {}).get("truths", 0),
        held.get(name, {}),
        (pseudo.get("quality") or {}).get("classes", {}).get(name, {}),
        histogram(pseudo.get("bins", {}).get(name, ()), threshold.get("least")),
    )


def histogram(counts: Sequence[int], least: float | None) -> list[Bar]:
    """Draw counts per bin of equal width; heights are square roots, or the many unsure detections hide the others."""
    most = max([*counts, 1])
    width = 1 / len(counts) if counts else 1.0
    return [
        Bar(
            round(k * width, 4),
            round((n / most) ** 0.5, 4),
            least is not None and (k + 1) * width > least,
        )
        for k, n in enumerate(counts)
    ]


def trust(learnt: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """Return what the template says of thresholds and probabilities on held-out validation images."""
    return {
        "images": learnt.get("images", 0),
        "held_out": learnt.get("held_out"),
        "rules": rule_rows(learnt, rule),
        "reliability": escaped(reliability(learnt)),
    }


def rule_rows(
    learnt: Mapping[str, Any], used: str
) -> list[tuple[str, bool, Numbers, float | None]]:
    """(Rule, whether it was used, its numbers on held-out validation images, mean F1 over classes)."""
    rules = (learnt.get("held_out") or {}).get("rules", {})
    return [
        (RULES[name], name == used, rules[name]["all"], rules[name]["macro_f1"])
        for name in RULES
        if name in rules
    ]


def reliability(learnt: Mapping[str, Any]) -> str:
    """Draw, as SVG, how often detections of a score are right, as scored and calibrated; "" where nothing was held out."""
    held = learnt.get("held_out")
    if not held or not held["raw"]["bins"]:
        return ""
    series = {
        name: [(said, true) for said, true, _ in held[key]["bins"]]
        for name, key in (("as scored", "raw"), ("calibrated", "calibrated"))
    }
    return line_chart(
        "Reliability", {**series, "ideal": [(0, 0), (1, 1)]}, "score", "share that is right"
    )


def ends(table: Dataset, most: int = SHEET) -> tuple[list[Candidate], list[Candidate]]:
    """Choose the most and the least certain labels of a table: of each class the first, then the second of each ...

    Stuff is looked at only where there are no things. One pass; memory holds a few labels per class.
    """
    high: dict[int, list[tuple[float, int, int]]] = {}
    low: dict[int, list[tuple[float, int, int]]] = {}
    for scene in range(len(table)):
        objects = table[scene].objects
        for place, (category, score) in enumerate(
            zip(objects.category.tolist(), objects.score.tolist(), strict=True)
        ):
            for heaps, sign in ((high, 1), (low, -1)):
                heap = heaps.setdefault(category, [])
                (heapq.heappush if len(heap) < most else heapq.heappushpop)(
                    heap, (sign * score, -scene, -place)
                )
    shown = {c for c in high if table.categories[c].isthing} or set(high)
    chosen = []
    for heaps, sign in ((high, 1), (low, -1)):
        ranked = [
            (rank, -key, category, Candidate(sign * key, -scene, -place, category))
            for category in sorted(shown)
            for rank, (key, scene, place) in enumerate(sorted(heaps[category], reverse=True))
        ]
        chosen.append(
            [candidate for *_, candidate in sorted(ranked, key=lambda entry: entry[:3])[:most]]
        )
    return chosen[0], chosen[1]

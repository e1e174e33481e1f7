"""Pseudo-labels on the report: those kept and why, and how often they are right.

With examples of both ends.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.report.charts import line_chart
from synthaug.pipeline.report.frame import escaped
from synthaug.pipeline.report.pictures import Picture

EXAMPLES = 12  # labels shown at either end of certainty
BASES = {
    "class": "its own objects",
    "pooled": "all classes: too few of its own",
    "fixed": "fixed",
    "unreached": "precision not reached: none kept",
    "unshown": "not shown to be right: none kept",
}
RULES = {
    "fixed": "one threshold for all",
    "precision": "precision per class",
    "f1": "highest F1 per class",
}
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Bin:
    """One bin of a histogram of scores; the frame is 1 wide and 1 high."""

    x: float
    height: float
    kept: bool


@dataclass(frozen=True)
class PseudoClass:
    """The pseudo-labels of one class.

    Detected, kept, from which score on, and how right that is.
    """

    found: int
    kept: int
    least: float | None
    basis: str
    truths: int  # in validation
    held_out: Numbers  # precision, recall, f1 of validation images the threshold was not learnt on
    truth: Numbers  # the same of the unlabelled images themselves, where their truth is known
    bins: Sequence[Bin]

    @property
    def is_empty(self) -> bool:
        """Whether the class has neither detections nor true objects anywhere."""
        return not (self.found or self.kept or self.truths or self.truth.get("truth"))


@dataclass(frozen=True)
class Labelled:
    """One kept label as a picture."""

    picture: Picture
    name: str
    score: float
    image_id: str


@dataclass(frozen=True)
class Examples:
    """The most and the least certain of the kept labels."""

    most: Sequence[Labelled] = ()
    least: Sequence[Labelled] = ()


@dataclass(frozen=True)
class Candidate:
    """A kept label by its position in the table."""

    score: float
    scene: int
    number: int  # of the object in its scene
    category: int


def class_row(name: str, pseudo: Manifest, calibration: Manifest, rule: str) -> PseudoClass:
    """Return the numbers of one class.

    From the manifests of `pseudo_label` and `calibrate`.
    """
    threshold = pseudo.get("thresholds", {}).get(name, {})
    least = threshold.get("least")
    held_out = calibration.get("held_out") or {}
    of_rule = held_out.get("rules", {}).get(rule, {}).get("classes", {})
    quality = pseudo.get("quality") or {}
    return PseudoClass(
        found=pseudo.get("found", {}).get(name, 0),
        kept=pseudo["objects"].get(name, 0),
        least=least,
        basis=BASES.get(threshold.get("basis", ""), ""),
        truths=calibration["classes"].get(name, {}).get("truths", 0),
        held_out=of_rule.get(name, {}),
        truth=quality.get("classes", {}).get(name, {}),
        bins=histogram(pseudo.get("bins", {}).get(name, ()), least),
    )


def histogram(counts: Sequence[int], least: float | None) -> list[Bin]:
    """Draw counts per bin of equal width.

    Heights are square roots, or the many unsure detections hide the others.
    """
    most = max([*counts, 1])
    bins = []
    for index, count in enumerate(counts):
        width = 1 / len(counts)
        height = (count / most) ** 0.5
        kept = least is not None and (index + 1) * width > least
        bins.append(Bin(round(index * width, 4), round(height, 4), kept))
    return bins


def held_out_quality(calibration: Manifest, rule: str) -> Json:
    """Return the quality of thresholds and probabilities on held-out images.

    Held out of the validation images; for the template.
    """
    return {
        "images": calibration.get("images", 0),
        "held_out": calibration.get("held_out"),
        "rules": rule_rows(calibration, rule),
        "reliability": escaped(reliability(calibration)),
    }


def rule_rows(calibration: Manifest, used: str) -> list[tuple[str, bool, Numbers, float | None]]:
    """Return (rule, whether it was used, its held-out numbers, mean F1 over classes)."""
    rules = (calibration.get("held_out") or {}).get("rules", {})
    rows = []
    for name, title in RULES.items():
        if name in rules:
            rows.append((title, name == used, rules[name]["all"], rules[name]["macro_f1"]))
    return rows


def reliability(calibration: Manifest) -> str:
    """Draw how often detections of a score are right, as scored and calibrated.

    As SVG; "" where nothing was held out.
    """
    held_out = calibration.get("held_out")
    if not held_out or not held_out["raw"]["bins"]:
        return ""
    series: dict[str, list[tuple[float, float]]] = {}
    for name, key in (("as scored", "raw"), ("calibrated", "calibrated")):
        series[name] = [(score, right) for score, right, _ in held_out[key]["bins"]]
    series["ideal"] = [(0, 0), (1, 1)]
    return line_chart("Reliability", series, "score", "share that is right")


Heap = list[tuple[float, int, int]]  # (rank, -scene, -number) of labels, the worst first


def ends(table: Dataset, most: int = EXAMPLES) -> tuple[list[Candidate], list[Candidate]]:
    """Choose the most and the least certain labels of a table.

    Of each class the first, then the second of each ... Stuff is chosen only where there are no
    things. One pass; memory holds a few labels per class.
    """
    highest: dict[int, Heap] = {}
    lowest: dict[int, Heap] = {}
    for scene_index, scene in enumerate(table):
        scores = scene.objects.score.tolist()
        for number in np.flatnonzero(~scene.objects.iscrowd).tolist():
            category = int(scene.objects.category[number])
            score = scores[number]
            position = (-scene_index, -number)
            _push(highest.setdefault(category, []), (score, *position), most)
            _push(lowest.setdefault(category, []), (-score, *position), most)
    classes = {label for label in highest if table.categories[label].isthing} or set(highest)
    return _in_turns(highest, classes, most, 1), _in_turns(lowest, classes, most, -1)


def _push(heap: Heap, entry: tuple[float, int, int], most: int) -> None:
    """Add an entry to a heap that holds the `most` best."""
    if len(heap) < most:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _in_turns(
    heaps: Mapping[int, Heap], classes: set[int], most: int, sign: int
) -> list[Candidate]:
    """Return the best of each class, then the second of each, and so on.

    Those of a turn by their scores.
    """
    ranked = []
    for category in sorted(classes):
        for turn, entry in enumerate(sorted(heaps[category], reverse=True)):
            key, scene, number = entry
            candidate = Candidate(sign * key, -scene, -number, category)
            ranked.append((turn, -key, category, candidate))
    ranked.sort(key=lambda row: row[:3])
    return [candidate for *_, candidate in ranked[:most]]

"""Calibration, thresholds by every rule, and the pseudo-labels that come of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import Matches, Rule
from synthaug.pipeline.formats.parquet import read as parquet
from tests.golden.recorded import Row, hold
from tests.golden.scenes import described
from tests.golden.test_verification import rows
from tests.imperfect_detector import TOY_THINGS
from tests.pipeline.steps.test_pseudo_label import contexts

RULES = [
    *(Rule("fixed", 0.6), Rule("f1", min_truths=12)),
    *(Rule("precision", precision=0.8, min_truths=12), Rule("precision", precision=0.97)),
]
JOBS = {
    "usual": (),
    "any_worth": ("pseudo_label.min_precision=0", "pseudo_label.calibrate=false"),
    "precise": ("pseudo_label.rule=precision", "pseudo_label.precision=0.6"),
    "fixed": ("pseudo_label.rule=fixed", "pseudo_label.threshold=0.4"),
}


def matches() -> Matches:
    return calibration.match(rows(), len(TOY_THINGS))


def test_curves_and_thresholds_are_what_they_were() -> None:
    found = matches()
    fitted = calibration.fit(found)
    told: dict[str, Row] = {"pooled": asdict(fitted.pooled)}
    for label, curve in enumerate(fitted.classes):
        told[f"class {label}: curve"] = asdict(curve)
    for number, rule in enumerate(RULES):
        chosen = calibration.choose(found, fitted, rule)
        told[f"rule {number}: {rule.name}"] = [[own.score, own.basis] for own in chosen]
        told[f"rule {number}: counts"] = calibration.count(found, chosen)
    told["reliability"] = calibration.reliability(found.score, found.right)
    hold("labels_calibration", told)


def test_held_out_counts_are_what_they_were() -> None:
    found = matches()
    held_out = calibration.cross_validate(found, RULES[:3], 4, seed=3)
    assert held_out is not None
    told: dict[str, Row] = dict(held_out.counts)
    told["ratios"] = calibration.ratios(np.sum(list(held_out.counts.values()), axis=(0, 1)))
    told["probability"] = held_out.probability[:20]
    hold("labels_held_out", told)


@pytest.mark.parametrize("name", JOBS)
def test_pseudo_labels_are_what_they_were(name: str, tmp_path: Path) -> None:
    done = contexts(tmp_path, *JOBS[name])
    labelled = done["pseudo_label"]
    table = parquet.open_table(labelled.folder)
    told: dict[str, Row] = {}
    for key in ("objects", "ignored", "unlabelled_classes", "quality", "held_out"):
        told[key] = labelled.manifest.get(key)
    for number in range(6):
        told[f"scene {number}"] = described(table[number], table, pixels=False)
    calibrated = done["calibrate"].manifest
    if name == "usual":
        told["calibrated"] = calibrated["held_out"]
        told["pooled"] = calibrated["pooled"]
    hold(f"labels_pseudo_{name}", told)

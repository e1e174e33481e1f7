"""Calibrate the detector's scores, and choose the threshold of each class.

Both on the validation images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.json_values import Json, Manifest
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import (
    Calibration,
    Curve,
    HeldOut,
    Matches,
    Rule,
    Threshold,
)
from synthaug.pipeline.detection.inference import detect_shards, load_labeller
from synthaug.pipeline.detection.store import read_rows
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.steps.contract import Published
from synthaug.pipeline.steps.self_train import WEIGHTS

NEEDS = ("ingest", "self_train")
VERSION = 2
DETECTIONS = "detections"  # folder of what is matched
RESULT = "calibration.json"
PUBLISHES = (Published(RESULT, "pseudo"),)
LATER = (
    "rule",
    "calibrate",
    "min_precision",
)  # keys of pseudo_label that only choose among the results


@dataclass(frozen=True)
class Spec:
    """Folder, settings and classes for the fitting task, as plain data."""

    job: Job
    folder: str
    classes: tuple[str, ...]


def settings(job: Job) -> Json:
    """Return the test-time augmentation and the numbers of the rules.

    And whether anything will be labelled.
    """
    section = section_dict(job, "pseudo_label")
    kept = {}
    for key, value in section.items():
        if key not in LATER:
            kept[key] = value
    return {"pseudo_label": kept, "unlabelled": bool(job.data.unlabelled), "seed": job.seed}


def metrics(manifest: Manifest) -> Json:
    """Return the number of images, and the numbers of held-out ones.

    None without unlabelled images.
    """
    keys = ("images", "held_out")
    return {"calibration": {key: manifest.get(key) for key in keys}}


def labeller_weights(context: Context) -> Folder:
    """Return the folder of the detector that labels.

    Nowhere else is said which step's detector it is.
    """
    return context.inputs["self_train"].folder


def run(context: Context) -> Json:
    """Write `calibration.json`: curves, thresholds by every rule, held-out numbers."""
    job = context.job
    ingest = context.inputs["ingest"]
    if not job.data.unlabelled:
        context.tell("  no unlabelled images")
        return {"classes": {}}
    weights = labeller_weights(context)
    validation = ingest.folder.sub("validation")
    detect_shards(
        context,
        partial(parquet.open_table, validation),
        partial(load_labeller, job, weights, WEIGHTS),
        ingest.manifest["splits"]["validation"]["images"],
        job.pseudo_label.batch,
        context.folder.sub(DETECTIONS),
        "images",
    )
    names = tuple(c["name"] for c in ingest.manifest["classes"])
    result: Json = context.executor.call(fit, Spec(job, context.folder.uri, names))
    context.tell(_summary_line(result, job.pseudo_label.rule))
    return result


def fit(spec: Spec) -> Json:
    """Match, fit, choose, cross-validate; write and return the result.

    Runs in a worker.
    """
    section = spec.job.pseudo_label
    folder = Folder.at(spec.folder)
    rows = read_rows(folder.sub(DETECTIONS))
    matches = calibration.match(rows, len(spec.classes))
    rules = []
    for name in calibration.RULES:
        rule = Rule(name, section.threshold, section.precision, section.min_truths)
        rules.append(rule)
    fitted = calibration.fit(matches)
    seed = seed_for(spec.job.seed, "calibrate")
    held_out = calibration.cross_validate(matches, rules, section.folds, seed)
    held_out_numbers = None
    if held_out:
        held_out_numbers = _held_out(matches, held_out, spec.classes, section.folds)
    result = {
        "images": len(matches.truths),
        "classes": _classes(matches, fitted, rules, spec.classes),
        "pooled": asdict(fitted.pooled),
        "held_out": held_out_numbers,
    }
    folder.write_json(RESULT, result)
    return result


def _classes(
    matches: Matches, fitted: Calibration, rules: list[Rule], names: tuple[str, ...]
) -> dict[str, Json]:
    """Return of each class its counts, its curve and its threshold by every rule."""
    chosen = {}
    for rule in rules:
        chosen[rule.name] = calibration.choose(matches, fitted, rule)
    num_true = matches.truths.sum(0).tolist()
    counts = np.bincount(matches.label, minlength=len(names))
    num_detected = counts.tolist()
    classes = {}
    for k, name in enumerate(names):
        thresholds = {name: asdict(own[k]) for name, own in chosen.items()}
        classes[name] = {
            "truths": num_true[k],
            "found": num_detected[k],
            "curve": asdict(fitted.classes[k]),
            "thresholds": thresholds,
        }
    return classes


def _held_out(matches: Matches, held_out: HeldOut, names: tuple[str, ...], folds: int) -> Json:
    """Return the numbers of images that the thresholds and curves were not fitted on."""
    rules = {}
    for rule, counts in held_out.counts.items():
        classes = {}
        known = []
        for name, of_class in zip(names, counts, strict=True):
            numbers = calibration.ratios(of_class)
            classes[name] = numbers
            if numbers["truth"] and numbers["f1"] is not None:
                known.append(numbers["f1"])
        macro_f1 = None
        if known:
            macro_f1 = round(float(np.mean(known)), 4)
        rules[rule] = {
            "all": calibration.ratios(counts.sum(0)),
            "macro_f1": macro_f1,
            "classes": classes,
        }
    return {
        "folds": min(folds, len(matches.truths)),
        "rules": rules,
        "raw": calibration.reliability(matches.score, matches.right),
        "calibrated": calibration.reliability(held_out.probability, matches.right),
    }


def _summary_line(result: Json, rule: str) -> str:
    held_out = result["held_out"]
    if held_out is None:
        return "  one validation image: nothing is held out, so nothing is known of the gain"
    fixed = _three_digits(held_out["rules"]["fixed"]["all"]["f1"])
    chosen = _three_digits(held_out["rules"][rule]["all"]["f1"])
    raw = _three_digits(held_out["raw"]["ece"])
    calibrated = _three_digits(held_out["calibrated"]["ece"])
    return (
        f"  held-out F1 {fixed} with one threshold, {chosen} with rule {rule}; "
        f"calibration error {raw} as scored, {calibrated} calibrated"
    )


def _three_digits(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}"


def read(manifest: Any, names: list[str], rule: str) -> tuple[Calibration, list[Threshold]]:
    """Return the curves and the thresholds by `rule` from the step's manifest.

    In the order of the class names.
    """
    curves = []
    thresholds = []
    for name in names:
        entry = manifest["classes"][name]
        curves.append(Curve(**entry["curve"]))
        thresholds.append(Threshold(**entry["thresholds"][rule]))
    return Calibration(Curve(**manifest["pooled"]), curves), thresholds

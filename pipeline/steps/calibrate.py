"""Learn on the validation images what the detector's scores are worth, and from which score on each class is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
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
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.self_train import WEIGHTS

NEEDS = ("ingest", "self_train")
VERSION = 1
DETECTIONS = "detections"  # folder of what is matched
RESULT = "calibration.json"
PUBLISHES = (Published(RESULT, "pseudo"),)
LATER = ("rule", "calibrate")  # keys of pseudo_label that only choose among what is learnt here


@dataclass(frozen=True)
class Spec:
    """What the fitting task needs, as plain data."""

    job: Job
    folder: str
    classes: tuple[str, ...]


def settings(job: Job) -> dict[str, Any]:
    """How the detector looks, the numbers of the rules, and whether anything will be labelled."""
    keys = {
        key: value for key, value in section_dict(job, "pseudo_label").items() if key not in LATER
    }
    return {"pseudo_label": keys, "unlabelled": bool(job.data.unlabelled), "seed": job.seed}


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the number of images, and the numbers of held-out ones; None without unlabelled images."""
    keys = ("images", "held_out")
    return {"calibration": {key: manifest.get(key) for key in keys}}


def labeller_weights(context: Context) -> Folder:
    """The folder of the detector that labels; the one place that says which step's detector it is."""
    return context.inputs["self_train"].folder


def run(context: Context) -> dict[str, Any]:
    """Write `calibration.json`: curves, thresholds by every rule, and how both do on images they did not see."""
    job, ingest = context.job, context.inputs["ingest"]
    if not job.data.unlabelled:
        context.tell("  no unlabelled images")
        return {"classes": {}}
    weights = labeller_weights(context)
    validation = parquet.Config(ingest.folder.sub("validation").uri)
    detect_shards(
        context,
        partial(parquet.read, validation),
        partial(load_labeller, job, weights, WEIGHTS),
        ingest.manifest["splits"]["validation"]["images"],
        job.pseudo_label.batch,
        context.folder.sub(DETECTIONS),
        "images",
    )
    names = tuple(c["name"] for c in ingest.manifest["classes"])
    result: dict[str, Any] = context.executor.call(fit, Spec(job, context.folder.uri, names))
    context.tell(_sentence(result, job.pseudo_label.rule))
    return result


def fit(spec: Spec) -> dict[str, Any]:
    """Runs in a worker: match, fit, choose, and judge on held-out images; returns what it writes."""
    rows = read_rows(Folder.at(spec.folder).sub(DETECTIONS))
    matches = calibration.match(rows, len(spec.classes))
    section = spec.job.pseudo_label
    wanted = Rule("", section.threshold, section.precision, section.min_truths)
    rules = [replace(wanted, name=name) for name in calibration.RULES]
    learnt = calibration.fit(matches)
    held_out = calibration.cross_validate(
        matches, rules, section.folds, seed_for(spec.job.seed, "calibrate")
    )
    result = {
        "images": len(matches.truths),
        "classes": _classes(matches, learnt, rules, spec.classes),
        "pooled": asdict(learnt.pooled),
        "held_out": _held_out(matches, held_out, spec.classes, section.folds) if held_out else None,
    }
    Folder.at(spec.folder).write_json(RESULT, result)
    return result


def _classes(
    matches: Matches, learnt: Calibration, rules: list[Rule], names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    chosen = {rule.name: calibration.choose(matches, learnt, rule) for rule in rules}
    truths = matches.truths.sum(0).tolist()
    found = np.bincount(matches.label, minlength=len(names)).tolist()
    return {
        name: {
            "truths": truths[k],
            "found": found[k],
            "curve": asdict(learnt.classes[k]),
            "thresholds": {rule: asdict(thresholds[k]) for rule, thresholds in chosen.items()},
        }
        for k, name in enumerate(names)
    }


def _held_out(
    matches: Matches, held_out: HeldOut, names: tuple[str, ...], folds: int
) -> dict[str, Any]:
    """Numbers of images the thresholds and curves were not learnt on."""
    rules = {}
    for rule, counts in held_out.counts.items():
        classes = {
            name: calibration.ratios(counted) for name, counted in zip(names, counts, strict=True)
        }
        known = [
            numbers["f1"]
            for numbers in classes.values()
            if numbers["truth"] and numbers["f1"] is not None
        ]
        macro = round(float(np.mean(known)), 4) if known else None
        rules[rule] = {
            "all": calibration.ratios(counts.sum(0)),
            "macro_f1": macro,
            "classes": classes,
        }
    raw, calibrated = (
        calibration.reliability(p, matches.right) for p in (matches.score, held_out.probability)
    )
    return {
        "folds": min(folds, len(matches.truths)),
        "rules": rules,
        "raw": raw,
        "calibrated": calibrated,
    }


def _sentence(result: dict[str, Any], rule: str) -> str:
    held = result["held_out"]
    if held is None:
        return "  one validation image: nothing is held out, so nothing is known of the gain"
    fixed, chosen = (held["rules"][name]["all"]["f1"] for name in ("fixed", rule))
    errors = [held[kind]["ece"] for kind in ("raw", "calibrated")]
    told = [
        ["n/a" if v is None else f"{v:.3f}" for v in pair] for pair in ((fixed, chosen), errors)
    ]
    return (
        f"  held-out F1 {told[0][0]} with one threshold, {told[0][1]} with rule {rule}; "
        f"calibration error {told[1][0]} as scored, {told[1][1]} calibrated"
    )


def read(manifest: Any, names: list[str], rule: str) -> tuple[Calibration, list[Threshold]]:
    """Return the curves and the thresholds by `rule` from the step's manifest, in the order of the class names."""
    classes = [manifest["classes"][name] for name in names]
    curves = [Curve(**entry["curve"]) for entry in classes]
    thresholds = [Threshold(**entry["thresholds"][rule]) for entry in classes]
    return Calibration(Curve(**manifest["pooled"]), curves), thresholds

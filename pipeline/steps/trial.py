"""Train the arms of the trial, each with every seed, and say what the synthetic data is worth for the detector."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.datasets import ShuffledLabels
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.inference import detect_rows
from synthaug.pipeline.detection.store import write_rows
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import device, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.report import trial as report_trial
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow
from synthaug.pipeline.scores.detection.fixed_ap import FixedEvaluator
from synthaug.pipeline.steps.contract import Manifest, Published
from synthaug.pipeline.steps.inputs import Inputs
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.trial.arms import (
    ARMS,
    BEST,
    EXTERNAL,
    Arm,
    arm_batches,
    arm_named,
    first_part,
    on_top_of,
    real_draw,
)
from synthaug.pipeline.trial.conclusions import FIXED, TrialClasses, best_control, conclude

NEEDS = ("ingest", "pseudo_label", "synthesize", "verify")
VERSION = 3
ARM_VERSION = 2  # raised when training or measuring an arm gives something else; arms outlive what is said of them
ARMS_FOLDER = (
    "arms"  # beside the step's own folder: an arm trained once serves every later trial of the run
)
BATCH = 16  # images per detector call
KEYS = ("AP", "AP50", "AP75")
LONGEST = 2  # times the usual steps: real_2x
EVERYTHING = {
    "score_floor": 0.001,
    "detections_per_image": 1000,
}  # what fixed AP looks at, of each image
TEXT = "trial.md"
PUBLISHES = (Published(TEXT),)


@dataclass(frozen=True)
class Sources:
    """What a worker needs to train arms: the job and where the tables are."""

    job: Job
    tables: dict[str, str]  # "real", "validation", "pseudo", "synthetic", "verified" -> URI
    folder: str

    def added(self, name: str) -> Dataset:
        """Open a table that arms add to the real images."""
        job = self.job
        if name.startswith(EXTERNAL):
            reference = job.trial.external[name.removeprefix(EXTERNAL)]
            return open_dataset(
                reference, Path(job.data.root), key=f"trial.external.{name.removeprefix(EXTERNAL)}"
            )
        if name == "copy_paste":  # never two pictures alike: as many as the longest arm can draw
            real = parquet.read(parquet.Config(self.tables["real"]))
            drawn = (
                job.detector.training.batch
                * max(job.trial.steps, job.detector.training.steps)
                * LONGEST
            )
            return CopyPasteTable(real, job.trial.copy_paste, seed_for(job.seed, name), drawn)
        table = parquet.read(
            parquet.Config(self.tables["synthetic" if name == "placebo" else name])
        )
        if name == "placebo":
            return ShuffledLabels(table, seed_for(job.seed, "placebo"))
        return table

    def evaluation(self) -> Dataset:
        """Open the images that arms are measured on."""
        job = self.job
        if job.trial.evaluation:
            return open_dataset(job.trial.evaluation, Path(job.data.root), key="trial.evaluation")
        return parquet.read(parquet.Config(self.tables["validation"]))


def settings(job: Job) -> dict[str, Any]:
    """The trial section, the detector, and the content of the data sets that only the trial reads."""
    trial = job.trial
    if not trial.seeds:
        return {"seeds": 0}
    tables = external_tables(job)
    marks = {
        key.replace("external.", EXTERNAL): table.fingerprint() for key, table in tables.items()
    }
    sections = {name: section_dict(job, name) for name in ("trial", "detector")}
    return {**sections, "seed": job.seed, "fingerprints": marks}


def external_tables(job: Job) -> dict[str, Dataset]:
    """Open the data sets that only the trial reads, by their keys."""
    trial = job.trial
    references = {f"trial.external.{name}": text for name, text in trial.external.items()}
    if trial.evaluation:
        references["trial.evaluation"] = trial.evaluation
    root = Path(job.data.root)
    return {key: open_dataset(text, root, key=key) for key, text in references.items()}


def check(job: Job) -> None:
    """Raise JobError for an arm that is unknown, or of which the job has no images."""
    trial = job.trial
    if not trial.seeds:
        return
    known = [*ARMS, BEST]
    for name in trial.arms:
        if name not in known:
            raise JobError(f"trial.arms: '{name}' is no arm{suggest(name, known)}")
    if "pseudo" in trial.arms and not job.data.unlabelled:
        raise JobError(
            "trial.arms: 'pseudo' needs unlabelled images; "
            "name them in data.unlabelled or leave the arm out"
        )
    if "verified" in trial.arms and not job.verify.enabled:
        raise JobError(
            "trial.arms: 'verified' needs verified images; "
            "set verify.enabled to true or leave the arm out"
        )


def check_data(job: Job, inputs: Inputs) -> None:
    """Raise JobError for a data set of the trial with other classes."""
    if not job.trial.seeds:
        return
    classes = [category.name for category in inputs.categories]
    for key, table in external_tables(job).items():
        if [category.name for category in table.categories] != classes:
            raise JobError(
                f"{key}: its classes differ from data.labelled's; "
                "use the same categories in every file"
            )


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the arms, their comparisons and the verdict."""
    return {"trial": dict(manifest)}


class _Runner:
    """Runs in a worker: trains one arm with one seed and measures it on the evaluation images."""

    def __init__(self, sources: Sources) -> None:
        import torch

        torch.set_num_threads(1)
        self._sources = sources
        self._evaluation = sources.evaluation()

    def __call__(self, name: str, item: tuple[Arm, int, range]) -> dict[str, Any]:
        arm, number, images = item
        began = time.monotonic()
        folder = Folder.at(self._sources.folder)
        detector, start = self._trained(arm, number, folder.sub(name))
        trained = time.monotonic()
        rows = list(detect_rows(detector, self._evaluation, images, BATCH))
        write_rows(folder, name, rows)
        folder.sub(name).delete("state.safetensors")
        seconds = {
            "seconds": round(trained - began, 1),
            "looking": round(time.monotonic() - trained, 1),
        }
        told = {
            "rows": len(rows),
            "arm": arm.name,
            "seed": number,
            "resumed_from": start,
            **seconds,
        }
        return told | measured(rows, self._evaluation, self._sources.job.detector.config)

    def _trained(self, arm: Arm, number: int, folder: Folder) -> tuple[Any, int]:
        from synthaug.detectors import DETECTORS

        sources, job = self._sources, self._sources.job
        plan, trial = job.detector.training, job.trial
        steps = round((trial.steps or plan.steps) * arm.steps)
        seed = seed_for(
            job.seed, "trial", number
        )  # the same for every arm: the comparison is paired
        real = parquet.read(parquet.Config(sources.tables["real"]))
        added = [
            first_part(sources.added(name), arm.fraction, seed_for(job.seed, "part"))
            for name in arm.added
        ]
        count = round(trial.share * plan.batch) if added else 0
        draw = real_draw(real, plan.batch - count, seed, arm.sampling, trial.repeat_threshold)
        backend = importlib.import_module(DETECTORS[job.detector.backend])
        config = seeing_everything(job.detector.config)
        detector = backend.build(config, len(real.categories), seed=seed % 2**31, device=device())
        training = detector.training(steps, seed % 2**31)
        start = train(
            training, arm_batches(real, draw, added, count, seed), steps, plan.save_every, folder
        )
        training.finish()
        return detector, start


def seeing_everything(config: Any) -> Any:
    """The detector's Config with the limits on what it returns lifted; they change nothing that is learnt."""
    known = {f.name for f in fields(config)}
    return replace(config, **{name: value for name, value in EVERYTHING.items() if name in known})


def usual(row: DetectionRow, config: Any) -> DetectionRow:
    """What the detector would have returned with its own limits: the best of those above its floor."""
    floor, most = (
        getattr(config, "score_floor", 0.0),
        getattr(config, "detections_per_image", len(row.pred_scores)),
    )
    kept = np.flatnonzero(row.pred_scores > floor)
    kept = np.sort(kept[np.argsort(-row.pred_scores[kept], kind="stable")[:most]])
    found = {
        name: getattr(row, name)[kept] for name in ("pred_boxes", "pred_labels", "pred_scores")
    }
    return replace(row, **found)


def measured(rows: list[DetectionRow], table: Dataset, config: Any) -> dict[str, Any]:
    """COCO's AP of the thing classes at the detector's own limits, over all and per class; and fixed AP."""
    things = [i for i, c in enumerate(table.categories) if c.isthing]
    evaluator, fixed = (
        DetectionEvaluator(table.categories, things),
        FixedEvaluator(table.categories, things),
    )
    for row in rows:
        evaluator.add(usual(row, config))
        fixed.add(row)
    result, all_of_it = evaluator.result(), fixed.result()
    per_class = {
        str(c): {
            **{key: result.per_class[c][key] for key in KEYS},
            FIXED: all_of_it.per_class[c]["AP"],
        }
        for c in things
    }
    values = {**{key: result.values[key] for key in KEYS}, FIXED: all_of_it.values["AP"]}
    return {"values": values, "per_class": per_class}


def run(context: Context) -> dict[str, Any]:
    """Train what is not trained yet; the manifest has every run, every comparison and the verdicts."""
    job, trial = context.job, context.job.trial
    if not trial.seeds:
        context.tell("  no trial: trial.seeds is 0")
        return {"seeds": 0}
    inputs = context.inputs
    tables = {
        "real": inputs["ingest"].folder.sub("labelled").uri,
        "validation": inputs["ingest"].folder.sub("validation").uri,
        "pseudo": inputs["pseudo_label"].folder.uri,
        "synthetic": inputs["synthesize"].folder.uri,
        "verified": inputs["verify"].folder.uri,
    }
    folder = Folder.at(job.output).sub("steps").sub(ARMS_FOLDER)
    sources = Sources(job, tables, folder.uri)
    arms = [arm_named(name) for name in trial.arms if name != BEST]
    arms += [arm_named(f"{EXTERNAL}{name}") for name in trial.external]
    arms += [
        replace(ARMS["synthetic"], name=f"synthetic_{part:g}", fraction=part)
        for part in trial.curve
    ]
    images = range(len(sources.evaluation()))
    rows = _train(context, sources, arms, images)
    if BEST in trial.arms:
        best = on_top_of(
            best_control(rows, arms),
            "verified" if "verified" in trial.arms else "synthetic",
        )
        rows += _train(context, sources, [best], images)
        arms.append(best)
    manifest = conclude(
        rows, arms, job.trial, _classes(context), int(inputs["synthesize"].manifest["images"])
    )
    for line in manifest["says"]:
        context.tell(f"  {line}")
    manifest = {**manifest, "images": len(images)}
    context.folder.write_bytes(TEXT, report_trial.markdown(manifest).encode())
    return manifest


def _train(
    context: Context, sources: Sources, arms: list[Arm], images: range
) -> list[dict[str, Any]]:
    """Train what is not trained yet; arms that are the same by all that decides them are trained once."""
    folder, marks = Folder.at(sources.folder), settings(context.job)["fingerprints"]
    keys = {arm.name: _key(context, arm, marks) for arm in arms}
    numbers = range(context.job.trial.seeds)
    items = {
        f"{keys[arm.name]}-{number}": (arm, number, images)
        for number in numbers  # seed by seed: a trial cut short has whole pairs
        for arm in arms
    }
    rows = context.shards(
        partial(_Runner, sources), list(items.items()), folder, "evaluated images"
    )
    found = dict(zip(items, rows, strict=True))
    return [
        {**found[f"{keys[arm.name]}-{number}"], "arm": arm.name}
        for arm in arms
        for number in numbers
    ]


def _key(context: Context, arm: Arm, marks: dict[str, str]) -> str:
    """Name an arm by all that decides its result, so that nothing is trained twice and nothing stale is taken."""
    job, trial = context.job, context.job.trial
    made = {
        "pseudo": "pseudo_label",
        "synthetic": "synthesize",
        "placebo": "synthesize",
        "verified": "verify",
    }
    read = {"ingest", *(made[name] for name in arm.added if name in made)}
    content = {
        "arm": {
            name: value
            for name, value in asdict(arm).items()
            if name not in ("name", "role", "description")
        },
        "detector": section_dict(job, "detector"),
        "trial": [trial.steps, trial.share, trial.repeat_threshold, trial.evaluation],
        "data": {
            key: mark
            for key, mark in marks.items()
            if key == "trial.evaluation" or key.endswith(f".{arm.name}")
        },
        "inputs": {
            name: context.inputs[name].folder.uri.rsplit("/", 1)[-1] for name in sorted(read)
        },
        "copy_paste": asdict(trial.copy_paste) if "copy_paste" in arm.added else None,
        "seed": job.seed,
        "version": ARM_VERSION,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _classes(context: Context) -> TrialClasses:
    """The thing classes, what the labelled images have of each, and by which rule they are rare."""
    ingest, job = context.inputs["ingest"], context.job
    told = ingest.manifest
    things = [(i, c["name"]) for i, c in enumerate(told["classes"]) if c["isthing"]]
    objects = [told["splits"]["labelled"]["objects"].get(name, 0) for _, name in things]
    table = parquet.read(parquet.Config(ingest.folder.sub("labelled").uri), pixels=False)
    seen = np.zeros(len(table.categories), np.int64)  # images with an object of the class
    for i in range(len(table)):
        found = table[i].objects
        seen[np.unique(found.category[~found.iscrowd])] += 1
    lvis = any(part.strip().startswith("lvis:") for part in job.data.labelled.split(" + "))
    rule = job.trial.groups if job.trial.groups != "auto" else "lvis" if lvis else "relative"
    index = [i for i, _ in things]
    return TrialClasses([name for _, name in things], index, objects, seen[index].tolist(), rule)

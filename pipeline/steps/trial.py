"""Train the arms of the trial, each with every seed, and conclude whether the synthetic data helps the detector."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.config.schema import Job, section_dict
from synthaug.pipeline.core.datasets import ShuffledLabels
from synthaug.pipeline.core.errors import JobError, suggest
from synthaug.pipeline.core.scene import Dataset, class_counts
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.inference import detect_rows
from synthaug.pipeline.detection.store import write_rows
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.training import device, train
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.planning.targets import chosen_classes
from synthaug.pipeline.report import trial as report_trial
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
    fixed_part,
    on_top_of,
    real_draw,
)
from synthaug.pipeline.trial.conclusions import TrialClasses, best_control, conclude
from synthaug.pipeline.trial.evaluation import evaluate, without_limits

if TYPE_CHECKING:
    from synthaug.detectors.base import Detector

NEEDS = ("ingest", "pseudo_label", "synthesize", "verify")
VERSION = 3
# Raised when training or measuring an arm gives something else; trained arms outlive the step's own output.
ARM_VERSION = 3
# Beside the step's own folder: an arm trained once serves every later trial of the run.
ARMS_FOLDER = "arms"
BATCH = 16  # images per detector call
LONGEST = 2  # times the usual steps: real_2x
# Step that writes the images of an added table.
STEP_OF = {
    "pseudo": "pseudo_label",
    "synthetic": "synthesize",
    "placebo": "synthesize",
    "verified": "verify",
}
TEXT = "trial.md"
PUBLISHES = (Published(TEXT),)


@dataclass(frozen=True)
class Sources:
    """The job and its tables, from which a worker trains arms."""

    job: Job
    tables: dict[str, str]  # "real", "validation", "pseudo", "synthetic", "verified" -> URI
    folder: str

    def table(self, name: str) -> Dataset:
        """Open a table of the run."""
        return parquet.open_table(self.tables[name])

    def added(self, name: str) -> Dataset:
        """Open a table that arms add to the real images."""
        job = self.job
        if name.startswith(EXTERNAL):
            data_set = name.removeprefix(EXTERNAL)
            reference = job.trial.external[data_set]
            return open_dataset(reference, Path(job.data.root), key=f"trial.external.{data_set}")
        if name == "copy_paste":
            # Never two equal images: as many as the longest arm can draw.
            steps = max(job.trial.steps, job.detector.training.steps) * LONGEST
            size = job.detector.training.batch * steps
            bare = parquet.open_table(self.tables["real"], pixels=False)
            seed = seed_for(job.seed, name)
            return CopyPasteTable(self.table("real"), job.trial.copy_paste, seed, size, bare)
        if name == "placebo":
            return ShuffledLabels(self.table("synthetic"), seed_for(job.seed, name))
        return self.table(name)

    def evaluation(self) -> Dataset:
        """Open the images that arms are measured on."""
        job = self.job
        if job.trial.evaluation:
            return open_dataset(job.trial.evaluation, Path(job.data.root), key="trial.evaluation")
        return self.table("validation")


def settings(job: Job) -> dict[str, Any]:
    """Return the trial section, the detector, and the content of the data sets that only the trial reads."""
    if not job.trial.seeds:
        return {"seeds": 0}
    return {
        "trial": section_dict(job, "trial"),
        "detector": section_dict(job, "detector"),
        "seed": job.seed,
        "fingerprints": external_fingerprints(job),
    }


def external_fingerprints(job: Job) -> dict[str, str]:
    """Return the digests of the data sets that only the trial reads; keys of arms end with the arm's name."""
    fingerprints = {}
    for key, table in external_tables(job).items():
        fingerprints[key.replace("external.", EXTERNAL)] = table.fingerprint()
    return fingerprints


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
    known = [name for name, arm in ARMS.items() if arm.role != "headroom"] + [BEST]
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
    """Raise JobError for a data set of the trial with other classes, and for a class to be pasted that is not there."""
    if not job.trial.seeds:
        return
    ones = np.ones(len(inputs.categories), np.int64)
    pasted = job.trial.copy_paste.classes
    chosen_classes(pasted, ones, inputs.categories, "trial.copy_paste.classes")
    classes = [category.name for category in inputs.categories]
    for key, table in external_tables(job).items():
        if [category.name for category in table.categories] != classes:
            raise JobError(
                f"{key}: its classes differ from data.labelled's; "
                "use the same categories in every file"
            )


def metrics(manifest: Manifest) -> dict[str, Any]:
    """Return the arms, their comparisons and the conclusions."""
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
        folder = Folder.at(self._sources.folder)
        began = time.monotonic()
        detector, start = self._train(arm, number, folder.sub(name))
        trained = time.monotonic()
        rows = list(detect_rows(detector, self._evaluation, images, BATCH))
        detected = time.monotonic()
        write_rows(folder, name, rows)
        folder.sub(name).delete("state.safetensors")
        values = evaluate(rows, self._evaluation.categories, self._sources.job.detector.config)
        return {
            "rows": len(rows),
            "arm": arm.name,
            "seed": number,
            "resumed_from": start,
            "seconds": round(trained - began, 1),
            "looking": round(detected - trained, 1),
            **values,
        }

    def _train(self, arm: Arm, number: int, folder: Folder) -> tuple[Detector, int]:
        """Return the detector of an arm trained with a seed, and the step at which the training was resumed."""
        from synthaug.detectors import DETECTORS

        sources = self._sources
        job = sources.job
        plan, trial = job.detector.training, job.trial
        steps = round((trial.steps or plan.steps) * arm.steps)
        # The same for every arm: the comparison is paired.
        seed = seed_for(job.seed, "trial", number)
        part_seed = seed_for(job.seed, "part")
        real = fixed_part(sources.table("real"), arm.labelled, seed_for(job.seed, "labelled"))
        added = [first_part(sources.added(name), arm.fraction, part_seed) for name in arm.added]
        count = round(trial.share * plan.batch) if added else 0
        threshold = arm.threshold or trial.repeat_threshold
        draw = real_draw(real, plan.batch - count, seed, arm.sampling, threshold)
        batches = arm_batches(real, draw, added, count, seed)

        backend = importlib.import_module(DETECTORS[job.detector.backend])
        config = without_limits(replace(job.detector.config, **dict(arm.detector)))
        num_classes = len(real.categories)
        detector: Detector = backend.build(config, num_classes, seed=seed % 2**31, device=device())
        training = detector.training(steps, seed % 2**31)
        start = train(training, batches, steps, plan.save_every, folder)
        training.finish()
        return detector, start


def run(context: Context) -> dict[str, Any]:
    """Train the arms that are not trained yet; the manifest has every run, comparison and conclusion."""
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
    arms, left_out = _with_labels(context, _arms(job))
    images = range(len(sources.evaluation()))
    runs = _train(context, sources, arms, images)
    if BEST in trial.arms:
        candidate = "verified" if "verified" in trial.arms else "synthetic"
        best = on_top_of(best_control(runs, arms), ARMS[candidate])
        runs += _train(context, sources, [best], images)
        arms.append(best)
    synthetic_images = int(inputs["synthesize"].manifest["images"])
    conclusions = conclude(runs, arms, trial, _classes(context), synthetic_images)
    conclusions["says"] += left_out
    for line in conclusions["says"]:
        context.tell(f"  {line}")
    manifest = {**conclusions, "images": len(images)}
    context.folder.write_bytes(TEXT, report_trial.markdown(manifest).encode())
    return manifest


def _arms(job: Job) -> list[Arm]:
    """Return the arms of a job but the one that the best control decides."""
    trial = job.trial
    arms = [arm_named(name) for name in trial.arms if name != BEST]
    arms += [arm_named(f"{EXTERNAL}{name}") for name in trial.external]
    for part in trial.curve:
        arms.append(replace(ARMS["synthetic"], name=f"synthetic_{part:g}", fraction=part))
    return arms


def _with_labels(context: Context, arms: list[Arm]) -> tuple[list[Arm], list[str]]:
    """Return the arms without those of pseudo-labels where no class has any, and a line for each left out.

    Images in which nothing is labelled would teach that all of it is background.
    """
    if context.inputs["pseudo_label"].manifest["objects"]:
        return arms, []
    kept = [arm for arm in arms if "pseudo" not in arm.added]
    lines = []
    for arm in arms:
        if arm not in kept:
            lines.append(f"arm {arm.name} was left out: no class has pseudo-labels")
    return kept, lines


def _train(
    context: Context, sources: Sources, arms: list[Arm], images: range
) -> list[dict[str, Any]]:
    """Return the runs of some arms, training what is not trained yet.

    Arms that are the same by all that decides them are trained once.
    """
    folder = Folder.at(sources.folder)
    fingerprints = external_fingerprints(context.job)
    keys = {arm.name: arm_key(context, arm, fingerprints) for arm in arms}
    seeds = range(context.job.trial.seeds)
    items = {}
    for number in seeds:  # seed by seed: a trial cut short has complete pairs
        for arm in arms:
            items[f"{keys[arm.name]}-{number}"] = (arm, number, images)
    work = list(items.items())
    results = context.shards(partial(_Runner, sources), work, folder, "evaluated images")
    by_name = dict(zip(items, results, strict=True))
    runs = []
    for arm in arms:
        for number in seeds:
            runs.append({**by_name[f"{keys[arm.name]}-{number}"], "arm": arm.name})
    return runs


def arm_key(context: Context, arm: Arm, fingerprints: dict[str, str]) -> str:
    """Name an arm by all that decides its result, so that nothing is trained twice and nothing stale is taken."""
    job, trial = context.job, context.job.trial
    recipe = asdict(arm)
    for name in ("name", "role", "description"):
        del recipe[name]
    data = {}
    for key, fingerprint in fingerprints.items():
        if key == "trial.evaluation" or key.endswith(f".{arm.name}"):
            data[key] = fingerprint
    steps = {"ingest", *(STEP_OF[name] for name in arm.added if name in STEP_OF)}
    inputs = {}
    for name in sorted(steps):
        inputs[name] = context.inputs[name].folder.uri.rsplit("/", 1)[-1]
    content = {
        "arm": recipe,
        "detector": section_dict(job, "detector"),
        "trial": [trial.steps, trial.share, trial.repeat_threshold, trial.evaluation],
        "data": data,
        "inputs": inputs,
        "copy_paste": asdict(trial.copy_paste) if "copy_paste" in arm.added else None,
        "seed": job.seed,
        "version": ARM_VERSION,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _classes(context: Context) -> TrialClasses:
    """Return the thing classes, the labelled objects and images of each, and the rule by which they are rare."""
    job = context.job
    ingest = context.inputs["ingest"]
    classes = ingest.manifest["classes"]
    index = [label for label, category in enumerate(classes) if category["isthing"]]
    names = [classes[label]["name"] for label in index]
    counts = ingest.manifest["splits"]["labelled"]["objects"]
    table = parquet.open_table(ingest.folder.sub("labelled"), pixels=False)
    images = np.zeros(len(table.categories), np.int64)  # with an object of the class
    for scene in table:
        images += class_counts([scene], len(table.categories)) > 0
    rule = job.trial.groups
    if rule == "auto":
        references = [part.strip() for part in job.data.labelled.split(" + ")]
        is_lvis = any(reference.startswith("lvis:") for reference in references)
        rule = "lvis" if is_lvis else "relative"
    objects = [counts.get(name, 0) for name in names]
    return TrialClasses(names, index, objects, images[index].tolist(), rule)

"""What are added images worth to a detector? Arms trained side by side, without the rest of a run.

    python benchmarks/added_images.py JOB FOLDER --seeds 4 [--steps N] [--first-seed K] \
        [--on REFERENCE] ARM...

An ARM is one of

- NAME=REFERENCE, a data set whose images fill `trial.share` of each batch;
- NAME=paste:KEY=VALUE,... the trial's copy-paste with these keys of its Config;
- NAME=A&B, both, each an equal part;
- NAME=A|KEY=VALUE,... with these keys of the recipe: share, real_last, added_boxes, pseudo_boxes,
  added_background;
- NAME=half, half of the labelled images;
- NAME=empty, the added places stay empty.

`real` is always trained. Real images are `data.labelled`, measured on `data.validation` or on
`--on`. Each (arm, seed) is kept in FOLDER by what decides it, so that two calls may share the work
and one that was cut short goes on. Ends with a table of paired differences to `real`, or to the arm
named by `--against`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same trainings everywhere: one thread of a CPU each
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import yaml

from synthaug.detectors import DETECTORS
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.datasets import Subset
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import permuted, seed_for
from synthaug.pipeline.detection.inference import detect_rows
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.trial.arms import RealEnd, arm_batches, real_draw
from synthaug.pipeline.trial.evaluation import evaluate, without_limits
from synthaug.pipeline.trial.paired_tests import paired_difference
from synthaug.pipeline.trial.recipe import Recipe

PASTE, HALF, EMPTY = "paste", "half", "empty"


def settings_of(keys: str) -> dict[str, Any]:
    """Return KEY=VALUE,... as a mapping; a list is written A+B."""
    settings = yaml.safe_load("{" + keys.replace("=", ": ").replace("+", ", ") + "}")
    assert isinstance(settings, dict)
    return settings


def table_of(job: Job, part: str, real: Dataset, steps: int) -> Dataset:
    """Return the images that a part of an arm adds."""
    kind, _, keys = part.partition(":")
    if kind != PASTE:
        return open_dataset(part, Path(job.data.root), key="arm")
    config = replace(job.trial.copy_paste, **settings_of(keys))
    size = job.detector.training.batch * steps
    return CopyPasteTable(real, config, seed_for(job.seed, "copy_paste"), size)


def train(job: Job, arm: str, seed: int, steps: int) -> Any:
    """Return the detector of an arm."""
    plan = job.detector.training
    root = Path(job.data.root)
    real: Dataset = open_dataset(job.data.labelled, root, key="data.labelled")
    tables, _, keys = arm.partition("|")
    recipe = Recipe.of(job.trial, settings_of(keys))
    count = round(recipe.share * plan.batch)
    added: list[Dataset] = []
    if tables in ("real", HALF):
        count = 0
    elif tables != EMPTY:
        added = [table_of(job, part, real, steps) for part in tables.split("&")]
    if tables == HALF:
        order = seed_for(job.seed, "half")
        chosen = [permuted(k, len(real), order) for k in range(len(real) // 2)]
        real = Subset(real, sorted(chosen))
    arm_seed = seed_for(job.seed, "added images", seed)
    draw = real_draw(real, plan.batch - count, arm_seed, "uniform", 0.0)
    last = real_draw(real, count, seed_for(arm_seed, "last"), "uniform", 0.0)
    end = RealEnd(recipe.real_from(steps), last)
    batches = arm_batches(real, draw, added, count if added else 0, arm_seed, recipe, end)
    backend = importlib.import_module(DETECTORS[job.detector.backend])
    config = without_limits(job.detector.config)
    detector = backend.build(config, len(real.categories), seed=arm_seed % 2**31)
    training = detector.training(steps, arm_seed % 2**31)
    for step in range(steps):
        training.step(step, batches(step))
    training.finish()
    return detector


def fingerprints(job: Job, arm: str, on: str) -> list[str]:
    """Return the digests of the data sets that an arm is trained and measured with."""
    named = [job.data.labelled, on]
    for part in arm.partition("|")[0].split("&"):
        if part not in ("real", HALF, EMPTY) and not part.startswith(PASTE):
            named.append(part)
    root = Path(job.data.root)
    return [open_dataset(reference, root, key="arm").fingerprint() for reference in named]


def measured(job: Job, arm: str, seed: int, steps: int, on: str, folder: Path) -> dict[str, Any]:
    """Return an arm's AP with a seed, trained unless it lies in the folder."""
    content = [arm, seed, steps, on, job.trial.share, str(job.detector.config)]
    content += fingerprints(job, arm, on)
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    file = folder / f"{key}.json"
    if not file.exists():
        began = time.monotonic()
        detector = train(job, arm, seed, steps)
        evaluation = open_dataset(on, Path(job.data.root), key="--on")
        rows = list(detect_rows(detector, evaluation, range(len(evaluation)), 16))
        result = evaluate(rows, evaluation.categories, job.detector.config)
        result |= {"seconds": round(time.monotonic() - began, 1), "content": content}
        file.write_text(json.dumps(result))
    result = json.loads(file.read_text())
    assert isinstance(result, dict)
    return result


def line(name: str, values: np.ndarray, baseline: np.ndarray) -> str:
    """Return a row: means, and the paired differences with their intervals, in points.

    Values [seeds, columns].
    """
    cells = [f"{100 * mean:.1f}" for mean in values.mean(0)]
    for column in range(values.shape[1]):
        if len(values) < 2 or values is baseline:
            cells.append("")
            continue
        found = paired_difference(values[:, column].tolist(), baseline[:, column].tolist())
        cells.append(f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]")
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("job", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("arms", nargs="*")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--on", default="")
    parser.add_argument("--rare", default="", help="names of the rare classes, with commas")
    parser.add_argument("--against", default="real")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    job = load_job(options.job, options.set)
    options.folder.mkdir(parents=True, exist_ok=True)
    steps = options.steps or job.detector.training.steps
    on = options.on or job.data.validation
    arms = {"real": "real"}
    for text in options.arms:
        name, _, arm = text.partition("=")
        arms[name] = arm
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name, arm in arms.items():
            result = measured(job, arm, seed, steps, on, options.folder)
            results[name].append(result)
            print(name, seed, round(100 * result["values"]["AP"], 1), result["seconds"], flush=True)

    table = open_dataset(job.data.labelled, Path(job.data.root), key="data.labelled")
    classes = [str(i) for i, category in enumerate(table.categories) if category.isthing]
    names = [table.categories[int(index)].name for index in classes]
    rare = [i for i, name in zip(classes, names, strict=True) if name in options.rare.split(",")]
    columns = ["AP", "AP50", "rare", *names]

    def numbers(result: dict[str, Any]) -> list[float]:
        per_class = {index: result["per_class"][index]["AP"] for index in classes}
        mean_of_rare = np.mean([per_class[index] for index in rare or classes])
        values = result["values"]
        return [values["AP"], values["AP50"], float(mean_of_rare), *per_class.values()]

    values = {name: np.array([numbers(r) for r in runs]) for name, runs in results.items()}
    print(
        f"\n{steps} steps, {options.seeds} seeds, {len(table)} real images; differences to "
        f"{options.against}"
    )
    heads = columns + [f"d {column}" for column in columns]
    print("| arm | " + " | ".join(heads) + " |")
    print("|---" * (1 + len(heads)) + "|")
    for name in arms:
        print(line(name, values[name], values[options.against]))


if __name__ == "__main__":
    main()

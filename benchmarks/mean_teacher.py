"""What do unlabelled images add to the detector? Mean teacher against labels alone, with equally
many student steps.

    python benchmarks/mean_teacher.py JOB OUT SEEDS TEST [KEY=VALUE ...]

SEEDS is such as 0,1,2; TEST is a reference of labelled images that nothing was chosen on, or "".
Every arm of a seed learns from equally many labelled images: detector.steps of burn-in and then
self_train.steps, or their sum in one training. Prints AP50 and AP, mean and spread over the seeds,
and leaves OUT/<seed>/<arm>.json; finished arms are not trained again.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from synthaug.detectors import DETECTORS
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.evaluation import average_precision, evaluate
from synthaug.pipeline.execution.training import device, read_log, train
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.steps import self_train
from synthaug.pipeline.steps.inputs import open_inputs

ARMS = {
    "burn-in": "labels alone, detector.steps",
    "supervised": "labels alone, detector.steps + self_train.steps, one schedule",
    "restarted": "burn-in, then the mean teacher's steps without unlabelled images",
    "teacher": "burn-in, then mean teacher",
}


def build(job: Job, tables: dict[str, Dataset], folder: Path, steps: int) -> Any:
    """Train on labels alone for `steps`, or take up what was trained."""
    plan, table = job.detector.training, tables["labelled"]
    backend = importlib.import_module(DETECTORS[job.detector.backend])
    detector = backend.build(
        job.detector.config, len(table.categories), seed=job.seed, device=device()
    )
    training = detector.training(steps, job.seed)
    draw = draw_for([table], plan.batch, job.seed, plan.sampling, plan.repeat_threshold)
    train(training, detector_batches(table, draw), steps, plan.save_every, Folder.at(folder))
    training.finish()
    return detector


def teach(job: Job, tables: dict[str, Dataset], burnt_in: Any, folder: Path, blind: bool) -> Any:
    """Go on from a trained detector as the job's self_train section says.

    `blind` to the unlabelled images or not.
    """
    training, mixed = self_train.prepare(burnt_in, job, tables)
    batches = (lambda step: replace(mixed(step), unlabelled=[])) if blind else mixed
    plan = job.self_train.training
    train(training, batches, plan.steps, plan.save_every, Folder.at(folder))
    training.finish()
    return burnt_in


def arm(name: str, job: Job, tables: dict[str, Dataset], folder: Path) -> Any:
    """The detector of an arm; every arm builds its own burn-in from the same finished state."""
    whole = job.detector.training.steps + job.self_train.training.steps
    if name == "supervised":
        return build(job, tables, folder / name, whole)
    burnt_in = build(job, tables, folder / "burn-in", job.detector.training.steps)
    if name == "burn-in":
        return burnt_in
    return teach(job, tables, burnt_in, folder / name, blind=name == "restarted")


def measure(job: Job, folder: Path, name: str, tables: dict[str, Dataset]) -> dict[str, Any]:
    """Train and measure one arm, unless that was done.

    The end of its log says how sure the teacher was.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        detector = arm(name, job, tables, folder)
        batch = job.self_train.training.unlabelled_batch
        found: dict[str, Any] = {
            split: average_precision(evaluate(detector, tables[split], batch))
            for split in ("validation", "test")
            if split in tables
        }
        path.write_text(
            json.dumps({**found, "log": read_log(Folder.at(folder / name))[-1]}, indent=1)
        )
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Mean and standard deviation over the seeds, and how often an arm beats `supervised` on the
    same seed.
    """
    splits = [split for split in ("validation", "test") if split in results["supervised"][0]]
    columns = [(split, key) for split in splits for key in ("AP50", "AP")]
    lines = [
        "| arm | " + " | ".join(f"{split} {key}" for split, key in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, rows in results.items():
        cells = []
        for split, key in columns:
            values = [row[split][key] for row in rows]
            base = [row[split][key] for row in results["supervised"]]
            better = sum(a > b for a, b in zip(values, base, strict=True))
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            wins = "" if name == "supervised" else f", {better}/{len(values)}"
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}{wins}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    path, out, seeds, test, *overrides = sys.argv[1:]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for seed in seeds.split(","):
        job = load_job(Path(path), [*overrides, f"seed={seed}"])
        torch.set_num_threads(job.detector.training.threads or torch.get_num_threads())
        tables = dict(open_inputs(job).splits)
        if test:
            tables["test"] = open_dataset(test, Path(job.data.root))
        folder = Path(out).resolve() / seed
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in results.items():
            rows.append(measure(job, folder, name, tables))
            shown = {
                split: round(rows[-1][split]["AP50"], 3)
                for split in ("validation", "test")
                if split in rows[-1]
            }
            print(f"seed {seed} {name}: AP50 {shown}", file=sys.stderr, flush=True)
    print(table(results))


if __name__ == "__main__":
    main()

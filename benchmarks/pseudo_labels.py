"""What are more views, calibrated scores and thresholds per class worth?

    python benchmarks/pseudo_labels.py RUN [VIEWS ...]

RUN is the output folder of a run whose detector is trained. VIEWS are ways to look at an image:
`plain`, `flip`, or `flip,0.8,1.25` (mirrored, and at these sizes besides its own); without any,
these three. For each, the run's detector looks at the validation images, and at the unlabelled ones
where their truth is known. Prints AP50 and the milliseconds of CPU per image, the calibration error
before and after, and precision, recall and F1 by each rule. Thresholds and curves are always learnt
on other images than they are judged on: other folds of the validation images; for the unlabelled
ones, all of them.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection import calibration
from synthaug.pipeline.detection.calibration import Rule
from synthaug.pipeline.detection.inference import detect, load_labeller
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow
from synthaug.pipeline.steps.ingest import TRUTH
from synthaug.pipeline.steps.train_detector import WEIGHTS


def newest(run: Path, step: str) -> Path:
    found = [p.parent for p in (run / "steps").glob(f"{step}-*/manifest.json")]
    return max(found, key=lambda p: (p / "manifest.json").stat().st_mtime)


def looked(job: Job, run: Path, split: str) -> tuple[list[DetectionRow], float]:
    """Every image with its truth and what was found in it, and the CPU milliseconds per image."""
    folder = newest(run, "ingest") / split
    table = parquet.open_table(folder)
    aside = folder / TRUTH
    truth = parquet.open_table(aside if aside.exists() else folder, pixels=False)
    detector = load_labeller(job, Folder.at(newest(run, "train_detector")), WEIGHTS)
    began = time.process_time()
    rows = [
        DetectionRow.of(i, scene.with_objects(truth[i].objects), found)
        for i, scene, found in detect(detector, table, range(len(table)), job.pseudo_label.batch)
    ]
    return rows, 1000 * (time.process_time() - began) / len(rows)


def main() -> None:
    run, views = Path(sys.argv[1]), sys.argv[2:] or ["plain", "flip", "flip,0.8,1.25"]
    job = load_job(run / "job.yaml")
    categories = parquet.open_table(newest(run, "ingest") / "validation").categories
    errors, numbers = (
        ("ECE as scored", "calibrated"),
        ("precision", "recall", "F1", "F1, mean over classes"),
    )
    print(f"| {' | '.join(('views', 'judged on', 'AP50', 'ms', *errors, 'rule', *numbers))} |")
    print("|---" * 11 + "|")
    for view in views:
        words = view.split(",")
        scales = tuple(float(word) for word in words if word not in ("plain", "flip"))
        how = replace(job.pseudo_label, flip="flip" in words, scales=scales)
        rules = [
            Rule(name, how.threshold, how.precision, how.min_truths) for name in calibration.RULES
        ]
        looking = replace(job, pseudo_label=how)
        rows, cost = looked(looking, run, "validation")
        matches = calibration.match(rows, len(categories))
        held = calibration.cross_validate(
            matches, rules, how.folds, seed_for(job.seed, "calibrate")
        )
        assert held is not None
        show(view, "validation", rows, cost, categories, matches, held.probability, held.counts)
        if (newest(run, "ingest") / "unlabelled" / TRUTH).exists():
            rows, cost = looked(looking, run, "unlabelled")
            other, learnt = calibration.match(rows, len(categories)), calibration.fit(matches)
            counts = {
                r.name: calibration.count(other, calibration.choose(matches, learnt, r))
                for r in rules
            }
            show(
                view,
                "unlabelled",
                rows,
                cost,
                categories,
                other,
                learnt.probability(other.label, other.score),
                counts,
            )


def show(view, split, rows, cost, categories, matches, probability, counts) -> None:  # type: ignore[no-untyped-def]
    evaluator = DetectionEvaluator(categories)
    for row in rows:
        evaluator.add(row)
    errors = [
        calibration.reliability(p, matches.right)["ece"] for p in (matches.score, probability)
    ]
    first = (
        f"{view} | {split} | {evaluator.result().values['AP50']:.3f} | {cost:.0f} | "
        f"{errors[0]:.3f} | {errors[1]:.3f}"
    )
    for rule, counted in counts.items():
        told = calibration.ratios(counted.sum(0))
        macro = np.mean([calibration.ratios(c)["f1"] for c in counted if c[0] + c[2]])
        numbers = " | ".join(f"{told[key]:.3f}" for key in ("precision", "recall", "f1"))
        print(f"| {first} | {rule} | {numbers} | {macro:.3f} |", flush=True)
        first = " | | | | |"


if __name__ == "__main__":
    main()

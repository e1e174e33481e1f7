"""Do the detector back-ends learn the same job equally well? Trains each, measures it on the
validation images.

    python benchmarks/backends.py JOB OUT [KEY=VALUE ...]

Only the detector of the job is trained, by each back-end or by the one of `detector.backend=NAME`:
the same images in the same order, with the same augmentation and settings. Prints a table (AP as
COCO counts; seconds of the whole machine, and of this process's CPU time) and leaves
OUT/backends.json.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from synthaug import detectors
from synthaug.detectors.base import Detector
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Dataset
from synthaug.pipeline.core.seeding import seed_for
from synthaug.pipeline.execution.training import cores, device
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow
from synthaug.pipeline.steps.inputs import open_inputs

COLUMNS = ("AP", "AP50", "AP75", "seconds", "CPU seconds", "predict ms/image")


def trained(job: Job, table: Dataset) -> tuple[Detector, float, float]:
    """Train as the pipeline does; return the detector, wall seconds and CPU seconds."""
    plan, config = job.detector.training, job.detector.config
    seed = seed_for(job.seed, "train_detector")
    module = detectors.backend(job.detector.backend)
    detector: Detector = module.build(
        config, len(table.categories), seed=seed % 2**31, device=device()
    )
    training = detector.training(plan.steps, seed % 2**31)
    draw = draw_for([table], plan.batch, seed, plan.sampling, plan.repeat_threshold)
    batches = detector_batches(table, draw, masks=config.masks)
    batches(0)  # nothing that happens once is timed
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(plan.steps):
        losses = training.step(step, batches(step))
        if (step + 1) % 50 == 0:
            text = "  ".join(f"{name} {float(value):.3f}" for name, value in losses.items())
            print(
                f"{job.detector.backend} {step + 1}/{plan.steps}  {text}",
                file=sys.stderr,
                flush=True,
            )
    training.finish()
    return detector, time.perf_counter() - wall, time.process_time() - cpu


def measured(
    detector: Detector, table: Dataset, batch: int
) -> tuple[dict[str, float | None], float]:
    """Return COCO's numbers on a table, and the milliseconds an image took."""
    evaluator = DetectionEvaluator(table.categories)
    spent = 0.0
    for start in range(0, len(table), batch):
        scenes = [table[i] for i in range(start, min(start + batch, len(table)))]
        images = [decode(scene) for scene in scenes]
        began = time.perf_counter()
        found = detector.predict(images)
        spent += time.perf_counter() - began
        for i, (scene, p) in enumerate(zip(scenes, found, strict=True), start):
            evaluator.add(DetectionRow.of(i, scene, p))
    return dict(evaluator.result().values), 1000 * spent / len(table)


def versions() -> str:
    found = []
    for package in ("torch", "torchvision", "detectron2"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # detectron2 may run from its source folder
            module = sys.modules.get(package)
            found.append(f"{package} {getattr(module, '__version__', 'absent')}")
    return ", ".join(found)


def main() -> None:
    path, out, *overrides = sys.argv[1:]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    print(
        "| back-end | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|",
        flush=True,
    )
    results = {}
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("detector.backend=")]
    for name in chosen or detectors.DETECTORS:
        job = load_job(Path(path), [*overrides, f"detector.backend={name}"])
        detectors.check_installed(name)
        torch.set_num_threads(job.detector.training.threads or cores())
        splits = open_inputs(job).splits
        detector, wall, cpu = trained(job, splits["labelled"])
        values, ms = measured(detector, splits["validation"], job.pseudo_label.batch)
        detector.save(folder / f"{name}.safetensors", {})
        results[name] = {**values, "seconds": wall, "cpu_seconds": cpu, "predict_ms": ms}
        shown = [f"{values[key] or 0:.3f}" for key in COLUMNS[:3]]
        print(
            f"| {name} | " + " | ".join([*shown, f"{wall:.0f}", f"{cpu:.0f}", f"{ms:.0f}"]) + " |",
            flush=True,
        )
    (folder / "backends.json").write_text(
        json.dumps({"versions": versions(), "results": results}, indent=1)
    )
    print(f"\n{versions()}; {torch.get_num_threads()} CPU threads, {device()}")


if __name__ == "__main__":
    main()

"""What the three samplings do for the rare classes of the toy world, and what an evaluation costs.

    python -m benchmarks.detector_sampling [STEPS [SEED ...]]

One detector (`backbone: small`) per sampling and seed, batches of 8, one thread; measured on all
validation images.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from synthaug.detectors.torchvision_rcnn import Config, build
from synthaug.pipeline.batches.detector import detector_batches
from synthaug.pipeline.batches.draw import draw_for
from synthaug.pipeline.core.scene import class_counts
from synthaug.pipeline.detection.evaluation import Validation
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scores.detection.evaluator import frequency_groups

BATCH = 8
THRESHOLD = (
    0.1  # of repeat factors: share of images; 0.01, the default, repeats nothing in a set of 1600
)
GROUPS = ("head", "middle", "tail")


def main() -> None:
    steps, *seeds = [int(word) for word in sys.argv[1:]] or [300]
    torch.set_num_threads(1)
    train, held_out = (toy.read(toy.Config(split), Path()) for split in ("train", "val"))
    found = class_counts(train, len(train.categories)).tolist()
    groups = frequency_groups(
        [n if c.isthing else 0 for n, c in zip(found, train.categories, strict=True)]
    )
    validation = Validation(held_out)
    print(
        "| sampling | seed | AP50 | "
        + " | ".join(f"{g} AP50" for g in GROUPS)
        + " | training CPU s | evaluation CPU s |"
    )
    print("|---" * (len(GROUPS) + 5) + "|")
    for seed in seeds or [0]:
        for sampling in ("uniform", "repeat_factor", "class_balanced"):
            detector = build(Config(), len(train.categories), seed=seed)
            training = detector.training(steps, seed)
            batches = detector_batches(train, draw_for([train], BATCH, seed, sampling, THRESHOLD))
            began = time.process_time()
            for index in range(steps):
                training.step(index, batches(index))
            trained = time.process_time()
            with training.averaged():
                result = validation.result(detector)
            measured = time.process_time()
            parts = " | ".join(f"{result.mean_over(groups[g], 'AP50') or 0.0:.3f}" for g in GROUPS)
            seconds = f"{trained - began:.0f} | {measured - trained:.1f}"
            print(
                f"| {sampling} | {seed} | {result.values['AP50']:.3f} | {parts} | {seconds} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

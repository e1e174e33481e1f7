"""Which rule turns a generator's soft masks into the best instance masks?

    python benchmarks/mask_rules.py RUN [LAYOUTS]

RUN is the output folder of a finished run whose validation images have true masks (the toy set).
Synthesises its validation layouts and compares, rule by rule: the mean IoU of the masks with the
true masks of the real images of the same layouts (an object's outline is not given by its box, so
this is a measure of shape, not of agreement), and AP50 of the real-trained detector's boxes against
the tight boxes of the masks (do the boxes we would export lie where a detector sees the objects?).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from synthaug.detectors import DETECTORS
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core import masks as mask_tools
from synthaug.pipeline.core.scene import Provenance, Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.scores.detection.evaluator import DetectionEvaluator, DetectionRow
from synthaug.pipeline.steps.synthesize import load_synthesizer
from synthaug.pipeline.synthesis.layouts import LayoutSynthesizer, resized_sample, sample_layouts
from synthaug.pipeline.synthesis.masks_from_levels import resolve, whole_pixels

Masks = NDArray[np.bool_]
Soft = NDArray[np.float32]
LEAST = 16  # visible pixels; objects with fewer are dropped by every rule
BATCH = 16


def boxes_only(soft: Soft, boxes: Soft, _isthing: Masks) -> Masks:
    """The whole layout box."""
    filled = np.zeros(soft.shape, bool)
    for mask, (x0, y0, x1, y1) in zip(filled, whole_pixels(boxes, *soft.shape[1:]), strict=True):
        mask[y0:y1, x0:x1] = True
    return filled


def highest(soft: Soft, boxes: Soft, isthing: Masks, share: float = 0.0) -> Masks:
    """Each pixel to the object whose mask is highest there, where it is above a share of its own
    maximum.
    """
    inside = np.where(boxes_only(soft, boxes, isthing), soft, 0)
    winner = inside.argmax(0) == np.arange(len(soft))[:, None, None]
    least = np.maximum(share * inside.max((1, 2)), 1e-6)[:, None, None]
    won: Masks = winner & (inside >= least)
    return won


RULES: Mapping[str, Callable[[Soft, Soft, Masks], Masks]] = {
    "the whole layout box": boxes_only,
    "arg-max over all objects and stuff": highest,
    "arg-max, at least half of the mask's maximum": partial(highest, share=0.5),
    "level set reaching 0.7 of the box": partial(resolve, reach=0.7),
    "level set reaching 0.8 of the box": partial(resolve, reach=0.8),
    "level set reaching 0.9 of the box (ours)": partial(resolve, reach=0.9),
}


def newest(run: Path, step: str) -> Path:
    found = [p.parent for p in (run / "steps").glob(f"{step}-*/manifest.json")]
    return max(found, key=lambda p: p.stat().st_mtime)


def main() -> None:
    run, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 128
    torch.set_num_threads(1)
    job = load_job(run / "job.yaml")
    table = parquet.open_table(newest(run, "ingest") / "validation")
    synthesizer = load_synthesizer(Folder.at(str(newest(run, "train_generator"))), job)
    assert isinstance(synthesizer, LayoutSynthesizer), "for generators of layouts"
    detector = importlib.import_module(DETECTORS[job.detector.backend]).load(
        run / "checkpoints/detector.safetensors"
    )
    things = [i for i, c in enumerate(table.categories) if c.isthing]
    judges = {name: DetectionEvaluator(table.categories, things) for name in RULES}
    ious: dict[str, list[float]] = {name: [] for name in RULES}
    for start in range(0, min(count, len(table)), BATCH):
        places = range(start, min(start + BATCH, count, len(table)))
        made = sample_layouts(synthesizer.sampler, [planned(table[i], i) for i in places])
        seen = detector.predict(list(made.images[: len(places)]))
        for k, (place, found) in enumerate(zip(places, seen, strict=True)):
            scene = table[place]
            size = (scene.height, scene.width)
            assert made.images.shape[1:3] == size, "for runs whose images have the generator's size"
            objects, thing = scene.objects, scene.objects.isthing
            soft, true = (
                resized_sample(made, k, len(objects), size)[1],
                mask_tools.decode_all(objects, size),
            )
            for name, rule in RULES.items():
                masks = rule(soft, objects.boxes, thing)
                overlap, union = (
                    (masks & true).sum((1, 2)),
                    np.maximum((masks | true).sum((1, 2)), 1),
                )
                ious[name] += (overlap / union)[thing].tolist()
                keep = thing & (masks.sum((1, 2)) >= LEAST)
                labels = objects.category[keep].astype(np.int64)
                tight = mask_tools.tight_boxes(masks[keep])
                crowd = np.zeros(len(labels), bool)
                judges[name].add(
                    DetectionRow(
                        place, *size, tight, labels, crowd, found.boxes, found.labels, found.scores
                    )
                )
    print(
        f"{min(count, len(table))} validation layouts\n\n"
        "| rule | IoU with the true mask | AP50 of tight boxes |\n|---|---|---|"
    )
    for name in RULES:
        print(
            f"| {name} | {np.mean(ious[name]):.2f} | {judges[name].result().values['AP50']:.2f} |"
        )


def planned(scene: Scene, seed: int) -> Scene:
    return Scene(
        scene.image_id,
        scene.height,
        scene.width,
        scene.image,
        scene.objects,
        None,
        Provenance(seed, "", "", "", ""),
    )


if __name__ == "__main__":
    main()

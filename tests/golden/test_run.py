"""A whole run in which every training does one step and the detectors' answers are known.

What each training is given (seed, steps, first and last batch), what each step counted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from synthaug.detectors.base import Prediction
from synthaug.detectors.rcnn_detector import RcnnDetector
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Objects
from synthaug.pipeline.execution import training as loop
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.run import HOUSEKEEPING, Console, run_some
from synthaug.pipeline.scoring import engine
from synthaug.pipeline.steps import STEPS
from tests.golden.recorded import Row, digest, flattened, hold
from tests.golden.test_training_steps import weights_of
from tests.paths import JOBS

SPLITS = {"train": 9, "unlabelled": 6, "val": 8, "test": 5}
UNTIL_GENERATOR = tuple(STEPS)[: tuple(STEPS).index("train_generator") + 1]
COMMON = [
    *("cluster.executor=serial", "seed=4", "data.labelled=toy:train?count=9&size=48"),
    *("data.unlabelled=toy:unlabelled?count=6&size=48", "data.validation=toy:val?count=8&size=48"),
    *("detector.steps=3", "detector.batch=3", "detector.sampling=repeat_factor"),
    *("self_train.steps=4", "self_train.batch=2", "self_train.unlabelled_batch=2"),
    *("pseudo_label.flip=false", "pseudo_label.min_precision=0.05", "pseudo_label.folds=3"),
]
RUNS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "pasted": (
        [
            *("generator.system=copy_paste", "plan.count=7", "plan.shard=4", "plan.jitter=0"),
            *("verify.max_failed=1", "verify.missing=keep", "verify.min_truths=3"),
            *("score.names=[dap,mask_iou,cas]", "score.dap.resamples=20", "score.cas.steps=3"),
            *("trial.seeds=2", "trial.steps=4", "trial.headroom=report", "trial.tune_seeds=1"),
            *("trial.evaluation=toy:test?count=5&size=48", "trial.confirm_seeds=2"),
            *("trial.repeat_thresholds=[0.3]", "trial.curve=[0.5]", "trial.real_last=0.5"),
            "report.samples=2",
        ],
        tuple(STEPS),
    ),
    "painted": (
        [
            *("generator.steps=4", "generator.sampling=class_balanced"),
            *("detector.evaluate_every=3", "detector.evaluation_images=3", "detector.keep=best"),
        ],
        UNTIL_GENERATOR,
    ),
    "filled": (
        [
            *("generator.system=fill", "generator.steps=4", "generator.resolutions=[16,32]"),
            *("generator.width=8", "generator.embedding=16", "generator.min_objects=0"),
        ],
        UNTIL_GENERATOR,
    ),
    "joint": (
        [
            *("joint.enabled=true", "joint.batch=2", "joint.unlabelled_batch=2"),
            *("joint.synthetic=2", "joint.synthetic_from=0.5", "pseudo_label.calibrate=false"),
            *("generator.steps=4", "generator.early_pool=true"),
        ],
        UNTIL_GENERATOR,
    ),
}
COUNTED = dict.fromkeys(RUNS, UNTIL_GENERATOR[-2:]) | {"pasted": tuple(STEPS)}
COUNTED["painted"] = UNTIL_GENERATOR
NO_RESULTS = (*HOUSEKEEPING, "looking", "resumed_from", "executor", "file", "files")


class Oracle:
    """Knows the objects of toy images by their pixels: finds most, and things that are not there.

    In other images it finds what it draws, image after image.
    """

    def __init__(self) -> None:
        self.unknown = 0
        self.truth: dict[bytes, Objects] = {}
        for split, count in SPLITS.items():
            table = toy.ToyDataset(toy.Config(split, count, size=48))
            for scene in table:
                self.truth[decode(scene).tobytes()] = scene.objects

    def predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self.found(image) for image in images]

    def found(self, image: np.ndarray) -> Prediction:
        objects = self.truth.get(image.tobytes())
        if objects is None:
            self.unknown += 1
            rng = np.random.default_rng(self.unknown)
            low = rng.random((6, 2)) * 30
            boxes = np.concatenate([low, low + 6 + 12 * rng.random((6, 2))], 1)
            labels = rng.integers(0, 8, 6)
        else:
            rng = np.random.default_rng(int(objects.id.sum()))
            seen = objects.isthing & (rng.random(len(objects)) < 0.85)
            moved = objects.boxes[seen] + rng.normal(0, 0.7, (int(seen.sum()), 4))
            boxes = np.concatenate([moved, objects.boxes[:2, [1, 0, 3, 2]] * 0.6])
            labels = np.concatenate([objects.category[seen], objects.category[:2]])
        scores = np.sort(rng.uniform(0.1, 0.99, len(labels)))[::-1]
        height, width = image.shape[:2]
        inside = np.clip(boxes, 0, [width, height, width, height])
        return Prediction(
            inside.astype(np.float32), labels.astype(np.int64), scores.astype(np.float32)
        )


class Spy:
    """Writes down what every training is given, and lets it do its last step alone."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.number = 0
        self.name = ""

    def load_state(self, training: Any, folder: Any) -> int:
        self.number += 1
        whole = folder.uri.rsplit("/steps/", 1)[-1]
        self.name = f"training {self.number} in {re.sub(r'-?[0-9a-f]{12}', '', whole)}"
        modules: Mapping[str, nn.Module] = training.modules
        kind = type(training).__name__
        start = [[name, *digest(weights_of(module))] for name, module in modules.items()]
        self.rows[f"{self.name}: {kind}"] = start
        own = training.step
        place = self.name

        def step(index: int, batch: Any) -> Any:
            losses = own(index, batch)
            self.rows[f"{place}: losses"] = {key: float(loss) for key, loss in losses.items()}
            return losses

        training.step = step
        return 0

    def ahead(
        self, batches: Callable[[int], Any], start: int, stop: int
    ) -> Iterator[tuple[int, Any]]:
        self.rows[f"{self.name}: steps"] = [start, stop]
        self.rows[f"{self.name}: first batch"] = content(batches(0))
        last = batches(stop - 1)
        self.rows[f"{self.name}: last batch"] = content(last)
        yield stop - 1, last


def content(batch: Any) -> Row:
    """Return a batch of any kind as digests of its arrays, and its words and numbers."""
    if isinstance(batch, Tensor | np.ndarray):
        if batch.size == 0 if isinstance(batch, np.ndarray) else batch.numel() == 0:
            return []
        scale = 255 if str(batch.dtype).endswith("uint8") else 1
        values = np.asarray(batch.cpu() if isinstance(batch, Tensor) else batch, np.float64)
        return digest(np.nan_to_num(values / scale, nan=-1))
    if dataclasses.is_dataclass(batch):
        return {f.name: content(getattr(batch, f.name)) for f in dataclasses.fields(batch)}
    if isinstance(batch, list | tuple):
        return [content(part) for part in batch]
    if isinstance(batch, bool | int | float | str):
        return batch
    return "" if batch is None else type(batch).__name__


@pytest.mark.parametrize("name", RUNS)
def test_a_run_does_what_it_did(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, steps = RUNS[name]
    spy = Spy()
    oracle = Oracle()
    assert engine.load_state is loop.load_state, "it reads trained networks by its own name"
    monkeypatch.setattr(loop, "load_state", spy.load_state)
    monkeypatch.setattr(loop, "_ahead", spy.ahead)
    monkeypatch.setattr(
        RcnnDetector, "predict", lambda _self, images, scale=1.0: oracle.predict(images)
    )
    job = load_job(JOBS / "smoke.yaml", [*COMMON, *words], str(tmp_path / "run"))
    done = run_some(job, Console(lambda _: None, lambda *_: None), steps)
    hold(f"run_{name}_trainings", spy.rows, rel=1e-2, least=1e-3)
    counted: dict[str, Row] = {}
    for step in COUNTED[name]:
        manifest = done[step].manifest
        kept = {key: row for key, row in manifest.items() if key not in NO_RESULTS}
        counted |= flattened(kept, f"{step}: ")
    hold(f"run_{name}_manifests", results(counted), rel=1e-2, least=1e-3)


def results(rows: dict[str, Row]) -> dict[str, Row]:
    """Return rows without digests, times, places and what a network that learnt has measured."""
    kept = {}
    for key, row in rows.items():
        if isinstance(row, str) and re.search(r"\b[0-9a-f]{12,64}\b|/tmp/", row):
            continue
        if re.search(r"sha256|seconds|looking|per_s|version|scores: cas|: shards|bytes", key):
            continue
        kept[key] = row
    return kept

"""Every AP of the house beside pycocotools on the data set as it is written.

Crowds, ignore regions, an empty image.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug import detectors
from synthaug.detectors.base import Prediction
from synthaug.detectors.rcnn_config import Config as DetectorConfig
from synthaug.pipeline.config.schema import Verify
from synthaug.pipeline.core.scene import Category, Dataset, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.detection.evaluation import evaluate as evaluate_detector
from synthaug.pipeline.detection.inference import detect_rows
from synthaug.pipeline.formats.coco.write import write as write_coco
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.scores.detection import dap
from synthaug.pipeline.scores.detection.evaluator import KEYS, DetectionRow
from synthaug.pipeline.trial.evaluation import evaluate as evaluate_trial
from synthaug.pipeline.verification.policy import apply_policy
from synthaug.pipeline.verification.verdicts import KEPT, MISSING, Verdicts
from tests.pipeline.formats import samples
from tests.pipeline.formats.samples import CAR, PERSON, Thing
from tests.score_inputs import score_inputs

LEVEL = 40  # gray levels between an image of the samples and the next
PICTURES = (
    (
        Thing((4, 4, 44, 60)),
        Thing((60, 8, 150, 60), iscrowd=True),
        Thing((10, 70, 30, 84), CAR),
    ),
    (),
    (Thing((0, 0, 30, 30)), Thing((40, 10, 120, 100), CAR), Thing((125, 20, 155, 90), CAR, True)),
    (Thing((20, 20, 110, 110)), Thing((120, 5, 150, 35), PERSON, True)),
)


@pytest.fixture(autouse=True)
def large_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the samples' images room for objects of COCO's three sizes."""
    monkeypatch.setattr(samples, "HEIGHT", 120)
    monkeypatch.setattr(samples, "WIDTH", 160)


class Oracle:
    """Finds objects a little beside their places, some twice, much inside crowds, and some that are
    not there.
    """

    def __init__(self, table: Dataset) -> None:
        rng = np.random.default_rng(7)
        self._predictions = [imperfect(scene.objects, rng) for scene in table]

    def predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self._predictions[round(float(image.mean()) / LEVEL)] for image in images]


def imperfect(objects: Any, rng: np.random.Generator) -> Prediction:
    """Return detections of the objects of one image, best first."""
    boxes, labels = [], []
    for box, category, crowd in zip(
        objects.boxes, objects.category.tolist(), objects.iscrowd.tolist(), strict=True
    ):
        x1, y1, x2, y2 = box
        if crowd:
            for number in range(3):
                left = x1 + number * (x2 - x1) / 4
                boxes.append([left, y1, left + (x2 - x1) / 3, y2])
                labels.append(category)
        for _ in range(2):
            boxes.append(box + rng.normal(0, 3, 4))
            labels.append(category)
    for category in {0, *objects.category.tolist()}:
        boxes.append([100, 90, 140, 115])
        labels.append(category)
    drawn = np.clip(np.array(boxes, np.float32), 0, 160)
    drawn[:, 2:] = np.maximum(drawn[:, 2:], drawn[:, :2] + 2)
    scores = np.sort(np.round(rng.uniform(0.1, 1, len(labels)), 2))[::-1]
    order = rng.permutation(len(labels))
    return Prediction(drawn[order], np.array(labels)[order], scores.astype(np.float32))


def read_as(name: str, folder: Path) -> Dataset:
    """Write the sample pictures in a format and read them."""
    table = samples.sample_table(*PICTURES)
    if name in ("coco", "coco_panoptic", "lvis"):  # the others have classes that no image shows
        table = SceneList((*table.categories, Category(77, "nowhere")), table.scenes)
    return open_dataset(samples.write_sample(name, table, folder), folder, key="data")


def verified(folder: Path) -> Dataset:
    """Return a run's data.

    An object that was not found and a thing without a label are ignore regions.
    """
    table = read_as("coco", folder / "real")
    scenes = []
    for index, scene in enumerate(table):
        count = len(scene.objects)
        found = np.array([[90, 70, 130, 118]], np.float32)
        prediction = Prediction(found, np.array([CAR]), np.array([0.9], np.float32))
        verdict = [None if crowd else KEPT for crowd in scene.objects.iscrowd.tolist()]
        if count > 2:
            verdict[0] = MISSING
        result = Verdicts(
            tuple(verdict),
            np.ones(count, np.float32),
            np.ones(count, np.float32),
            scene.objects.boxes + np.float32([0, 0, 4, 4]),
            np.arange(min(count, 1)),
        )
        row = DetectionRow.of(index, scene, prediction)
        policy = Verify(missing="ignore", extra="ignore", max_failed=1.0)
        kept = apply_policy(scene, row, result, policy, index).scene
        assert kept is not None
        scenes.append(kept)
    parquet.write(SceneList(table.categories, scenes), Folder.at(folder / "data"))
    return open_dataset("parquet:data", folder, key="data")


def table_of(name: str, folder: Path) -> Dataset:
    if name == "verified":
        return verified(folder)
    return read_as(name, folder)


def published(table: Dataset, predict: Oracle, things: list[int], folder: Path) -> Any:
    """Return pycocotools' evaluation of the data set's own COCO file."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    write_coco(table, Folder.at(folder))
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(folder / "instances.json"))
        numbers = {image["file_name"]: key for key, image in gt.imgs.items()}
        results = []
        for index, scene in enumerate(table):
            (prediction,) = predict.predict([np.full((1, 1), LEVEL * index)])
            key = next(number for file, number in numbers.items() if scene.image_id in file)
            for box, label, score in zip(
                prediction.boxes.astype(np.float64),
                prediction.labels.tolist(),
                prediction.scores.tolist(),
                strict=True,
            ):
                sides = box[2:] - box[:2]
                results.append(
                    {
                        "image_id": key,
                        "category_id": table.categories[label].id,
                        "bbox": [*box[:2].tolist(), *sides.tolist()],
                        "score": score,
                    }
                )
        evaluation = COCOeval(gt, gt.loadRes(results), "bbox")
        evaluation.params.catIds = [table.categories[c].id for c in things]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def mean_precision(evaluation: Any, k: int, iou: slice | int = slice(None)) -> float | None:
    """Return AP of the class at place k; None without truth."""
    part = evaluation.eval["precision"][iou, :, k, 0, 2]
    known = part[part > -1]
    return float(known.mean()) if known.size else None


def assert_equal(theirs: float | None, ours: float | None) -> None:
    if theirs is None or theirs < 0:
        assert ours is None
    else:
        assert ours is not None and math.isclose(theirs, ours, abs_tol=1e-9), (theirs, ours)


@pytest.mark.parametrize(
    "name", ["coco", "cityscapes", "coco_stuff_maps", "coco_panoptic", "lvis", "verified"]
)
def test_every_ap_is_that_of_pycocotools(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(name, tmp_path / "data")
    num_crowds = [int(scene.objects.iscrowd.sum()) for scene in table]
    assert sum(num_crowds) >= 3 and any(not len(scene.objects) for scene in table)
    oracle = Oracle(table)
    monkeypatch.setattr(detectors, "load", lambda path, device: oracle)
    things = [c for c, category in enumerate(table.categories) if category.isthing]
    theirs = published(table, oracle, things, tmp_path / "coco")

    inputs = score_inputs({"real": table, "synthetic": table}, detector=Path("d"))
    metric = dap.score(inputs, dap.Config(resamples=0))
    rows = list(detect_rows(oracle, table, range(len(table)), 3))
    trial = evaluate_trial(rows, table.categories, DetectorConfig())
    own = evaluate_detector(oracle, table, 2)

    assert 0.2 < theirs.stats[1] < 1
    for place, key in enumerate(KEYS):
        assert_equal(theirs.stats[place], metric.values[key])
        assert_equal(theirs.stats[place], metric.controls["real"][key])
        assert_equal(theirs.stats[place], own.values[key])
    for place, key in enumerate(("AP", "AP50", "AP75")):
        assert_equal(theirs.stats[place], trial["values"][key])
    without_objects = 0
    for k, c in enumerate(things):
        of_class = metric.per_class[table.categories[c].name]
        for key, iou in (("AP", slice(None)), ("AP50", 0), ("AP75", 5)):
            wanted = mean_precision(theirs, k, iou)
            without_objects += wanted is None
            numbers: list[Mapping[str, float | None]] = [of_class, trial["per_class"][str(c)]]
            for found in (*numbers, own.per_class[c]):
                assert_equal(wanted, found[key])
    assert without_objects


def test_detections_inside_a_crowd_count_neither_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One person is found and three detections lie inside a crowd: COCO's AP is 1."""
    picture = (Thing((4, 4, 44, 60)), Thing((60, 8, 150, 60), iscrowd=True))
    table = samples.sample_table(picture)
    boxes = [[4, 4, 44, 60], [60, 8, 90, 60], [90, 8, 120, 60], [120, 8, 150, 60]]
    prediction = Prediction(
        np.array(boxes, np.float32),
        np.full(4, PERSON),
        np.array([0.6, 0.9, 0.8, 0.7], np.float32),
    )

    class Fixed:
        def predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
            return [prediction for _ in images]

    monkeypatch.setattr(detectors, "load", lambda path, device: Fixed())
    inputs = score_inputs({"real": table, "synthetic": table}, detector=Path("d"))
    metric = dap.score(inputs, dap.Config(resamples=10))
    assert 1.0 == pytest.approx(metric.values["AP50"]) == metric.controls["real"]["AP50"]
    assert 1 == metric.card["objects"]
    without = SceneList(table.categories, [without_crowds(scene) for scene in table])
    inputs = score_inputs({"real": without, "synthetic": without}, detector=Path("d"))
    assert 0.25 == pytest.approx(dap.score(inputs, dap.Config(resamples=0)).values["AP50"])


def without_crowds(scene: Any) -> Any:
    return replace(scene, objects=scene.objects.select(~scene.objects.iscrowd))

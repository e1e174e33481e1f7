"""The scoring engine on scores of its own.

What runs once, what is resumed, what each worker gets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import (
    Category,
    Dataset,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.scores import SCORES
from synthaug.pipeline.scores.base import (
    Arrays,
    ExtractFunction,
    Extractor,
    MetricInputs,
    TableImage,
    TrainingSpec,
    missing_input,
)
from synthaug.pipeline.scores.card import Metric
from synthaug.pipeline.scoring import engine
from synthaug.pipeline.scoring.engine import ScoringJob

CALLS: list[tuple[str, list[int]]] = []  # of the extractor: table and images of each call


@dataclass(frozen=True)
class Config:
    factor: int = 1
    trains: bool = False


@dataclass(frozen=True)
class Brightness(Extractor):
    """The mean of an image."""

    name: ClassVar[str] = "brightness"

    def extract_function(self, _inputs: MetricInputs) -> ExtractFunction:
        def extract(images: Sequence[TableImage]) -> list[Arrays]:
            CALLS.append((images[0].table, [image.index for image in images]))
            return [{"mean": np.array(image.pixels().mean())} for image in images]

        return extract


class Counting:
    """A training whose weight counts its steps."""

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        self.modules = {"counter": self.module}
        self.optimizers: Mapping[str, Any] = {}

    def step(self, index: int, batch: Any) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            self.module.weight += batch
        return {"loss": torch.tensor(float(index))}


@dataclass(frozen=True)
class Counter:
    """An auxiliary model that adds the mean brightness of the real images in each of 3 steps."""

    name: str = "counter"

    def training_spec(self, inputs: MetricInputs) -> TrainingSpec:
        means = [float(r.arrays["mean"]) for r in inputs.extracted(Brightness(), "real")]
        return TrainingSpec(Counting(), lambda _: float(np.mean(means)), 3)


def score_module(name: str) -> ModuleType:
    def score(inputs: MetricInputs, config: Config) -> Metric:
        means = [float(r.arrays["mean"]) for r in inputs.extracted(Brightness(), "synthetic")]
        values: dict[str, float | None] = {"mean": config.factor * float(np.mean(means))}
        if config.trains:
            values["trained"] = inputs.trained(Counter())["counter"].weight.item()
        detector = inputs.resources.detector
        values["detector"] = float(detector.read_text()) if detector else None
        return Metric(name, values["mean"], values)

    module = ModuleType(name)
    vars(module).update(
        Config=Config,
        extractors=lambda _: (Brightness(),),
        available=lambda inputs, _: missing_input(inputs),
        score=score,
        auxiliary_models=lambda _, config: (Counter(),) if config.trains else (),
        pictures=lambda _, metric: {f"{name}.txt": str(metric["value"]).encode()},
    )
    return module


@pytest.fixture(autouse=True)
def two_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    for name in ("once", "twice"):
        monkeypatch.setitem(sys.modules, name, score_module(name))
        monkeypatch.setitem(SCORES, name, name)


def scene(name: str, level: int, source: str = "") -> Scene:
    pixels = np.full((4, 4, 3), level, np.uint8)
    origin = Provenance(0, "g", "", source, "score") if source else None
    return Scene(name, 4, 4, ImageRef(encode(pixels, "png")), Objects.build([], []), None, origin)


def open_tables(_pixels: bool = True) -> Mapping[str, Dataset]:
    categories = (Category(1, "cat"),)
    real = [scene(f"r{i}", 2 * i) for i in range(3)]
    synthetic = [scene(f"s{i}", i, f"r{i % 3}") for i in range(40)]
    return {"real": SceneList(categories, real), "synthetic": SceneList(categories, synthetic)}


def job_at(folder: Path, **changes: Any) -> ScoringJob:
    settings = {"twice": Config(2), "once": Config(1)}
    return ScoringJob(
        **{"settings": settings, "open_tables": open_tables, "folder": str(folder), **changes}
    )


def context_at(folder: Path, executor: SerialExecutor | None = None) -> Context:
    return Context(
        None,  # type: ignore[arg-type] # no job is read
        Folder.at(folder),
        {},
        executor or SerialExecutor(),
        lambda _: None,
        lambda *_: None,
    )


def test_equal_extractors_run_once_on_batches_of_a_fixed_size(tmp_path: Path) -> None:
    job = job_at(tmp_path)
    assert engine.prepare(job) == {}
    metrics = engine.measure(context_at(tmp_path), job)
    assert list(metrics) == ["twice", "once"], "in the order of the settings"
    assert metrics["once"]["value"] == 19.5
    assert metrics["twice"]["value"] == 39.0
    assert [len(images) for table, images in CALLS if table == "synthetic"] == [16, 16, 8]
    assert [images for table, images in CALLS if table == "real"] == [[0, 1, 2]]


def test_measuring_again_extracts_nothing(tmp_path: Path) -> None:
    job = job_at(tmp_path)
    engine.prepare(job)
    first = engine.measure(context_at(tmp_path), job)
    CALLS.clear()
    assert engine.measure(context_at(tmp_path), job) == first
    assert not CALLS


def test_samples_beyond_those_asked_for_are_not_extracted(tmp_path: Path) -> None:
    """The first image of each of three layouts: levels 0, 1 and 2."""
    job = job_at(tmp_path, generated=True)
    engine.prepare(job)
    metrics = engine.measure(context_at(tmp_path), job)
    assert metrics["once"]["value"] == 1.0
    assert [images for table, images in CALLS if table == "synthetic"] == [[0, 1, 2]]


def test_a_network_is_trained_on_records_before_the_score_and_once_for_all(
    tmp_path: Path,
) -> None:
    job = job_at(tmp_path, settings={"once": Config(1, True), "twice": Config(2, True)})
    engine.prepare(job)
    metrics = engine.measure(context_at(tmp_path), job)
    assert metrics["once"]["values"]["trained"] == pytest.approx(3 * 2.0)
    assert metrics["twice"]["values"]["trained"] == pytest.approx(3 * 2.0)
    assert engine.measure(context_at(tmp_path), job) == metrics, "a finished training is restored"


def test_a_network_that_was_not_trained_is_a_fault_of_ours(tmp_path: Path) -> None:
    job = job_at(tmp_path)
    engine.prepare(job)
    engine.extract(context_at(tmp_path), job)
    with job.inputs() as inputs, pytest.raises(AssertionError, match="counter is not trained"):
        inputs.trained(Counter())


def test_the_detectors_checkpoint_is_at_hand_in_every_worker(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("42")
    job = job_at(tmp_path, detector=(str(tmp_path), "weights"), detector_sha256="ab")
    engine.prepare(job)
    metrics = engine.measure(context_at(tmp_path), job)
    assert metrics["once"]["values"]["detector"] == 42
    with job.inputs() as inputs:
        assert inputs.resources.detector_sha256 == "ab"


def test_scores_that_cannot_be_had_are_named_and_left_out(tmp_path: Path) -> None:
    def without_images(_pixels: bool = True) -> Mapping[str, Dataset]:
        return {**open_tables(), "synthetic": SceneList((Category(1, "cat"),), [])}

    job = job_at(tmp_path, open_tables=without_images)
    reasons = engine.prepare(job)
    assert reasons == dict.fromkeys(("twice", "once"), "there are no synthetic images")
    assert job.without(["once"]).settings == {"twice": Config(2)}
    assert job.without(reasons).settings == {}


def test_pictures_are_written_into_the_jobs_folder(tmp_path: Path) -> None:
    job = job_at(tmp_path)
    engine.prepare(job)
    assert engine.draw(job, "once", {"value": 0.25}) == ["once.txt"]
    assert (tmp_path / "once.txt").read_text() == "0.25"


class Backwards(SerialExecutor):
    """Does the last item first, as a pool may."""

    def pool(
        self, make: Any, items: Any, most: int | None = None, gpu: bool = False
    ) -> Iterator[Any]:
        yield from super().pool(make, list(items)[::-1], most, gpu)


def test_the_order_of_workers_changes_no_number(tmp_path: Path) -> None:
    results = []
    for name, executor in (("a", SerialExecutor()), ("b", Backwards())):
        job = job_at(tmp_path / name)
        engine.prepare(job)
        results.append(engine.measure(context_at(tmp_path / name, executor), job))
    assert results[0] == results[1]

"""What every score promises, on tiny tables.

Finite numbers, a complete card, controls, the same result for other shards.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from synthaug import detectors
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Dataset, Provenance, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.toy.dataset import CATEGORIES, Config, ToyDataset
from synthaug.pipeline.scores import SCORES, USUAL, load_score
from synthaug.pipeline.scores.base import Extractor
from synthaug.pipeline.scores.card import CARD
from synthaug.pipeline.scores.classification.cas import Config as Cas
from synthaug.pipeline.scores.pairing import derangement, pair
from synthaug.pipeline.scores.segmentation.segmentation import Config as Segmentation
from synthaug.pipeline.scores.segmentation.segmenter import Own
from synthaug.pipeline.scoring import engine
from synthaug.pipeline.scoring.engine import ScoringJob
from synthaug.pipeline.scoring.summary import summary
from tests.golden.recorded import flattened, hold
from tests.score_inputs import score_inputs

SMALL = {
    "width": 4,
    "fpn_channels": 4,
    "image_size": 64,
    "anchor_sizes": (8, 16),
    "box_head": 8,
    "backbone": "small",
}
TINY: dict[str, Any] = {  # settings of scores whose defaults take long
    # oneDNN of this torch frees memory twice in the backward pass of 4 channels
    "cas": Cas(width=8, steps=3, batch=8, samples_per_layout=2),
    "segmentation": Segmentation(own=Own(width=2, steps=3, batch=4, side=32)),
}
LAYOUTS, SAMPLES = 20, 2


@functools.cache
def painted(split: str, count: int) -> SceneList:
    """Toy images that are painted once for all tests."""
    toy = ToyDataset(Config(split, count))
    return SceneList(CATEGORIES, [toy[index] for index in range(count)])


class Tables:
    """Toy images; the synthetic ones are other pictures under the layouts of the real ones."""

    def __init__(self, synthetic: int = LAYOUTS) -> None:
        real, other = painted("val", LAYOUTS), painted("test", LAYOUTS)
        scenes = []
        for i in range(synthetic):
            for sample in range(SAMPLES):
                shown = other[(i + sample) % LAYOUTS]
                origin = Provenance(sample, "test", "", real[i].image_id, "score")
                name = f"{real[i].image_id}~{sample}"
                scenes.append(replace(real[i], image_id=name, image=shown.image, provenance=origin))
        self.tables: dict[str, Dataset] = {
            "train": painted("train", 24),
            "real": real,
            "synthetic": SceneList(CATEGORIES, scenes),
        }

    def __call__(self, pixels: bool = True) -> Mapping[str, Dataset]:
        return self.tables


class Backwards(SerialExecutor):
    """Does the last item first, as a pool may."""

    def pool(
        self,
        make: Callable[[], Callable[[Any], Any]],
        items: Iterable[Any],
        most: int | None = None,
        gpu: bool = False,
    ) -> Iterator[Any]:
        yield from super().pool(make, list(items)[::-1], most, gpu)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge") / "detector.safetensors"
    detectors.build("torchvision", SMALL, len(CATEGORIES), seed=1).save(path, {})
    return path


def job_of(folder: Path, judge: Path | None, tables: Tables | None = None) -> ScoringJob:
    settings = {name: TINY.get(name, load_score(name).Config()) for name in SCORES}
    found = (str(judge.parent), judge.name) if judge else None
    return ScoringJob(
        settings,
        tables or Tables(),
        str(folder),
        generated=True,
        detector=found,
        detector_sha256="ab",
        card_entries={"generator": "g"},
    )


def measured(job: ScoringJob, executor: SerialExecutor) -> tuple[dict[str, Any], dict[str, str]]:
    reasons = engine.prepare(job)
    context = Context(None, Folder.at(job.folder), {}, executor, lambda _: None, lambda *_: None)  # type: ignore[arg-type]
    return engine.measure(context, job.without(reasons)), reasons


@pytest.fixture(scope="module")
def whole(
    judge: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, str]]:
    return measured(job_of(tmp_path_factory.mktemp("scores"), judge), SerialExecutor())


@pytest.fixture(scope="module")
def recut(judge: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same with smaller shards, done in another order."""
    before, engine.SHARD = engine.SHARD, engine.BATCH
    try:
        return measured(job_of(tmp_path_factory.mktemp("scores"), judge), Backwards())[0]
    finally:
        engine.SHARD = before


@pytest.mark.parametrize("name", SCORES)
def test_numbers_are_finite_and_the_card_is_complete(
    name: str, whole: tuple[dict[str, Any], dict[str, str]]
) -> None:
    found, reasons = whole
    if name in reasons:
        assert "\n" not in reasons[name] and len(reasons[name]) > 20
        return
    metric = found[name]
    json.dumps(metric, allow_nan=False)
    assert metric["name"] == name
    assert set(CARD) <= metric["card"].keys()
    assert metric["card"]["generator"] == "g"
    assert metric["values"][metric["card"]["headline_key"]] == metric["value"]
    assert metric["value"] is not None and math.isfinite(metric["value"])
    assert metric["controls"], "nothing to compare the number with"
    key = metric["card"]["headline_key"]
    assert any(key in numbers for numbers in metric["controls"].values()), (
        "no control has the headline's number"
    )
    assert name in summary(metric)


@pytest.mark.parametrize("name", SCORES)
def test_numbers_are_what_they_were(
    name: str, whole: tuple[dict[str, Any], dict[str, str]]
) -> None:
    """Recorded ones (tests/golden); networks that a score trains leave more room."""
    if name in whole[1]:
        return
    metric = whole[0][name]
    kept = {key: metric[key] for key in ("value", "values", "controls", "per_class")}
    hold(f"score_{name}", flattened(kept), rel=2e-2, least=1e-3)


@pytest.mark.parametrize("name", SCORES)
def test_other_shards_in_another_order_give_the_same(
    name: str, whole: tuple[dict[str, Any], dict[str, str]], recut: dict[str, Any]
) -> None:
    assert whole[0].get(name) == recut.get(name)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    """Without synthetic images nothing can be had; without a detector or weights some cannot.

    It is said before extraction.
    """
    assert name in engine.prepare(job_of(tmp_path, None, Tables(synthetic=0)))
    needs_detector = {"dap", "detector_features"}
    reasons = engine.prepare(job_of(tmp_path, None))
    assert name not in needs_detector or "no reference detector" in reasons[name]


def test_usual_scores_exist() -> None:
    assert set(USUAL) <= set(SCORES)


def test_pairs_follow_provenance_or_equal_ids() -> None:
    tables = Tables().tables
    real, synthetic = tables["real"], tables["synthetic"]
    pairing = pair(real, synthetic)
    assert pairing.layout.tolist() == [i for i in range(LAYOUTS) for _ in range(SAMPLES)]
    assert pairing.sample.tolist() == [0, 1] * LAYOUTS
    same = SceneList(CATEGORIES, [real[3], replace(real[1], image_id="other")])
    pairing = pair(real, same)
    assert (pairing.layout.tolist(), pairing.sample.tolist()) == ([3, -1], [0, 0])


def test_a_derangement_leaves_no_image_in_its_place() -> None:
    for count in (2, 7, 20):
        others = derangement(count, seed=3)
        assert sorted(others.tolist()) == list(range(count))
        assert not np.any(others == np.arange(count))


def test_only_the_wanted_samples_and_layouts_are_shown() -> None:
    tables = Tables().tables
    inputs = score_inputs(tables, generated=True)
    count = len(tables["synthetic"])
    extractor = replace(load_score("dap").extractors(load_score("dap").Config())[0], limit=3)
    shown = [i for i in range(count) if inputs.uses(extractor, "synthetic", i)]
    assert shown == [0, 2, 4]
    given = replace(inputs, generated=False)
    assert [i for i in range(count) if given.uses(extractor, "synthetic", i)] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_module_without_an_obligatory_part_is_named_with_the_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("brightness")
    module.Config = Cas  # type: ignore[attr-defined]
    module.score = lambda *_: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "brightness", module)
    monkeypatch.setitem(SCORES, "brightness", "brightness")
    with pytest.raises(JobError) as raised:
        load_score("brightness")
    assert str(raised.value) == (
        "score.names: brightness lacks extractors, available; "
        "pipeline/scores/__init__.py says what a score's module has"
    )


def test_no_two_extractors_share_a_name() -> None:
    """Equal names and values would let one extractor read the columns of another."""
    for name in SCORES:
        load_score(name)
    names = [one.name for one in subclasses(Extractor) if one.name]
    assert len(names) > 8
    assert len(set(names)) == len(names)


def subclasses(base: type[Extractor]) -> Iterator[type[Extractor]]:
    for child in base.__subclasses__():
        if child.__module__.startswith("synthaug."):
            yield child
            yield from subclasses(child)


def test_the_columns_of_an_extractor_do_not_depend_on_its_file() -> None:
    """The names of stored columns are part of unfinished runs.

    They change with the settings alone.
    """
    (extractor,) = load_score("dap").extractors(load_score("dap").Config())
    assert extractor.key == "detections-5a996f46b0"
    assert replace(extractor, samples=2).key != extractor.key

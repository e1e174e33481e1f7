"""Map-driven generators through the whole path.

The labels are those that were asked for, and mistakes are one line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.formats.coco import panoptic as coco_panoptic
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy.dataset import Config as ToyConfig
from synthaug.pipeline.formats.toy.dataset import ToyDataset
from synthaug.pipeline.run import Console, run
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from tests import paths

ROOT = paths.ROOT
TINY = (
    "checks=report",
    "pseudo_label.min_precision=0",
    "cluster.executor=serial",
    "data.labelled='toy:train?count=20'",
    "data.validation='toy:val?count=6'",
    "data.unlabelled='toy:unlabelled?count=4'",
    *(
        f"detector.{key}"
        for key in ("steps=2", "batch=2", "width=16", "image_size=64", "threads=1")
    ),
    *(
        f"generator.{key}"
        for key in ("steps=2", "batch=4", "width=2", "width_d=4", "threads=1", "use_pseudo=true")
    ),
    "plan.count=6",
    "plan.shard=4",
    "synthesize.size=generator",
    "score.names=[dap]",
    "report.samples=2",
)


def job_of(*overrides: str, output: str | None = None) -> Job:
    return load_job(ROOT / "jobs" / "panoptic.yaml", overrides, output)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps") / "run"
    run(job_of(*TINY, output=str(folder)), Console(lambda _: None, lambda *_: None))
    return folder


def manifest(output: Path, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        next(output.glob(f"steps/{step}-*/manifest.json")).read_text()
    )
    return found


def scenes(folder: Path) -> list[Scene]:
    table = parquet.open_table(folder)
    return [table[i] for i in range(len(table))]


def test_objects_are_those_of_the_planned_map(output: Path) -> None:
    planned = scenes(next(output.glob("steps/plan-*")))
    made = scenes(output / "data")
    assert len(made) == len(planned) == 6
    for before, after in zip(planned, made, strict=True):
        assert before.image.data is None and after.image.data is not None
        assert after.provenance is not None and before.provenance is not None
        assert after.provenance.generator == "panoptic" and len(after.provenance.checkpoint) == 64
        ids = panoptic.map_of(after)
        assert np.array_equal(ids, panoptic.map_of(before))
        assert ids.shape == (64, 64)
        shown = masks.decode_all(after.objects, ids.shape)
        for mask, segment in zip(shown, panoptic.segment_ids(after.objects), strict=True):
            assert np.array_equal(mask, ids == segment)
        assert masks.tight_boxes(shown).tolist() == after.objects.boxes.tolist()


def test_the_export_reads_back_as_coco_panoptic(output: Path) -> None:
    made = {scene.image_id: scene for scene in scenes(output / "data")}
    table = coco_panoptic.read(
        coco_panoptic.Config(
            str(output / "coco" / "panoptic.json"), images=str(output / "coco" / "images")
        )
    )
    assert len(table) == len(made)
    for i in range(len(table)):
        scene = table[i]
        same = made[Path(scene.image.path or "").stem]
        assert np.array_equal(panoptic.map_of(scene), panoptic.map_of(same))
        assert sorted(scene.objects.category.tolist()) == sorted(same.objects.category.tolist())


def test_what_has_no_map_is_counted(output: Path) -> None:
    told = manifest(output, "train_generator")
    assert told["used"] == {"labelled": 20, "pseudo_labelled": 0}
    assert told["left_out"] == {"labelled": 0, "pseudo_labelled": 4}
    assert manifest(output, "score")["validation"] == {"used": 6, "left_out": 0}
    assert manifest(output, "plan")["no_place"] >= 0


def test_a_plan_depends_on_the_index_alone(output: Path) -> None:
    from synthaug.pipeline.steps.plan import open_planner

    labelled = next(output.glob("steps/ingest-*/labelled"))
    again = open_planner(job_of(*TINY), str(labelled))
    for index, scene in enumerate(scenes(next(output.glob("steps/plan-*")))):
        if index in (1, 5):
            assert np.array_equal(panoptic.map_of(again.scene(index)), panoptic.map_of(scene))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("plan.target=deficit", "plan.target: deficit"),
        ("plan.placement=natural", "plan.placement: natural"),
        ("synthesize.compiled=true", "synthesize.compiled"),
    ],
)
def test_settings_without_use_are_refused(override: str, said: str) -> None:
    with pytest.raises(JobError, match=said) as told:
        conditioning_of(job_of(override)).check()
    assert "\n" not in str(told.value)


def test_only_maps_are_rearranged() -> None:
    from synthaug.pipeline.steps import plan

    smoke = ROOT / "jobs" / "smoke.yaml"
    with pytest.raises(JobError, match=r"plan\.rearrange: 0\.5 is for generators driven by maps"):
        plan.check(load_job(smoke, ["plan.rearrange=0.5"]))
    told, moved = plan.settings(job_of()), plan.settings(job_of("plan.rearrange=0.5"))
    assert told["plan"] == moved["plan"] and (
        told["maps"]["rearrange"],
        moved["maps"]["rearrange"],
    ) == (0.0, 0.5)


def test_data_without_maps_is_refused_in_one_line() -> None:
    class Mapless(ToyDataset):
        def __getitem__(self, index: int) -> Scene:
            return replace(super().__getitem__(index), panoptic=None)

    conditioning = conditioning_of(job_of())
    conditioning.check_data(ToyDataset(ToyConfig(count=2)))
    with pytest.raises(DatasetError, match=r"data\.labelled: no image has a panoptic map") as told:
        conditioning.check_data(Mapless(ToyConfig(count=2)))
    assert "\n" not in str(told.value)

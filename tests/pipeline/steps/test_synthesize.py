"""Synthesis in shards.

Every planned scene is finished once, and the manifest counts what the tables hold.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import plan, score, synthesize, train_generator
from tests import paths

TOY = toy.ToyDataset(toy.Config("train", count=8, size=48))


def job_of(*words: str) -> Job:
    usual = ["cluster.executor=serial", "generator.system=boxes", "plan.count=7", "plan.shard=3"]
    return load_job(paths.JOBS / "smoke.yaml", [*usual, *words])


def context_of(job: Job, folder: Path, **inputs: Output) -> Context:
    return Context(
        job, Folder.at(str(folder)), inputs, SerialExecutor(), lambda _: None, lambda *_: None
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Output]:
    """A plan of seven layouts, and a generator that paints boxes."""
    root, job = tmp_path_factory.mktemp("steps"), job_of()
    labelled = root / "ingest" / "labelled"
    parquet.write(TOY, Folder.at(str(labelled)))
    ingest = Output(Folder.at(str(root / "ingest")), {})
    pseudo = Output(Folder.at(str(root / "pseudo")), {"images": 0})
    outputs = {}
    for name, step in (("plan", plan), ("train_generator", train_generator)):
        context = context_of(job, root / name, ingest=ingest, pseudo_label=pseudo)
        outputs[name] = Output(context.folder, step.run(context))
    return outputs


def run(inputs: dict[str, Output], folder: Path, *words: str) -> dict[str, Any]:
    return synthesize.run(context_of(job_of(*words), folder, **inputs))


def scenes_of(folder: Path) -> list[Scene]:
    return list(parquet.open_table(folder))


def test_every_planned_scene_is_finished_once_in_the_plans_order(
    inputs: dict[str, Output], tmp_path: Path
) -> None:
    manifest = run(inputs, tmp_path)
    planned = list(parquet.open_table(inputs["plan"].folder))
    finished = scenes_of(tmp_path)
    assert [scene.image_id for scene in planned] == [scene.image_id for scene in finished]
    assert 7 == manifest["images"] and ["part-00000", "part-00001", "part-00002"] == list(
        manifest["shards"]
    )
    digest = inputs["train_generator"].manifest["sha256"]
    assert {digest} == {scene.provenance.checkpoint for scene in finished if scene.provenance}


def test_the_manifest_counts_objects_and_pixels_of_the_tables(
    inputs: dict[str, Output], tmp_path: Path
) -> None:
    manifest = run(inputs, tmp_path, "synthesize.min_mask_area=60")
    names = [category.name for category in toy.CATEGORIES]
    objects: Counter[str] = Counter()
    pixels: Counter[str] = Counter()
    for scene in scenes_of(tmp_path):
        for category, area in zip(scene.objects.category, scene.objects.area, strict=True):
            objects[names[category]] += 1
            pixels[names[category]] += int(area)
    assert dict(objects) == manifest["objects"]
    assert dict(pixels) == manifest["pixels"]
    assert min(scene.objects.area.min(initial=60) for scene in scenes_of(tmp_path)) >= 60
    planned = inputs["plan"].manifest["classes"]
    for name in names:
        total = manifest["objects"].get(name, 0) + manifest["dropped"].get(name, 0)
        assert planned[name]["planned"] == total
    assert sum(manifest["dropped"].values()) > 0


def test_shards_that_are_there_are_not_made_again(
    inputs: dict[str, Output], tmp_path: Path
) -> None:
    first = run(inputs, tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    (tmp_path / "part-00001.parquet").unlink()
    assert first == run(inputs, tmp_path)
    again = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert ["part-00001.parquet"] == [name for name in times if times[name] != again[name]]


def test_the_batch_is_that_of_the_job_whatever_the_shard(
    inputs: dict[str, Output], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    load = synthesize.load_synthesizer

    def spied(folder: Folder, job: Job) -> Any:
        synthesizer = load(folder, job)

        def call(planned: list[Scene], *rest: Any) -> Any:
            sizes.append(len(planned))
            return synthesizer(planned, *rest)

        return call

    monkeypatch.setattr(synthesize, "load_synthesizer", spied)
    run(inputs, tmp_path, "synthesize.batch=2")
    assert [2, 1, 2, 1, 1] == sizes


def test_only_masks_of_lostgan_are_refined_in_fewer_stages() -> None:
    synthesize.check(job_of())
    synthesize.check(job_of("generator.system=lostgan", "synthesize.refine_stages=0"))
    for words, said in (
        (("synthesize.refine_stages=0",), r"^synthesize\.refine_stages: generator\.system boxes"),
        (
            ("generator.system=lostgan", "synthesize.refine_stages=9"),
            r"^synthesize\.refine_stages: 9 is not -1",
        ),
    ):
        with pytest.raises(JobError, match=said):
            synthesize.check(job_of(*words))


def test_stages_of_refinement_are_of_the_synthesis_and_train_nothing_anew() -> None:
    usual, fewer = job_of(), job_of("synthesize.refine_stages=0")
    assert train_generator.settings(usual) == train_generator.settings(fewer)
    assert synthesize.settings(usual) != synthesize.settings(fewer)
    assert score.settings(usual) != score.settings(fewer)

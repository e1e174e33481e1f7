"""Copies among synthetic images: only pairs with a real image count, and each image once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.scene import Provenance, Scene, SceneList
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import copies
from synthaug.pipeline.steps.leaks import Hasher
from tests import paths

TOY = toy.ToyDataset(toy.Config("train", count=12))


def named(index: int, name: str) -> Scene:
    return replace(TOY[index], image_id=name)


def run(tmp_path: Path, synthetic: list[Scene]) -> tuple[dict[str, object], list[str]]:
    """Compare synthetic images with two splits.

    Scenes 0 to 2 are labelled, 1 and 3 are unlabelled.
    """
    leaks = Folder.at(str(tmp_path / "leaks"))
    splits = {
        "labelled": [named(index, f"a{index}") for index in range(3)],
        "unlabelled": [named(index, f"b{index}") for index in (1, 3)],
    }
    for split, scenes in splits.items():
        hasher = Hasher(SceneList(toy.CATEGORIES, scenes), leaks.sub(split).uri)
        hasher("part-00000", range(len(scenes)))
    origin = Provenance(1, "lostgan", "", "a0", "")
    table = SceneList(toy.CATEGORIES, [replace(scene, provenance=origin) for scene in synthetic])
    parquet.write(table, Folder.at(str(tmp_path / "synthetic")))
    synthesized = Output(Folder.at(str(tmp_path / "synthetic")), {"images": len(synthetic)})
    inputs = {"leaks": Output(leaks, {"splits": list(splits)}), "synthesize": synthesized}
    lines: list[str] = []
    job = load_job(paths.JOBS / "smoke.yaml", ["cluster.executor=serial"])
    folder = Folder.at(str(tmp_path / "copies"))
    context = Context(job, folder, inputs, SerialExecutor(), lines.append, lambda *_: None)
    return copies.run(context), lines


def test_an_image_that_is_in_two_splits_is_one_copy(tmp_path: Path) -> None:
    manifest, _ = run(tmp_path, [named(1, "s0"), named(9, "s1"), named(3, "s2")])
    assert 3 == manifest["images"] and 2 == manifest["copies"]
    assert {
        "memorised: labelled and synthetic": 1,
        "memorised: unlabelled and synthetic": 2,
    } == manifest["pairs"]


def test_synthetic_images_that_are_alike_are_no_copies(tmp_path: Path) -> None:
    manifest, lines = run(tmp_path, [named(9, "s0"), named(9, "s1")])
    assert 0 == manifest["copies"] and {} == manifest["pairs"]
    assert ["  no synthetic image is a copy of a real one"] == lines

"""Conditioning on real images: what is refused, and where the images are found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from synthaug.pipeline.synthesis.real_images import pseudo_labelled_images, real_images
from tests import paths


@pytest.mark.parametrize("system", ["copy_paste", "fill"])
@pytest.mark.parametrize("override", ["synthesize.size=generator", "synthesize.compiled=true"])
def test_settings_of_whole_images_are_refused_by_their_key(system: str, override: str) -> None:
    job = load_job(paths.JOBS / "smoke.yaml", [f"generator.system={system}", override])
    key = override.split("=")[0]
    with pytest.raises(JobError, match=f"^{key}: .*{system}"):
        conditioning_of(job).check()


def test_a_moved_run_finds_its_real_images(tmp_path: Path) -> None:
    table = toy.ToyDataset(toy.Config("train", count=2, size=48))
    labelled = tmp_path / "run" / "steps" / "ingest-1" / "labelled"
    parquet.write(table, Folder.at(str(labelled)))
    trained = Folder.at(str(tmp_path / "run" / "steps" / "train_generator-2"))
    conditioning = conditioning_of(load_job(paths.JOBS / "smoke.yaml", ["generator.system=fill"]))
    for name, content in conditioning.files([str(labelled)]).items():
        trained.write_json(name, content)

    (tmp_path / "run").rename(tmp_path / "elsewhere")
    moved = Folder.at(str(tmp_path / "elsewhere" / "steps" / "train_generator-2"))
    with_pixels, bare = real_images(moved)
    assert [scene.image_id for scene in bare] == [scene.image_id for scene in table]
    assert decode(with_pixels[1]).shape == (48, 48, 3)


def test_a_moved_run_finds_its_pseudo_labelled_images_too(tmp_path: Path) -> None:
    steps = tmp_path / "run" / "steps"
    tables = [str(steps / "ingest-1" / "labelled"), str(steps / "pseudo_label-3")]
    for number, place in enumerate(tables):
        table = toy.ToyDataset(toy.Config("train", count=2 + number, size=48))
        parquet.write(table, Folder.at(place))
    trained = Folder.at(str(steps / "train_generator-2"))
    conditioning = conditioning_of(load_job(paths.JOBS / "smoke.yaml", ["generator.system=fill"]))
    for name, content in conditioning.files(tables).items():
        trained.write_json(name, content)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    moved = Folder.at(str(tmp_path / "elsewhere" / "steps" / "train_generator-2"))
    assert [len(table) for table in pseudo_labelled_images(moved)] == [3, 3]
    assert len(real_images(moved)[0]) == 2


def test_examples_of_a_training_without_pseudo_labels_are_told(tmp_path: Path) -> None:
    trained = Folder.at(str(tmp_path / "steps" / "train_generator-2"))
    trained.write_json("bank.json", {"table": "ingest-1/labelled"})
    with pytest.raises(DatasetError, match="knew no pseudo-labelled images; set synth"):
        pseudo_labelled_images(trained)


@pytest.mark.parametrize("changes", [["generator.system=lostgan"], ["generator.examples=false"]])
def test_examples_are_asked_for_only_where_some_are_shown(changes: list[str]) -> None:
    overrides = ["generator.system=fill", *changes, "synthesize.examples=all"]
    job = load_job(paths.JOBS / "smoke.yaml", overrides)
    with pytest.raises(JobError, match=r"^synthesize\.examples: .* paints after no examples"):
        conditioning_of(job).check()

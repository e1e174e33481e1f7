"""What every entry of DETECTORS must do, however it detects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug import detectors
from synthaug.detectors.base import Sample
from tests.detectors.painted import needs

SETTINGS = {"width": 8, "fpn_channels": 16, "image_size": 64, "anchor_sizes": (16, 32), "ema": 0.9}


def samples() -> list[Sample]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 40, 3)).astype(np.uint8)
    boxes = np.array([[4, 5, 20, 30], [0, 0, 40, 50]], np.float32)
    return [
        Sample(image, boxes, np.array([0, 2], np.int64)),
        Sample(image[:, ::-1], boxes[:0], np.zeros(0, np.int64)),
    ]


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_a_detector_trains_predicts_and_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    needs(name)
    torch.set_num_threads(1)
    detector = detectors.build(name, SETTINGS, 3)
    training = detector.training(2, seed=1)
    before = {n: t.clone() for n, t in training.modules["model"].state_dict().items()}
    for index in range(2):
        losses = training.step(index, samples())
        assert all(value.ndim == 0 and not value.requires_grad for value in losses.values())
        assert np.isfinite(float(sum(losses.values())))
    training.finish()
    after = training.modules["model"].state_dict()
    assert any(not torch.equal(before[n], after[n]) for n in before)
    images = [sample.image for sample in samples()]
    expected = detector.predict(images)
    assert len(expected) == 2
    detector.save(tmp_path / "detector.safetensors", {"note": "x"})
    loaded = detectors.load(tmp_path / "detector.safetensors")
    assert loaded.num_classes == 3
    for one, other in zip(expected, loaded.predict(images), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_losses_have_a_gradient_to_images_that_are_given_with_one(name: str) -> None:
    needs(name)
    torch.set_num_threads(1)
    detector = detectors.build(name, SETTINGS, 3)
    torch.manual_seed(0)
    expected = {loss: value.item() for loss, value in detector.losses(samples()).items()}
    images = []
    for sample in samples():
        levels = torch.from_numpy(sample.image.astype(np.float32)).permute(2, 0, 1)
        images.append(levels.requires_grad_())
    torch.manual_seed(0)
    losses = detector.image_losses(images, samples())
    assert {loss: value.item() for loss, value in losses.items()} == expected
    torch.stack(list(losses.values())).sum().backward()
    for image in images:
        assert image.grad is not None and float(image.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_features_belong_to_their_image_and_disturb_nothing(name: str) -> None:
    """One vector per image, whatever else is in the batch and whatever its size.

    Predictions stay as they were.
    """
    needs(name)
    torch.set_num_threads(1)
    detector = detectors.build(name, SETTINGS, 3)
    rng = np.random.default_rng(1)
    images = [
        rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((50, 40), (48, 64), (50, 40))
    ]
    before = detector.predict(images)
    together = detector.features(images)
    assert together.dtype == np.float32
    np.testing.assert_allclose(
        together, np.concatenate([detector.features([i]) for i in images]), rtol=1e-3, atol=1e-5
    )
    assert np.abs(together[0] - together[2]).max() > 1e-3
    after = detector.predict(images)
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", detectors.DETECTORS)
def test_features_of_a_box_are_those_of_its_place(name: str) -> None:
    """A box of the whole image has the image's features.

    What is painted elsewhere hardly matters to one.
    """
    needs(name)
    torch.set_num_threads(1)
    detector = detectors.build(name, SETTINGS, 3)
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (128, 128, 3)).astype(np.uint8)  # enters at half its size
    other = image.copy()
    other[:32, :32] = 0
    boxes = np.array([[0, 0, 128, 128], [0, 0, 32, 32], [96, 96, 128, 128]], np.float32)
    before, after = detector.box_features([image, other], [boxes, boxes])
    assert before.dtype == np.float32
    np.testing.assert_allclose(before[0], detector.features([image])[0], rtol=0.05, atol=0.01)
    change = np.abs(after - before).sum(1)
    assert change[1] > 1.5 * change[2]
    (nothing,) = detector.box_features([image], [boxes[:0]])
    assert nothing.shape == (0, before.shape[1])


def test_unknown_names_and_settings_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="'yolo' is unknown"):
        detectors.build("yolo", {}, 2)
    for name in detectors.DETECTORS:
        with pytest.raises(ValueError, match="nonsense"):
            detectors.build(name, {"nonsense": 1}, 2)

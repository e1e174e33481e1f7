"""Mean teacher.

Who learns from what, the average, the weights of the losses, collapse made visible, exact steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from synthaug.detectors import mean_teacher, torchvision_rcnn
from synthaug.detectors.augmentations import Strong
from synthaug.detectors.base import Prediction, Sample
from synthaug.detectors.mean_teacher import (
    Config,
    MeanTeacher,
    MixedBatch,
    confident_detections,
    ramp,
)
from synthaug.detectors.training import Recipe

PLAIN = Strong(scale=0, color=0, gray=0, blur=0, erase=0)
RECIPE = Recipe(
    optimizer="sgd", lr=0.1, backbone_lr=1.0, schedule="cosine", milestones=(), decay=0.1,
    warmup=0.0, weight_decay=0.0, momentum=0.0,
    clip_grad=0.0, flip=False, scale_jitter=0.0, color_jitter=0.0, ema=0.0,
)  # fmt: skip
LOSSES = ("objectness", "proposal_box", "class", "box", "mask")


class Fake:
    """A detector of two numbers.

    It sees what it is told to see, and its losses are those numbers times what it is shown.
    """

    def __init__(self, found: Prediction) -> None:
        self.num_classes, self.found = 3, found
        self.model: nn.Module = nn.Linear(1, 1)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(1.0)
        self.masked = False  # whether labelled samples, which are shown first, have masks
        self.shown: list[list[Sample]] = []

    def predict(self, images: Sequence[np.ndarray], scale: float = 1.0) -> list[Prediction]:
        assert not any(p.requires_grad for p in self.model.parameters()), (
            "only the teacher predicts"
        )
        return [self.found for _ in images]

    def losses(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        self.shown.append(list(samples))
        weight, bias = self.model.weight.sum(), self.model.bias.sum()  # type: ignore[union-attr, operator]
        count = sum(len(s.boxes) for s in samples)
        boxes = bias * any(s.box_loss is None or s.box_loss.any() for s in samples)
        values = (weight * count, boxes * 100, weight * 2 * count, boxes * 1000, bias * 10_000)
        return dict(
            zip(
                LOSSES, values if self.masked and len(self.shown) == 1 else values[:4], strict=False
            )
        )


def prediction(*scores: float) -> Prediction:
    boxes = np.array([[1, 2, 9, 12]] * len(scores), np.float32)
    return Prediction(boxes, np.arange(len(scores)) % 3, np.array(scores, np.float32))


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 20, 30, 3)).astype(np.uint8))


def sample(seed: int = 0) -> Sample:
    return Sample(images(1, seed)[0], np.array([[2, 2, 12, 15]], np.float32), np.array([1]))


def test_the_student_learns_the_sure_boxes_and_of_them_no_box_regression():
    """Gradient of weight: (1 + 2) labelled boxes + lambda * (1 + 2) pseudo-boxes.

    Of bias: the labelled losses alone.
    """
    fake = Fake(prediction(0.9, 0.8, 0.5))
    training = MeanTeacher(
        fake, RECIPE, Config(0.7, weight=2.0, ramp=0, decay=0.5, strong=PLAIN), 10, 0
    )
    told = training.step(0, MixedBatch([sample()], images(2)))
    assert [[len(s.boxes) for s in shown] for shown in fake.shown] == [[1], [2, 2]]
    rate = training.optimizers["student"].param_groups[0]["lr"]
    assert training.modules["student"].weight.item() == pytest.approx(1 - rate * (3 + 2.0 * 12))
    assert training.modules["student"].bias.item() == pytest.approx(1 - rate * 1100)
    assert told["unsupervised_class"] == 8.0
    assert told["unsupervised_box"] == told["unsupervised_proposal_box"] == 0
    assert (float(told["pseudo_boxes"]), float(told["pseudo_images"])) == (2.0, 1.0)
    assert float(told["total"]) == pytest.approx(3 + 1100 + 2 * 12)


def test_with_pseudo_boxes_all_but_masks_is_learnt():
    fake = Fake(prediction(0.9))
    training = MeanTeacher(
        fake, RECIPE, Config(ramp=0, weight=1.0, pseudo_boxes=True, strong=PLAIN), 10, 0
    )
    fake.masked = True
    told = training.step(0, MixedBatch([sample()], images(1)))
    learned = {name for name, loss in told.items() if name.startswith("unsupervised_") and loss}
    assert {f"unsupervised_{name}" for name in LOSSES[:4]} == learned
    assert float(told["mask"]) == 10_000 and told["unsupervised_mask"] == 0


def test_the_teacher_is_the_average_of_all_students_in_float64():
    fake, decay = Fake(prediction(0.9)), 0.9
    training = MeanTeacher(fake, RECIPE, Config(decay=decay, strong=PLAIN), 6, 0)
    expected = 1.0
    for index in range(6):
        training.step(index, MixedBatch([sample()], images(1)))
        expected = decay * expected + (1 - decay) * fake.model.weight.item()
    teacher = training.modules["teacher"].weight.item()
    assert teacher == pytest.approx(expected, rel=1e-5)
    assert teacher != pytest.approx(fake.model.weight.item(), rel=1e-3)
    training.finish()
    assert fake.model.weight.item() == teacher


def test_images_nothing_is_sure_in_teach_nothing_and_are_seen_in_the_log():
    fake = Fake(prediction(0.3))
    training = MeanTeacher(fake, RECIPE, Config(strong=PLAIN), 10, 0)
    told = training.step(0, MixedBatch([sample()], images(3)))
    assert len(fake.shown) == 1
    assert (float(told["pseudo_boxes"]), float(told["pseudo_images"])) == (0.0, 0.0)
    assert float(told["unsupervised_class"]) == 0.0


def test_thresholds_of_classes_replace_the_common_one():
    """Labels 0, 1, 2, 0; boxes thinner than a pixel are never targets."""
    found = prediction(0.9, 0.6, 0.3, 0.5)
    assert confident_detections(found, np.array([0.8, 0.6, 0.4], np.float32)).labels.tolist() == [
        0,
        1,
    ]
    found.boxes[1, 2] = 1.5
    assert confident_detections(found, np.array([0.8, 0.6, 0.4], np.float32)).labels.tolist() == [0]
    fake = Fake(prediction(0.9, 0.6, 0.3))
    least = np.array([0.95, 0.5, 0.2], np.float32)
    MeanTeacher(fake, RECIPE, Config(strong=PLAIN, ramp=0), 10, 0, least).step(
        0, MixedBatch([sample()], images(1))
    )
    assert fake.shown[1][0].labels.tolist() == [1, 2]


def test_the_unsupervised_weight_rises_to_one_and_without_ramp_is_one():
    rises = [ramp(i, 20) for i in range(25)]
    assert rises == sorted(rises)
    assert rises[0] == pytest.approx(np.exp(-5))
    assert (rises[20:], ramp(0, 0)) == ([1.0] * 5, 1.0)


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 1.1), ("weight", -1.0), ("decay", 1.0), ("ramp", 2.0)]
)
def test_a_bad_setting_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        Config(**{name: value})


def real() -> torchvision_rcnn.RcnnDetector:
    torch.set_num_threads(1)
    config = torchvision_rcnn.Config(
        width=8, fpn_channels=16, image_size=64, anchor_sizes=(16, 32), lr=1e-3
    )
    return torchvision_rcnn.build(config, 3, seed=0)


def test_a_real_step_depends_on_seed_and_index_alone_and_leaves_torchs_generator() -> None:
    """Two fresh trainings agree bit for bit, another step index differs, and nobody outside
    notices.
    """
    results = []
    for index in (3, 3, 4):
        detector = real()
        training = MeanTeacher(
            detector,
            detector.config.recipe(),
            Config(threshold=0.05, ramp=0, decay=0.9),
            10,
            seed=7,
        )
        torch.manual_seed(len(results))
        state = torch.random.get_rng_state()
        told = training.step(index, MixedBatch([sample(1), sample(2)], images(2)))
        assert torch.equal(state, torch.random.get_rng_state())
        results.append(
            (told, {k: v.clone() for k, v in training.modules["teacher"].state_dict().items()})
        )
    first, second, other = results
    assert float(first[0]["pseudo_boxes"]) > 0
    assert {k: float(v) for k, v in first[0].items()} == {k: float(v) for k, v in second[0].items()}
    assert all(torch.equal(first[1][k], second[1][k]) for k in first[1])
    assert any(not torch.equal(first[1][k], other[1][k]) for k in first[1])


def test_the_teacher_labels_what_the_student_sees(monkeypatch) -> None:
    """The weak view may be mirrored.

    The teacher's boxes belong to that view, and the strong one starts from it.
    """
    seen: list[tuple[np.ndarray, Sample]] = []
    fake = Fake(prediction(0.9))
    training = MeanTeacher(
        fake, Recipe(**{**vars(RECIPE), "flip": True}), Config(strong=PLAIN, ramp=0), 10, 0
    )
    originals = images(8)
    monkeypatch.setattr(mean_teacher, "strong", lambda s, *_: seen.append((s.image, s)) or s)
    training.step(0, MixedBatch([sample()], originals))
    mirrored = [
        not np.array_equal(view, image) for (view, _), image in zip(seen, originals, strict=True)
    ]
    assert 0 < sum(mirrored) < 8
    for (view, target), image, turned in zip(seen, originals, mirrored, strict=True):
        np.testing.assert_array_equal(view[:, ::-1] if turned else view, image)
        np.testing.assert_array_equal(target.boxes, fake.found.boxes)


def test_the_unsupervised_weight_is_the_ramp_of_tarvainen_and_valpola():
    for index in (0, 3, 7, 19):
        assert ramp(index, 20) == pytest.approx(np.exp(-5 * (1 - index / 20) ** 2))


def test_the_ramp_covers_its_share_of_the_steps():
    """At step 2 of a ramp of 4 of 10 steps the weight is 2 exp(-5 / 4)."""
    fake = Fake(prediction(0.9))
    config = Config(weight=2.0, ramp=0.4, decay=0.5, strong=PLAIN)
    training = MeanTeacher(fake, RECIPE, config, 10, 0)
    losses = training.step(2, MixedBatch([sample()], images(1)))
    supervised = 3 + 1100
    unsupervised = 3.0
    expected = supervised + 2 * np.exp(-5 * 0.25) * unsupervised
    assert float(losses["total"]) == pytest.approx(expected, rel=1e-6)


def test_a_score_at_its_threshold_is_confident_and_boxes_of_a_pixel_stay():
    scores = prediction(0.8, 0.6)
    thresholds = np.array([0.8, 0.6, 0.5], np.float32)
    assert confident_detections(scores, thresholds).labels.tolist() == [0, 1]
    scores.boxes[0] = [1, 2, 2, 3]
    assert len(confident_detections(scores, thresholds).labels) == 2
    scores.boxes[0] = [1, 2, 9, 2.9]
    kept = confident_detections(scores, thresholds)
    assert kept.labels.tolist() == [1]
    assert kept.scores.tolist() == pytest.approx([0.6])
    assert kept.boxes.tolist() == [[1, 2, 9, 12]]


def test_without_a_weight_pseudo_labels_are_not_even_shown():
    fake = Fake(prediction(0.9))
    training = MeanTeacher(fake, RECIPE, Config(weight=0.0, ramp=0, strong=PLAIN), 10, 0)
    losses = training.step(0, MixedBatch([sample()], images(1)))
    assert len(fake.shown) == 1
    assert float(losses["pseudo_boxes"]) == 1.0


def test_the_teacher_never_learns_by_gradient():
    fake = Fake(prediction(0.9))
    training = MeanTeacher(fake, RECIPE, Config(ramp=0, decay=0.0, strong=PLAIN), 10, 0)
    training.step(0, MixedBatch([sample()], images(1)))
    teacher, student = training.modules["teacher"], training.modules["student"]
    assert teacher is not student
    for parameter in teacher.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert torch.equal(teacher.weight, student.weight)

"""Detections become layouts, layouts samples: thresholds, mirrors, padding."""

from __future__ import annotations

import numpy as np
import torch

from synthaug.detectors.base import Prediction
from synthaug.generators.base import Layouts, TrainingBatch
from synthaug.pipeline.batches.joint import Unlabelled
from synthaug.pipeline.batches.layouts import LayoutFilter
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene
from synthaug.pipeline.detection.calibration import Calibration, Curve, Threshold
from synthaug.pipeline.joint.labels import LabelRules, joined, pseudo_labelled, samples_of

HALF = Threshold(0.5, "class")
NEVER = Threshold(None, "unshown")
ANY = LayoutFilter(max_objects=8)


def unlabelled(mirror: bool = False) -> Unlabelled:
    """Return an image of 20 x 10 pixels whose left half is white."""
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = 255
    resized = np.zeros((4, 4, 3), np.uint8)
    resized[:, :2] = 255
    scene = Scene("a", 10, 20, ImageRef(b"", ""), Objects.build([], np.zeros((0, 4))))
    return Unlabelled(scene, image, resized, mirror)


def detections(*found: tuple[int, float]) -> Prediction:
    """Return detections of classes and scores, all in the left half."""
    boxes = np.array([[0, 0, 10, 10]] * len(found), np.float32).reshape(-1, 4)
    labels = np.array([label for label, _ in found], np.int64)
    scores = np.array([score for _, score in found], np.float32)
    return Prediction(boxes, labels, scores)


def test_only_what_reaches_its_threshold_is_a_label_with_its_probability() -> None:
    found = detections((0, 0.9), (0, 0.4), (1, 0.9))
    scene = unlabelled().scene
    plain = LabelRules([HALF, NEVER], None, ANY).label(scene, found)
    assert plain.objects.category.tolist() == [0]
    assert plain.objects.score.tolist() == [np.float32(0.9)]
    assert plain.objects.source == ("pseudo",)
    always_half = Curve(slope=0.05, offset=-0.05 * float(np.log(9)))
    curves = Calibration(Curve(), [always_half, Curve()])
    calibrated = LabelRules([HALF, NEVER], curves, ANY).label(scene, found)
    assert calibrated.objects.score.tolist() == [np.float32(0.5)]


def test_a_mirrored_image_has_its_layout_mirrored() -> None:
    rules = LabelRules([HALF], None, ANY)
    pair = [unlabelled(), unlabelled(mirror=True)]
    batch = pseudo_labelled(pair, [detections((0, 0.8))] * 2, rules)
    assert batch is not None
    plain, mirrored = batch.layouts.boxes[:, 0].tolist()
    assert plain == [0, 0, 0.5, 1]
    assert mirrored == [0.5, 0, 1, 1]
    assert batch.layouts.labels[:, 0].tolist() == [1, 1]
    assert batch.images[0, 0, 0].tolist() == [1, 1, -1, -1]
    assert batch.images[1, 0, 0].tolist() == [-1, -1, 1, 1]


def test_images_without_a_layout_are_left_out() -> None:
    rules = LabelRules([HALF], None, LayoutFilter(max_objects=1))
    three = [unlabelled()] * 3
    empty = detections()
    two = detections((0, 0.8), (0, 0.9))
    batch = pseudo_labelled(three, [empty, detections((0, 0.8)), two], rules)
    assert batch is not None and len(batch.images) == 1
    assert pseudo_labelled(three, [empty, empty, two], rules) is None


def test_batches_are_joined_without_an_object_more() -> None:
    one = TrainingBatch(
        torch.zeros(1, 3, 4, 4),
        Layouts(torch.tensor([[2]]), torch.rand(1, 1, 4), torch.ones(1, 1)),
    )
    two = TrainingBatch(
        torch.ones(1, 3, 4, 4),
        Layouts(torch.tensor([[1, 3]]), torch.rand(1, 2, 4), torch.tensor([[0.5, 0.7]])),
    )
    both = joined(one, two)
    assert both.layouts.labels.tolist() == [[2, 0], [1, 3]]
    assert (both.layouts.boxes[0, 0] == one.layouts.boxes[0, 0]).all()
    assert (both.layouts.boxes[0, 1] < 0).all(), "a padded slot lies outside"
    assert both.num_objects() == 3
    assert both.images[:, 0, 0, 0].tolist() == [0, 1]
    backwards = joined(two, one)
    assert backwards.layouts.labels.tolist() == [[1, 3], [2, 0]]


def test_a_sample_has_the_boxes_of_its_layout_in_pixels() -> None:
    layouts = Layouts(
        torch.tensor([[3, 0], [0, 0]]),
        torch.tensor([[[0.25, 0, 0.5, 1], [-0.6, -0.6, -0.1, -0.1]]] * 2),
        torch.ones(2, 2),
    )
    images = np.zeros((2, 8, 8, 3), np.uint8)
    first, second = samples_of(images, layouts)
    assert first.labels.tolist() == [2]
    assert first.boxes.tolist() == [[2, 0, 4, 8]]
    assert second.boxes.shape == (0, 4)

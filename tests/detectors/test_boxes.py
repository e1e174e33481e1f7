"""Arithmetic on boxes against loops, torchvision and pixels."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

from synthaug.detectors.boxes import box_areas, mirror_boxes, pairwise_iou


def random_boxes(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 20, (count, 2))
    size = rng.integers(0, 15, (count, 2))  # some are empty
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def test_areas_are_width_times_height_of_each_box() -> None:
    boxes = np.array([[1, 2, 4, 9], [0, 0, 5, 0], [3, 3, 2, 5]], np.float32)
    np.testing.assert_array_equal(box_areas(boxes), [21, 0, -2])
    assert box_areas(boxes).dtype == np.float32
    assert box_areas(boxes[:0]).shape == (0,)


def test_a_mirrored_box_covers_the_mirrored_pixels() -> None:
    width = 50
    for x1, y1, x2, y2 in random_boxes(20, 0).astype(int):
        mask = np.zeros((50, width), bool)
        mask[y1:y2, x1:x2] = True
        (mirrored,) = mirror_boxes(np.array([[x1, y1, x2, y2]], np.float32), width).astype(int)
        expected = np.zeros_like(mask)
        expected[mirrored[1] : mirrored[3], mirrored[0] : mirrored[2]] = True
        np.testing.assert_array_equal(mask[:, ::-1], expected)


def test_mirroring_leaves_its_input_alone_and_twice_is_nothing() -> None:
    boxes = random_boxes(9, 1)
    before = boxes.copy()
    twice = mirror_boxes(mirror_boxes(boxes, 37), 37)
    np.testing.assert_array_equal(before, boxes)
    np.testing.assert_array_equal(before, twice)


def test_pairwise_iou_is_torchvisions_and_zero_for_two_empty_boxes() -> None:
    boxes = random_boxes(40, 2).astype(np.float64)
    boxes[:2, 2:] = boxes[:2, :2]
    expected = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).nan_to_num().numpy()
    np.testing.assert_allclose(pairwise_iou(boxes), expected, atol=1e-12)
    assert pairwise_iou(boxes)[0, 1] == 0
    assert pairwise_iou(boxes[:0]).shape == (0, 0)

"""Crops and sums of masks against the framework's own sampling and plain sums."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from synthaug.generators.nn.crops import as_slots, crop_boxes, sum_masks

BOXES = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9], [0.5, 0.4, 1.2, 0.6]])
IMAGE_OF = torch.tensor([1, 0, 1])


def test_crops_are_those_of_grid_sampling_with_aligned_corners() -> None:
    images = torch.rand(2, 3, 20, 16, generator=torch.Generator().manual_seed(0))
    steps = torch.linspace(0, 1, 7)
    expected = []
    for box, image in zip(BOXES, IMAGE_OF, strict=True):
        x = box[0] + (box[2] - box[0]) * steps
        y = box[1] + (box[3] - box[1]) * steps
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * 2 - 1
        crop = F.grid_sample(images[image : image + 1], grid[None], align_corners=True)
        expected.append(crop[0])
    made = crop_boxes(images, BOXES, IMAGE_OF, 7)
    torch.testing.assert_close(made, torch.stack(expected), rtol=0, atol=1e-5)


def test_a_crop_of_the_whole_image_at_its_size_is_the_image() -> None:
    images = torch.rand(2, 3, 8, 8)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    made = crop_boxes(images, whole, torch.tensor([1]), 8)
    torch.testing.assert_close(made, images[1:], rtol=0, atol=1e-6)


def test_no_boxes_are_no_crops() -> None:
    none = torch.zeros(0, 4)
    made = crop_boxes(torch.rand(1, 3, 8, 8), none, torch.zeros(0, dtype=torch.int64), 4)
    assert made.shape == (0, 3, 4, 4)


def test_masks_are_summed_over_the_objects_of_each_image() -> None:
    is_row = torch.tensor([[True, False, True], [False, True, False]])
    vectors, masks = torch.randn(3, 5), torch.rand(3, 4, 4)
    made = sum_masks(vectors, masks, is_row)
    planes = vectors[:, :, None, None] * masks[:, None]
    expected = torch.stack([planes[0] + planes[1], planes[2]])
    torch.testing.assert_close(made, expected)


def test_rows_lie_in_their_slots() -> None:
    is_row = torch.tensor([[False, True], [True, True]])
    made = as_slots(torch.tensor([[1.0], [2.0], [3.0]]), is_row)
    assert made[..., 0].tolist() == [[0.0, 1.0], [2.0, 3.0]]

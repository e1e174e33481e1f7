"""ImageNet's normalization and back."""

from __future__ import annotations

import torch

from synthaug.generators.nn.imagenet import MEAN, STD, from_imagenet, to_imagenet


def test_black_and_white_are_what_torchvision_makes_of_them() -> None:
    images = torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1)
    made = to_imagenet(images)[:, :, 0, 0]
    for channel in range(3):
        black, white = made[:, channel].tolist()
        assert abs(black + MEAN[channel] / STD[channel]) < 1e-6
        assert abs(white - (1 - MEAN[channel]) / STD[channel]) < 1e-6


def test_the_way_back_is_the_way_back() -> None:
    images = torch.rand(2, 3, 4, 4) * 2 - 1
    torch.testing.assert_close(from_imagenet(to_imagenet(images)), images, rtol=0, atol=1e-6)

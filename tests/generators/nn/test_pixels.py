from __future__ import annotations

import numpy as np
import torch

from synthaug.generators.nn.pixels import as_array, to_pixels


def test_the_range_of_networks_becomes_that_of_pixels():
    values = [-1.0, 0.0, 1.0, -2.0, 3.0, 0.003]  # the last two thirds of a step above the middle
    images = torch.tensor(values).view(1, 1, 2, 3).expand(1, 3, 2, 3)
    pixels = to_pixels(images)
    assert (1, 2, 3, 3) == pixels.shape
    assert np.uint8 == pixels.dtype
    assert [0, 128, 255, 0, 255, 128] == pixels[0, :, :, 0].ravel().tolist()


def test_rounding_is_to_the_nearest_level():
    levels = torch.tensor([10.4, 10.6])
    images = (levels / 127.5 - 1).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert [10, 11] == to_pixels(images)[0, 0, :, 1].tolist()


def test_channels_come_last_in_memory_of_their_own_order():
    pixels = torch.arange(24, dtype=torch.uint8).view(1, 3, 2, 4)
    array = as_array(pixels)
    assert array.flags["C_CONTIGUOUS"]
    assert [0, 8, 16] == array[0, 0, 0].tolist()
    assert [7, 15, 23] == array[0, 1, 3].tolist()

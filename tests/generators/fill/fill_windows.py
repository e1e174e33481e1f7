"""Small windows and networks for the tests of the in-filler."""

from __future__ import annotations

import numpy as np
import torch

from synthaug.generators.base import Photo
from synthaug.generators.fill.config import Config, Loop
from synthaug.generators.fill.network import FillNetwork
from synthaug.generators.fill.windows import (
    EXAMPLE_CHANNELS,
    NUM_AUGMENTATIONS,
    NUM_SIZES,
    Windows,
)

CLASSES = 3
SMALL = Config(resolutions=(16, 32), width=8, embedding=16, heads=2, flow_steps=3)
LOOP = Loop(dropout=0.0, warmup=2, lr=3e-3, precision="float32")


def random_windows(count: int, side: int = 16, seed: int = 0) -> Windows:
    """Return windows of noise whose middle is to be painted."""
    rng = torch.Generator().manual_seed(seed)
    region = torch.zeros(count, 1, side, side)
    region[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    return Windows(
        pixels=torch.rand(count, 3, side, side, generator=rng) * 2 - 1,
        region=region,
        box=region.clone(),
        neighbours=torch.randint(0, CLASSES + 1, (count, side, side), generator=rng),
        labels=torch.randint(0, CLASSES, (count,), generator=rng),
        sizes=torch.randn(count, NUM_SIZES, generator=rng),
        augmentations=torch.zeros(count, NUM_AUGMENTATIONS),
        example=torch.rand(count, EXAMPLE_CHANNELS, side, side, generator=rng),
    )


def random_network(seed: int = 0, num_classes: int = CLASSES) -> FillNetwork:
    """Return a small network that is not silent, as a fresh one is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FillNetwork(SMALL, num_classes)
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def random_photo(seed: int, height: int = 40, width: int = 60, count: int = 3) -> Photo:
    """Return a photo of noise with some objects of 8 to 16 pixels."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, [width - 16, height - 16], (count, 2))
    sides = rng.uniform(8, 16, (count, 2))
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Photo(image, rng.integers(0, CLASSES, count), boxes)

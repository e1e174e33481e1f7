"""Images of networks as arrays of pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Return images [B, 3, H, W] in [-1, 1] as pixels [B, H, W, 3]."""
    values = (images + 1) * 127.5
    levels = values.round().clamp(0, 255)
    return as_array(levels.to(torch.uint8))


def as_array(pixels: Tensor) -> NDArray[np.uint8]:
    """Return pixels [B, 3, H, W] uint8 as an array [B, H, W, 3]."""
    channels_last = pixels.permute(0, 2, 3, 1).cpu()
    return np.ascontiguousarray(channels_last.numpy())

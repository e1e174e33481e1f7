"""Windows of real images in which a region is to be painted.

Legend: B windows, S pixels per side, K classes. A window's class is 0 .. K - 1, or K for
"background, no object", or K + 1 for "any": the network is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

NUM_SIZES = 3  # log of width and height of the box, and of the pixel scale of the window
NUM_AUGMENTATIONS = 4  # brightness, and tint of red, green and blue
EXAMPLE_CHANNELS = 4  # colors of an example, and where it is


@dataclass(frozen=True)
class Windows:
    """A batch of square windows, each with one region to paint."""

    pixels: (
        Tensor  # [B, 3, S, S] float32 in [-1, 1]; what lies in the region is only used in training
    )
    region: Tensor  # [B, 1, S, S] float32, 1 where the network paints
    box: Tensor  # [B, 1, S, S] float32, 1 inside the tight box of the object
    # [B, S, S] int64: class + 1 of the object in front, other than the painted; 0 = none
    neighbours: Tensor
    labels: Tensor  # [B] int64 class, K or K + 1
    sizes: Tensor  # [B, NUM_SIZES] float32
    augmentations: Tensor  # [B, NUM_AUGMENTATIONS] float32; 0 = the window as it is in the image
    # [B, EXAMPLE_CHANNELS, S, S] float32: a real object brought to the box, colors in [-1, 1] times
    # its mask in [0, 1], then the mask; 0 = no example is shown
    example: Tensor

    def __post_init__(self) -> None:
        count, _, side, _ = self.pixels.shape
        assert self.pixels.shape == (count, 3, side, side)
        one_plane = (count, 1, side, side)
        assert self.region.shape == one_plane
        assert self.box.shape == one_plane
        assert self.neighbours.shape == (count, side, side)
        assert self.labels.shape == (count,)
        assert self.sizes.shape == (count, NUM_SIZES)
        assert self.augmentations.shape == (count, NUM_AUGMENTATIONS)
        assert self.example.shape == (count, EXAMPLE_CHANNELS, side, side)

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: torch.device | str) -> Windows:
        """Return the same windows on another device."""
        return self._apply(lambda field: field.to(device))

    def select(self, index: Tensor | slice) -> Windows:
        """Return some of the windows."""
        return self._apply(lambda field: field[index])

    def relabelled(self, label: int, chosen: Tensor | None = None) -> Windows:
        """Return the windows, the chosen [B] of them (or all) with another label."""
        labels = torch.full_like(self.labels, label)
        if chosen is not None:
            labels = torch.where(chosen, labels, self.labels)
        return replace(self, labels=labels)

    def without_examples(self) -> Windows:
        """Return the windows to be filled after no example."""
        return replace(self, example=torch.zeros_like(self.example))

    @staticmethod
    def concatenate(parts: Sequence[Windows]) -> Windows:
        """Return the windows of all parts, in order."""
        values = {}
        for field in fields(Windows):
            tensors = [getattr(part, field.name) for part in parts]
            values[field.name] = torch.cat(tensors)
        return Windows(**values)

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Windows:
        changed = {}
        for field in fields(self):
            changed[field.name] = change(getattr(self, field.name))
        return Windows(**changed)

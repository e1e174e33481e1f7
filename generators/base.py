"""What every generator is: layouts in, images and masks out.

Legend: B images, O object slots per image, K label rows, H W pixels. Labels are contiguous class indices + 1, because
row 0 is the background and the padding, as in LostGAN. Boxes are xyxy, normalised by the image size to [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PAD_BOX = (-0.6, -0.6, -0.1, -0.1)  # lies outside the canvas, so a padded slot paints nothing (specs: COCO loader)


@dataclass(frozen=True)
class Layouts:
    """A batch of layouts; `scores` is the confidence p_i of each object (LostGAN-V2 eq. 15), 1 for human labels."""

    labels: Tensor  # [B, O] int64, 0 = background or padding
    boxes: Tensor  # [B, O, 4] float32 xyxy in [0, 1]
    scores: Tensor  # [B, O] float32

    def __post_init__(self) -> None:
        assert self.labels.ndim == 2 and self.boxes.shape == (*self.labels.shape, 4)
        assert self.scores.shape == self.labels.shape

    def __len__(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> Layouts:
        """Return the same layouts on another device."""
        return Layouts(self.labels.to(device), self.boxes.to(device), self.scores.to(device))

    @staticmethod
    def collate(
        labels: Sequence[NDArray[np.int64]], boxes: Sequence[NDArray[np.float32]], scores: Sequence[NDArray[np.float32]]
    ) -> Layouts:
        """Pad ragged per-image labels [n] (already + 1), boxes [n, 4] and scores [n] to the longest image of the batch."""
        slots = max(1, *(len(row) for row in labels))
        out_labels = torch.zeros(len(labels), slots, dtype=torch.int64)
        out_boxes = torch.tensor(PAD_BOX).repeat(len(labels), slots, 1)
        out_scores = torch.zeros(len(labels), slots)
        for i, (label, box, score) in enumerate(zip(labels, boxes, scores, strict=True)):
            n = len(label)
            out_labels[i, :n] = torch.from_numpy(np.asarray(label, np.int64))
            out_boxes[i, :n] = torch.from_numpy(np.asarray(box, np.float32).reshape(n, 4))
            out_scores[i, :n] = torch.from_numpy(np.asarray(score, np.float32))
        return Layouts(out_labels, out_boxes, out_scores)


@dataclass(frozen=True)
class Synthesis:
    """What a generator made of a batch of layouts."""

    images: NDArray[np.uint8]  # [B, H, W, 3] RGB
    masks: NDArray[np.float32]  # [B, O, H, W] soft mask of each object in [0, 1]; padded slots are 0


class Generator(Protocol):
    """A generator ready to produce; each image depends on its own layout and seed only."""

    resolution: tuple[int, int]  # (H, W)

    def __call__(self, layouts: Layouts, seeds: Sequence[int]) -> Synthesis:
        """Synthesise one image per layout."""
        ...


@dataclass(frozen=True)
class TrainingBatch:
    """Real images with their layouts."""

    images: Tensor  # [B, 3, H, W] float32 in [-1, 1]
    layouts: Layouts

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Return the same batch on another device."""
        return TrainingBatch(self.images.to(device), self.layouts.to(device))

    def parts(self, count: int) -> list[TrainingBatch]:
        """Cut into `count` batches of equally many images, in order; padding and memory stay shared.

        Raises ValueError when the images cannot be cut so.
        """
        size, left = divmod(len(self.layouts), count)
        if left or not size:
            raise ValueError(
                f"a batch of {len(self.layouts)} images cannot be cut into {count} equal parts; choose a number that "
                "divides it"
            )
        fields = (self.images, self.layouts.labels, self.layouts.boxes, self.layouts.scores)
        cut = zip(*(torch.split(field, size) for field in fields), strict=True)
        return [TrainingBatch(images, Layouts(*layouts)) for images, *layouts in cut]


class Trainee(Protocol):
    """A system in training: its networks and its losses; the loop (train.py) owns optimisers, EMA and phases.

    A term of the losses is a mean over the objects of its batch (labels > 0) when its name ends in `_object`, else a mean
    over its images: by this the loop weighs the terms of a batch that it learns from in parts.
    """

    networks: Mapping[str, nn.Module]  # "G" and "D"

    def forward(self, batch: TrainingBatch, rng: torch.Generator) -> Tensor:
        """Draw latents from `rng` and return fake images [B, 3, H, W] in [-1, 1], with graph."""
        ...

    def discriminator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Tensor]:
        """Weighted scalar terms of D's loss; their sum is minimised."""
        ...

    def generator_losses(self, batch: TrainingBatch, fake: Tensor) -> dict[str, Tensor]:
        """Weighted scalar terms of G's loss; their sum is minimised."""
        ...

"""What every generator is: layouts in, images and masks out.

Legend: B images, O object slots per image, K label rows, H W pixels. Labels are contiguous class indices + 1, because
row 0 is the background and the padding, as in LostGAN. Boxes are xyxy, normalised by the image size to [0, 1]. Maps have a
class index per pixel, without a row for the background: class k here is label k + 1 there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PAD_BOX = (
    -0.6,
    -0.6,
    -0.1,
    -0.1,
)  # lies outside the canvas, so a padded slot paints nothing (specs: COCO loader)


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
        labels: Sequence[NDArray[np.int64]],
        boxes: Sequence[NDArray[np.float32]],
        scores: Sequence[NDArray[np.float32]],
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
    masks: NDArray[
        np.float32
    ]  # [B, O, H, W] soft mask of each object in [0, 1]; padded slots are 0


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

    def num_objects(self) -> Tensor:
        """Return the number of objects of all images, int64 scalar."""
        return (self.layouts.labels > 0).sum()

    def parts(self, count: int) -> list[TrainingBatch]:
        """Cut into `count` batches of equally many images, in order; padding and memory stay shared.

        Raises ValueError when the images cannot be cut so.
        """
        cut = _cut(count, self.images, self.layouts.labels, self.layouts.boxes, self.layouts.scores)
        return [TrainingBatch(images, Layouts(*layouts)) for images, *layouts in cut]


def _cut(count: int, *fields: Tensor) -> list[tuple[Tensor, ...]]:
    """Cut tensors that have a row per image into `count` parts of equally many."""
    size, left = divmod(len(fields[0]), count)
    if left or not size:
        raise ValueError(
            f"a batch of {len(fields[0])} images cannot be cut into {count} equal parts; choose a number that divides it"
        )
    return list(zip(*(torch.split(field, size) for field in fields), strict=True))


@dataclass(frozen=True)
class Maps:
    """A batch of panoptic maps: what every pixel is, and which thing it belongs to."""

    labels: Tensor  # [B, H, W] int64 class indices 0 .. classes - 1; `classes` itself = don't care
    instances: Tensor  # [B, H, W] int64; only where two of them differ counts
    classes: int

    def __post_init__(self) -> None:
        assert self.labels.ndim == 3 and self.labels.shape == self.instances.shape
        assert self.labels.dtype == self.instances.dtype == torch.int64

    def __len__(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> Maps:
        """Return the same maps on another device."""
        return Maps(self.labels.to(device), self.instances.to(device), self.classes)

    @staticmethod
    def collate(
        labels: Sequence[NDArray[np.int64]], instances: Sequence[NDArray[np.int64]], classes: int
    ) -> Maps:
        """Stack per-image labels and instances [H, W]; ValueError names a label that is no class and not don't-care."""
        stacked = torch.from_numpy(np.stack([np.asarray(row, np.int64) for row in labels]))
        wrong = stacked[(stacked < 0) | (stacked > classes)]
        if wrong.numel():
            raise ValueError(
                f"labels: {int(wrong[0])} is not a class index 0 to {classes - 1}, nor {classes} for don't care; "
                "map the labels of the data set to class indices first"
            )
        return Maps(
            stacked,
            torch.from_numpy(np.stack([np.asarray(row, np.int64) for row in instances])),
            classes,
        )


@dataclass(frozen=True)
class MapBatch:
    """Real images with their maps."""

    images: Tensor  # [B, 3, H, W] float32 in [-1, 1]
    maps: Maps
    weights: Tensor | None = (
        None  # [B, H, W] float32: how sure the label of each pixel is; None = all are
    )

    def num_objects(self) -> Tensor:
        """Return the number of objects; map-driven losses have no term per object, so each image counts as one."""
        return self.maps.labels.new_tensor(len(self.maps))

    def to(self, device: torch.device | str) -> MapBatch:
        """Return the same batch on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return MapBatch(self.images.to(device), self.maps.to(device), weights)

    def parts(self, count: int) -> list[MapBatch]:
        """Cut into `count` batches of equally many images, in order; ValueError when the images cannot be cut so."""
        sure = [] if self.weights is None else [self.weights]
        cut = _cut(count, self.images, self.maps.labels, self.maps.instances, *sure)
        return [
            MapBatch(images, Maps(labels, ids, self.maps.classes), *rest)
            for images, labels, ids, *rest in cut
        ]


class Batch(Protocol):
    """What the loop needs to know of a batch, whatever drives the generator."""

    @property
    def images(self) -> Tensor:
        """Real images [B, 3, H, W]."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Return the same batch on another device."""
        ...

    def num_objects(self) -> Tensor:
        """Return how many objects `_object` terms are means over, int64 scalar."""
        ...

    def parts(self, count: int) -> Sequence[Self]:
        """Cut into `count` batches of equally many images; ValueError when the images cannot be cut so."""
        ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)
AnyBatch_contra = TypeVar("AnyBatch_contra", bound=Batch, contravariant=True)


class Trainee(Protocol[AnyBatch_contra]):
    """A system in training: its networks and its losses; the loop (train.py) owns optimisers, EMA and phases.

    A term of the losses is a mean over the objects of its batch when its name ends in `_object`, a sum over its images when
    it ends in `_sum`, else a mean over its images: by this the loop weighs the terms of a batch that it learns from in
    parts. A trainee that has an attribute `generator_first`, true, has G learn before D, and D on fakes made anew.
    """

    networks: Mapping[str, nn.Module]  # "G" and "D"; any other one learns with G

    def forward(self, batch: AnyBatch_contra, rng: torch.Generator) -> Tensor:
        """Draw latents from `rng` and return fake images [B, 3, H, W] in [-1, 1], with graph."""
        ...

    def discriminator_losses(self, batch: AnyBatch_contra, fake: Tensor) -> dict[str, Tensor]:
        """Weighted scalar terms of D's loss; their sum is minimised."""
        ...

    def generator_losses(self, batch: AnyBatch_contra, fake: Tensor) -> dict[str, Tensor]:
        """Weighted scalar terms of G's loss; their sum is minimised."""
        ...

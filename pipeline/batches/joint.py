"""Batches of the joint training: for GAN and detector, and images to be labelled.

Every batch is a pure function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.boxes import Size
from synthaug.pipeline.core.scene import Dataset, Scene

if TYPE_CHECKING:
    import torch

    from synthaug.detectors.base import Sample
    from synthaug.generators.base import TrainingBatch


@dataclass(frozen=True)
class Unlabelled:
    """An image without labels, as the detector and as the GAN see it."""

    scene: Scene
    image: Bytes  # [H, W, 3] at its own size
    resized: Bytes  # [R, R, 3] at the generator's
    mirror: bool  # whether the GAN sees it mirrored


@dataclass(frozen=True)
class JointBatch:
    """Images of one step of the joint training."""

    labelled: TrainingBatch
    unlabelled: Sequence[Unlabelled]
    samples: Sequence[Sample]  # labelled images for the detector

    def to(self, device: torch.device | str) -> JointBatch:
        """Return the same batch, the GAN's images on another device."""
        return replace(self, labelled=self.labelled.to(device))


def unlabelled_images(
    table: Dataset, draw: Draw, size: Size, flip: bool
) -> Callable[[int], list[Unlabelled]]:
    """Return step -> images that nobody has labelled, also resized to (H, W)."""
    own = Pixels([table])
    resized = Pixels([table], size)

    def batch(step: int) -> list[Unlabelled]:
        images = []
        mirrored = draw.mirrored(step, flip).tolist()
        for index, mirror in zip(draw(step), mirrored, strict=True):
            scene, image = own[index]
            images.append(Unlabelled(scene, image, resized[index][1], mirror))
        return images

    return batch

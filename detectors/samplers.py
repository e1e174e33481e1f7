"""Random draws for each image by itself, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from synthaug.detectors.parallel import positions


class BoxSampler:
    """Draws up to `per_image` boxes per image, the share `positive` objects at most.

    Faster R-CNN, section 3.1.3. Does the same as torchvision's own sampler, but the draw of an
    image derives from torch's global generator and the image's position in the step's batch alone.
    """

    def __init__(self, per_image: int, positive: float) -> None:
        self.per_image = per_image
        self.max_objects = int(per_image * positive)

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return bool masks [A] per image of the objects and of the background drawn.

        `matched` has [A] per image: 1 and more for an object, 0 background, -1 neither.
        """
        seed = _draw_seed()
        objects, background = [], []
        for position, labels in zip(positions(len(matched)), matched, strict=True):
            rng = torch.Generator().manual_seed(seed + position)
            object_mask = _draw_mask(labels >= 1, self.max_objects, rng)
            remaining = self.per_image - int(object_mask.sum())
            background_mask = _draw_mask(labels == 0, remaining, rng)
            objects.append(object_mask)
            background.append(background_mask)
        return objects, background


def size_chooser(images: int) -> Callable[[Sequence[int]], int]:
    """Return a function that draws a size for each of this process's images in turn.

    It replaces `torch_choice` of torchvision's transform, which draws from the global generator
    image after image; the draw here derives from the image's position in the step's batch.
    """
    seed = _draw_seed()
    remaining = iter(positions(images))

    def choose(sizes: Sequence[int]) -> int:
        rng = torch.Generator().manual_seed(seed + next(remaining))
        index = int(torch.randint(len(sizes), (), generator=rng))
        return sizes[index]

    return choose


def _draw_seed() -> int:
    """Draw a seed from torch's global generator, the same in every process."""
    return int(torch.randint(2**62, ()))


def _draw_mask(candidates: Tensor, limit: int, rng: torch.Generator) -> Tensor:
    """Return a mask [A] of at most `limit` of the candidates [A]."""
    indices = candidates.nonzero()[:, 0]
    chosen = torch.randperm(len(indices), generator=rng)[:limit]
    mask = torch.zeros_like(candidates)
    mask[indices[chosen.to(indices.device)]] = True
    return mask

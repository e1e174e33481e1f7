"""What is drawn for each image by itself, so that it is the same however many processes share a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from synthaug.detectors.parallel import positions


class PlacedSampler:
    """Draws up to `per_image` boxes per image, at most the share `positive` of them objects (Faster R-CNN, section 3.1.3).

    What torchvision's own sampler does, but the draw of an image derives from torch's global generator and the image's place
    in the step's batch alone.
    """

    def __init__(self, per_image: int, positive: float) -> None:
        self.per_image, self.positive = per_image, positive

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per image [A], 1 and more: an object, 0: background, -1: neither; returns bool masks [A] of both, drawn."""
        base = int(torch.randint(2**62, ()))  # once a call: the same in every process
        objects, background = [], []
        for place, labels in zip(positions(len(matched)), matched, strict=True):
            rng = torch.Generator().manual_seed(base + place)
            drawn = _drawn(labels >= 1, int(self.per_image * self.positive), rng)
            objects.append(drawn)
            background.append(_drawn(labels == 0, self.per_image - int(drawn.sum()), rng))
        return objects, background


def placed_choice(images: int) -> Callable[[Sequence[int]], int]:
    """Return a function that draws one of some sizes for each of this process's images in turn, by its place likewise.

    In the place of `torch_choice` of torchvision's transform, which draws from the global generator image after image.
    """
    base, places = int(torch.randint(2**62, ())), iter(positions(images))

    def choose(sizes: Sequence[int]) -> int:
        rng = torch.Generator().manual_seed(base + next(places))
        return sizes[int(torch.randint(len(sizes), (), generator=rng))]

    return choose


def _drawn(candidates: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """Mask [A] of at most `most` of the candidates [A]."""
    places = candidates.nonzero()[:, 0]
    chosen = torch.randperm(len(places), generator=rng)[:most]
    mask = torch.zeros_like(candidates)
    mask[places[chosen.to(places.device)]] = True
    return mask

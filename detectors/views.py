"""Weak and strong views of one image: the teacher looks at the first, the student has to see the same in the second.

As in Unbiased Teacher (Liu et al., ICLR 2021, appendix: augmentation): the weak view is mirrored at most; the strong one has
other colours, lost its colours, is blurred or has holes (cutout), and here it may be mirrored and zoomed again. Every draw
comes from the generator passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from synthaug.detectors.augment import MIN_VISIBLE, augment
from synthaug.detectors.base import Sample

LUMA = np.array(
    [0.299, 0.587, 0.114], np.float32
)  # ITU-R BT.601: what red, green and blue give to a grey image
MAX_HOLES = 3


@dataclass(frozen=True)
class Strong:
    """How far the strong view may be from the weak one; 0 switches a change off."""

    scale: float = 0.3  # zoom by up to this much more or less
    colour: float = 0.4  # brightness, contrast and tint by up to this share
    grey: float = 0.2  # chance of losing the colours
    blur: float = 0.5  # chance of a Gaussian blur
    sigma: float = 0.006  # largest standard deviation of the blur, share of the longer side
    erase: float = 0.5  # chance of each of MAX_HOLES holes
    hole: float = 0.05  # largest area of a hole, share of the image

    def __post_init__(self) -> None:
        for name in ("scale", "sigma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; give 0 or more")
        for name in ("colour", "hole"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is out of range; give 0 or more and less than 1"
                )
        for name in ("grey", "blur", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is no chance; give 0 to 1")


def weak(image: NDArray[np.uint8], rng: np.random.Generator, flip: bool) -> NDArray[np.uint8]:
    """Return the image [H, W, 3], mirrored with chance 1/2 where `flip`."""
    return np.ascontiguousarray(image[:, ::-1]) if flip and rng.random() < 0.5 else image


def strong(sample: Sample, rng: np.random.Generator, views: Strong, flip: bool) -> Sample:
    """Return a strong view; boxes follow their pixels, and those of which less than MIN_VISIBLE is left are dropped."""
    seen = augment(sample, rng, flip, views.scale, views.colour)
    image = seen.image
    if rng.random() < views.grey:
        image = decoloured(image)
    if rng.random() < views.blur:
        image = blurred(image, float(rng.uniform(0.1, 1.0)) * views.sigma * max(image.shape[:2]))
    holes = [
        _hole(image.shape[:2], rng, views.hole)
        for _ in range(MAX_HOLES)
        if rng.random() < views.erase
    ]
    return erased(replace(seen, image=image), np.array(holes, np.int64).reshape(-1, 4), rng)


def decoloured(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image [H, W, 3] with three equal channels."""
    grey = np.rint(image.astype(np.float32) @ LUMA).clip(0, 255).astype(np.uint8)  # [H, W]
    return np.repeat(grey[:, :, None], 3, axis=2)


def blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Convolve the image [H, W, 3] with a Gaussian of `sigma` pixels, cut off at 3 sigma; borders are repeated."""
    reach = math.ceil(3 * sigma)
    if reach == 0:
        return image
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[
        :, None
    ]  # [3, 1, H, W]
    planes = functional.pad(planes, (reach,) * 4, mode="replicate")
    planes = functional.conv2d(
        functional.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1)
    )
    smooth: NDArray[np.uint8] = (
        planes[:, 0].permute(1, 2, 0).round().clamp(0, 255).byte().contiguous().numpy()
    )
    return smooth


def erased(sample: Sample, holes: NDArray[np.int64], rng: np.random.Generator) -> Sample:
    """Fill holes [K, 4] xyxy, whole pixels, with one random colour each; drop boxes that keep less than MIN_VISIBLE."""
    if not len(holes):
        return sample
    image, gone = sample.image.copy(), np.zeros(sample.image.shape[:2], np.bool_)
    for x1, y1, x2, y2 in holes.tolist():
        image[y1:y2, x1:x2] = rng.integers(0, 256, 3)
        gone[y1:y2, x1:x2] = True
    kept = _visible(sample.boxes, gone) >= MIN_VISIBLE
    masks = None if sample.masks is None else sample.masks[kept]
    return replace(
        sample, image=image, boxes=sample.boxes[kept], labels=sample.labels[kept], masks=masks
    )


def _visible(boxes: NDArray[np.float32], gone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share [N] of each box that is not in `gone` [H, W], to whole pixels."""
    share = np.ones(len(boxes))
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        inside = gone[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
        share[n] = 1 - inside.mean() if inside.size else 0.0
    return share


def _hole(
    size: tuple[int, int], rng: np.random.Generator, most: float
) -> tuple[int, int, int, int]:
    """Draw a rectangle xyxy of up to `most` of an image of `size` (H, W), up to three times as long as wide."""
    height, width = size
    area = rng.uniform(0, most) * height * width
    aspect = math.exp(rng.uniform(-1, 1) * math.log(3.0))
    h, w = min(height, round(math.sqrt(area * aspect))), min(width, round(math.sqrt(area / aspect)))
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return x, y, x + w, y + h

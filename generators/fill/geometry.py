"""Windows of an image: place, regions that are painted, the way back.

Boxes are xyxy in pixels of the image unless said otherwise. A window may reach beyond the image;
the image is mirrored there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LEAST_SIDE = 24  # pixels of the image: a smaller window shows too little of what is around it
LEAST_MARGIN = 1.0  # pixels of the window by which a region reaches beyond its box
SEAM_SHARE = 0.18  # width of a ring, inside and outside, in longer sides of the box
OUTLINE_SHARE = 0.09  # of a band along an outline, inside and outside, in longer sides of the box
BLUR_SIGMA = 1.0  # pixels of the image: softness of the edge with which a window goes back
REFERENCE_SIDE = 64.0  # pixels: sizes are told to the network in units of this

Image = NDArray[np.uint8]
Box = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A square of an image, in whole pixels."""

    left: int
    top: int
    side: int

    @staticmethod
    def around(box: Box, surroundings: float, shift: tuple[float, float] = (0.0, 0.0)) -> Window:
        """Return the window around a box, its longer side `surroundings` times.

        `shift` (x, y) moves the middle, in sides of the window.
        """
        left, top, right, bottom = (float(edge) for edge in box)
        longer = max(right - left, bottom - top)
        side = max(LEAST_SIDE, round(longer * surroundings))
        middle_x = (left + right) / 2 + shift[0] * side
        middle_y = (top + bottom) / 2 + shift[1] * side
        return Window(round(middle_x - side / 2), round(middle_y - side / 2), side)

    def into(self, boxes: Box, resolution: int) -> Box:
        """Return boxes [N, 4] in pixels of the window at a resolution."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        return np.asarray((boxes - corner) * (resolution / self.side), np.float32)

    def sizes(self, box: Box) -> Tensor:
        """Return what the network is told of the size of a box and of the window, [3]."""
        left, top, right, bottom = (float(edge) for edge in box)
        lengths = torch.tensor([right - left, bottom - top, float(self.side)])
        return torch.log(lengths.clamp_min(1) / REFERENCE_SIDE)


def cut(image: Image, window: Window, resolution: int) -> Tensor:
    """Return the pixels of a window as float32 [3, S, S] in [-1, 1], S the resolution."""
    height, width = image.shape[:2]
    # beyond its borders the image is mirrored, as often as needed
    rows = _mirrored(np.arange(window.top, window.top + window.side), height)
    columns = _mirrored(np.arange(window.left, window.left + window.side), width)
    inside = image[rows[:, None], columns]
    pixels = torch.from_numpy(inside).permute(2, 0, 1)[None].float()
    return _resize(pixels, resolution)[0] / 127.5 - 1


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold any index into 0 .. length - 1, the border pixel repeated once."""
    folded = index % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def inside_box(box: Box, resolution: int) -> Tensor:
    """Return 1 at the pixels [S, S] whose middles lie inside a box, else 0.

    A box of the window.
    """
    middles = torch.arange(resolution) + 0.5
    left, top, right, bottom = (float(edge) for edge in box)
    columns = (middles > left) & (middles < right)
    rows = (middles > top) & (middles < bottom)
    return (rows[:, None] & columns[None, :]).float()


def grown(box: Box, by: float) -> Box:
    """Return a box with every side moved outwards.

    Negative moves inwards, at most to the middle.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    inward = min(-by, (right - left) / 2, (bottom - top) / 2)
    return np.array([left + inward, top + inward, right - inward, bottom - inward], np.float32)


def object_region(box: Box, margin: float, resolution: int) -> Tensor:
    """Return the region [S, S] to paint for an object.

    Its box of the window and a margin around it.
    """
    longer = float(max(box[2] - box[0], box[3] - box[1]))
    return inside_box(grown(box, margin * longer + LEAST_MARGIN), resolution)


def ring_region(box: Box, resolution: int) -> Tensor:
    """Return the region [S, S] of the seam around an object: a band along its box."""
    width = SEAM_SHARE * float(max(box[2] - box[0], box[3] - box[1])) + LEAST_MARGIN
    outer = inside_box(grown(box, width), resolution)
    inner = inside_box(grown(box, -width), resolution)
    return outer - inner


def cut_mask(mask: NDArray[np.bool_], window: Window, resolution: int) -> Tensor:
    """Return the part [S, S] of a mask [H, W] that lies in a window, 0 or 1."""
    shown = mask.astype(np.uint8)[..., None].repeat(3, 2) * np.uint8(255)
    return (cut(shown, window, resolution)[0] > 0).float()


def seam_of(mask: Tensor, box: Box) -> Tensor:
    """Return the region [S, S] of the seam around a mask [S, S] with a box.

    A band along its outline.
    """
    longer = float(max(box[2] - box[0], box[3] - box[1]))
    reach = max(1, round(OUTLINE_SHARE * longer))
    size = 2 * reach + 1
    grown_mask = F.max_pool2d(mask[None, None], size, 1, reach)
    shrunk_mask = 1 - F.max_pool2d(1 - mask[None, None], size, 1, reach)
    return (grown_mask - shrunk_mask)[0, 0]


def put_back(image: Image, window: Window, painted: Tensor, region: Tensor) -> Image:
    """Return a copy of the image with the region of a painted window in it.

    The region is [S, S], the window [3, S, S]. Only the region and its soft edge change; what lies
    outside the image is dropped.
    """
    height, width = image.shape[:2]
    pixels = _resize((painted[None] + 1) * 127.5, window.side)[0].permute(1, 2, 0).numpy()
    opaque = _resize(region[None, None], window.side)
    alpha = _blur(opaque)[0, 0].numpy()[..., None]

    top, left = max(0, window.top), max(0, window.left)
    bottom = min(height, window.top + window.side)
    right = min(width, window.left + window.side)
    result = image.copy()
    if top >= bottom or left >= right:
        return result
    rows = slice(top - window.top, bottom - window.top)
    columns = slice(left - window.left, right - window.left)
    below = image[top:bottom, left:right].astype(np.float32)
    mixed = below + alpha[rows, columns] * (pixels[rows, columns] - below)
    result[top:bottom, left:right] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return result


def _resize(pixels: Tensor, side: int) -> Tensor:
    """Resize [B, C, h, w] to a side, bilinear and antialiased."""
    if pixels.shape[-2:] == (side, side):
        return pixels
    return F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)


def _blur(plane: Tensor) -> Tensor:
    """Blur [B, 1, h, w] with a small Gaussian."""
    reach = 3
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
    weights = weights / weights.sum()
    padded = F.pad(plane, [reach] * 4, mode="replicate")
    columns_blurred = F.conv2d(padded, weights.view(1, 1, 1, -1))
    return F.conv2d(columns_blurred, weights.view(1, 1, -1, 1))

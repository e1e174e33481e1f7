"""Windows of an image: place, regions that are painted, the way back.

Boxes are xyxy in pixels of the image unless said otherwise. A window may reach beyond the image;
the image is mirrored there.
"""

from __future__ import annotations

import math
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
RIM = 0.25  # of a soft ellipse: width over which it fades, in its radius
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
        side = max(LEAST_SIDE, round(longer_side(box) * surroundings))
        middle_x = (left + right) / 2 + shift[0] * side
        middle_y = (top + bottom) / 2 + shift[1] * side
        left = round(middle_x - side / 2)
        top = round(middle_y - side / 2)
        return Window(left, top, side)

    def with_side(self, side: int) -> Window:
        """Return the window of another side around the same middle."""
        moved = (self.side - side) // 2
        return Window(self.left + moved, self.top + moved, side)

    def into(self, boxes: Box, resolution: int) -> Box:
        """Return boxes [N, 4] in pixels of the window at a resolution."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        scale = resolution / self.side
        return np.asarray((boxes - corner) * scale, np.float32)

    def sizes(self, box: Box) -> Tensor:
        """Return what the network is told of the size of a box and of the window, [3]."""
        left, top, right, bottom = (float(edge) for edge in box)
        sides = [right - left, bottom - top, float(self.side)]
        lengths = torch.tensor(sides)
        return torch.log(lengths.clamp_min(1) / REFERENCE_SIDE)


def cut(image: Image, window: Window, resolution: int) -> Tensor:
    """Return the pixels of a window as float32 [3, S, S] in [-1, 1], S the resolution."""
    height, width = image.shape[:2]
    # beyond its borders the image is mirrored, as often as needed
    bottom = window.top + window.side
    right = window.left + window.side
    rows = _mirrored(np.arange(window.top, bottom), height)
    columns = _mirrored(np.arange(window.left, right), width)
    inside = image[rows[:, None], columns]
    planes = torch.from_numpy(inside).permute(2, 0, 1)
    pixels = planes[None].float()
    return resized(pixels, resolution)[0] / 127.5 - 1


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold any index into 0 .. length - 1, the border pixel repeated once."""
    folded = index % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def inside_box(box: Box, resolution: int) -> Tensor:
    """Return 1 at the pixels [S, S] whose middles lie inside a box, else 0.

    A box of the window.
    """
    inside = torch.zeros(resolution, resolution)
    rows, columns = pixels_of(box, resolution)
    inside[rows, columns] = 1
    return inside


def pixels_of(box: Box, resolution: int) -> tuple[slice, slice]:
    """Return rows and columns of the pixels whose middles lie inside a box."""
    left, top, right, bottom = (float(edge) for edge in box)
    return _between(top, bottom, resolution), _between(left, right, resolution)


def _between(low: float, high: float, resolution: int) -> slice:
    """Return the pixels whose middles, each half a pixel on, lie between two edges."""
    first = math.floor(low - 0.5) + 1
    stop = math.ceil(high - 0.5)
    inside = min(max(0, first), resolution)
    return slice(inside, max(inside, min(stop, resolution)))


def grown(box: Box, by: float) -> Box:
    """Return a box with every side moved outwards.

    Negative moves inwards, at most to the middle.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    half_width = (right - left) / 2
    half_height = (bottom - top) / 2
    inward = min(-by, half_width, half_height)
    low = [left + inward, top + inward]
    high = [right - inward, bottom - inward]
    return np.array([*low, *high], np.float32)


def longer_side(box: Box) -> float:
    """Return the longer side of a box [4]."""
    width = box[2] - box[0]
    height = box[3] - box[1]
    return float(max(width, height))


def object_region(box: Box, margin: float, resolution: int) -> Tensor:
    """Return the region [S, S] to paint for an object.

    Its box of the window and a margin around it.
    """
    reach = margin * longer_side(box) + LEAST_MARGIN
    return inside_box(grown(box, reach), resolution)


def soft_ellipse(height: int, width: int) -> NDArray[np.float32]:
    """Return the ellipse [H, W] inscribed in a box, 1 inside and 0 from its rim on."""
    rows = (np.arange(height) + 0.5) * 2 / height - 1
    columns = (np.arange(width) + 0.5) * 2 / width - 1
    radius = np.hypot(rows[:, None], columns)
    return ((1 - radius) / RIM).clip(0, 1).astype(np.float32)


def outline_region(mask: Tensor, box: Box, margin: float) -> Tensor:
    """Return the region [S, S] to paint for an object whose mask [S, S] is known.

    The mask and a margin around it, no more than the region of its box of the window; all of that
    where no pixel is in the mask.
    """
    of_box = object_region(box, margin, mask.shape[-1])
    inside = (mask > 0.5).float()
    if not inside.any():
        return of_box
    reach = math.ceil(margin * longer_side(box) + LEAST_MARGIN)
    around = F.max_pool2d(inside[None, None], 2 * reach + 1, 1, reach)[0, 0]
    return around * of_box


def ring_region(box: Box, resolution: int) -> Tensor:
    """Return the region [S, S] of the seam around an object: a band along its box."""
    width = SEAM_SHARE * longer_side(box) + LEAST_MARGIN
    outer = inside_box(grown(box, width), resolution)
    inner = inside_box(grown(box, -width), resolution)
    return outer - inner


def cut_mask(mask: NDArray[np.bool_], window: Window, resolution: int) -> Tensor:
    """Return the part [S, S] of a mask [H, W] that lies in a window, 0 or 1."""
    plane = mask.astype(np.uint8)[..., None]
    shown = plane.repeat(3, 2) * np.uint8(255)
    pixels = cut(shown, window, resolution)
    return (pixels[0] > 0).float()


def seam_of(mask: Tensor, box: Box) -> Tensor:
    """Return the region [S, S] of the seam around a mask [S, S] with a box.

    A band along its outline.
    """
    reach = max(1, round(OUTLINE_SHARE * longer_side(box)))
    size = 2 * reach + 1
    inside = mask[None, None]
    outside = 1 - inside
    grown_mask = F.max_pool2d(inside, size, 1, reach)
    shrunk_mask = 1 - F.max_pool2d(outside, size, 1, reach)
    return (grown_mask - shrunk_mask)[0, 0]


def put_back(image: Image, window: Window, painted: Tensor, region: Tensor) -> Image:
    """Return a copy of the image with the region of a painted window in it.

    The region is [S, S], the window [3, T, T]. Only the region and its soft edge change; what lies
    outside the image is dropped.
    """
    height, width = image.shape[:2]
    values = (painted[None] + 1) * 127.5
    at_side = resized(values, window.side)[0]
    pixels = at_side.permute(1, 2, 0).numpy()
    opaque = resized(region[None, None], window.side)
    soft = _blur(opaque)[0, 0].numpy()
    alpha = soft[..., None]

    top = max(0, window.top)
    left = max(0, window.left)
    bottom = min(height, window.top + window.side)
    right = min(width, window.left + window.side)
    result = image.copy()
    if top >= bottom or left >= right:
        return result
    rows = slice(top - window.top, bottom - window.top)
    columns = slice(left - window.left, right - window.left)
    below = image[top:bottom, left:right].astype(np.float32)
    difference = pixels[rows, columns] - below
    mixed = below + alpha[rows, columns] * difference
    rounded = np.clip(np.rint(mixed), 0, 255)
    result[top:bottom, left:right] = rounded.astype(np.uint8)
    return result


def resized(pixels: Tensor, side: int) -> Tensor:
    """Resize [B, C, h, w] to a side, bilinear and antialiased."""
    if pixels.shape[-2:] == (side, side):
        return pixels
    size = (side, side)
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True)


def _blur(plane: Tensor) -> Tensor:
    """Blur [B, 1, h, w] with a small Gaussian."""
    reach = 3
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    variance = BLUR_SIGMA**2
    weights = torch.exp(-(offsets**2) / (2 * variance))
    weights = weights / weights.sum()
    padded = F.pad(plane, [reach] * 4, mode="replicate")
    across = weights.view(1, 1, 1, -1)
    down = weights.view(1, 1, -1, 1)
    return F.conv2d(F.conv2d(padded, across), down)

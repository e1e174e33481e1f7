"""Augmentations of images with their boxes, masks and regions to ignore.

`augment` is for images with true boxes. `weak` and `strong` are the two views of Unbiased Teacher
(Liu et al., ICLR 2021, appendix): the teacher labels the weak one, the student learns from the
strong one. Every draw comes from the generator passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synthaug.detectors.base import Sample
from synthaug.detectors.boxes import Boxes, Flags, Floats, Image, Ints, box_areas, mirror_boxes
from synthaug.ranges import at_least, from_0_to_1, from_0_to_below_1

MIN_VISIBLE = 0.3  # of a box's area; an object of which less is visible is not recognisable
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # weights of R, G, B in grey (ITU-R BT.601)
MAX_HOLES = 3
MAX_ASPECT = 3.0  # of a hole: longer side / shorter side


@dataclass(frozen=True)
class Strong:
    """Largest changes from the weak view to the strong one; 0 switches one off."""

    scale: float = 0.3  # zoom by up to this much more or less
    color: float = 0.4  # brightness, contrast and tint by up to this share
    gray: float = 0.2  # chance of losing the colours
    blur: float = 0.5  # chance of a Gaussian blur
    sigma: float = 0.006  # largest standard deviation of the blur, share of the longer side
    erase: float = 0.5  # chance of each of three holes
    hole: float = 0.05  # largest area of a hole, share of the image

    def __post_init__(self) -> None:
        at_least(0, self, "scale", "sigma")
        from_0_to_below_1(self, "color", "hole")
        from_0_to_1(self, "gray", "blur", "erase")


def augment(
    sample: Sample,
    rng: np.random.Generator,
    flip: bool,
    scale: float,
    color: float,
) -> Sample:
    """Return a copy, mirrored with chance 1/2, zoomed and with other colors.

    It is zoomed in or out by a factor of up to 1 + `scale`, which crops or pads; the detector's own
    resize to a fixed size then enlarges or shrinks the content. Brightness, contrast and tint
    change by up to `color`.
    """
    boxes = sample.boxes.astype(np.float32)
    augmented = replace(sample, boxes=boxes)
    if flip and rng.random() < 0.5:
        augmented = _mirror(augmented)
    if scale > 0:
        augmented = _zoom(augmented, rng, scale)
    image = augmented.image
    if color > 0:
        image = _shift_colors(image, rng, color)
    masks = augmented.masks
    if masks is not None:
        masks = np.ascontiguousarray(masks)
    return replace(augmented, image=np.ascontiguousarray(image), masks=masks)


def weak(image: Image, rng: np.random.Generator, flip: bool) -> Image:
    """Return the image [H, W, 3], mirrored with chance 1/2 where `flip`."""
    if flip and rng.random() < 0.5:
        return np.ascontiguousarray(image[:, ::-1])
    return image


def strong(sample: Sample, rng: np.random.Generator, config: Strong, flip: bool) -> Sample:
    """Return a strong view of a weak one.

    Boxes follow their pixels; those of which less than MIN_VISIBLE is left are dropped.
    """
    view = augment(sample, rng, flip, config.scale, config.color)
    image = view.image
    if rng.random() < config.gray:
        image = to_grey(image)
    if rng.random() < config.blur:
        strength = float(rng.uniform(0.1, 1.0))
        sigma = strength * config.sigma * max(image.shape[:2])
        image = blur(image, sigma)
    holes = []
    for _ in range(MAX_HOLES):
        if rng.random() < config.erase:
            hole = _draw_hole(image.shape[:2], rng, config.hole)
            holes.append(hole)
    corners = np.array(holes, np.int64).reshape(-1, 4)
    return erase(replace(view, image=image), corners, rng)


def to_grey(image: Image) -> Image:
    """Return the image [H, W, 3] with three equal channels."""
    luma = image.astype(np.float32) @ LUMA  # [H, W]
    rounded = np.rint(luma).clip(0, 255)
    grey = rounded.astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def blur(image: Image, sigma: float) -> Image:
    """Convolve the image [H, W, 3] with a Gaussian of `sigma` pixels.

    The Gaussian is cut off at 3 sigma, and the pixels at the border are repeated.
    """
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return image
    kernel = _gaussian(radius, sigma)
    channels = np.ascontiguousarray(image.transpose(2, 0, 1))
    planes = torch.from_numpy(channels).float()[:, None]  # [3, 1, H, W]
    planes = F.pad(planes, (radius,) * 4, mode="replicate")
    across = kernel.view(1, 1, 1, -1)
    down = kernel.view(1, 1, -1, 1)
    planes = F.conv2d(planes, across)
    planes = F.conv2d(planes, down)
    channels_last = planes[:, 0].permute(1, 2, 0)
    rounded = channels_last.round().clamp(0, 255).byte()
    smooth: Image = rounded.contiguous().numpy()
    return smooth


def erase(sample: Sample, holes: Ints, rng: np.random.Generator) -> Sample:
    """Fill holes [K, 4] xyxy, pixels, with one random color each.

    Boxes that keep less than MIN_VISIBLE are dropped.
    """
    if not len(holes):
        return sample
    image = sample.image.copy()
    erased = np.zeros(image.shape[:2], np.bool_)
    for x1, y1, x2, y2 in holes.tolist():
        color = rng.integers(0, 256, 3)
        image[y1:y2, x1:x2] = color
        erased[y1:y2, x1:x2] = True
    kept = _visible_shares(sample.boxes, erased) >= MIN_VISIBLE
    view = replace(_select(sample, kept), image=image)
    if sample.masks is None:
        return view
    return replace(view, masks=sample.masks[kept])


def _select(sample: Sample, kept: Flags) -> Sample:
    """Return a sample with the boxes of some objects [N] and what belongs to them.

    Its masks are left without a change.
    """
    box_loss = sample.box_loss
    if box_loss is not None:
        box_loss = box_loss[kept]
    boxes, labels = sample.boxes[kept], sample.labels[kept]
    return replace(sample, boxes=boxes, labels=labels, box_loss=box_loss)


# ---- geometry ----


def _mirror(sample: Sample) -> Sample:
    """Exchange left and right."""
    width = sample.image.shape[1]
    mirrored = replace(
        sample,
        image=sample.image[:, ::-1],
        boxes=mirror_boxes(sample.boxes, width),
    )
    if sample.masks is not None:
        masks = sample.masks[:, :, ::-1]
        mirrored = replace(mirrored, masks=masks)
    if sample.ignore is not None:
        mirrored = replace(mirrored, ignore=mirror_boxes(sample.ignore, width))
    return mirrored


def _zoom(sample: Sample, rng: np.random.Generator, scale: float) -> Sample:
    """Zoom by a factor drawn log-uniformly from 1 / (1 + scale) to 1 + scale."""
    exponent = rng.uniform(-1.0, 1.0)
    factor = math.exp(exponent * math.log1p(scale))
    if factor > 1:
        return _crop(sample, factor, rng)
    return _pad(sample, factor, rng)


def _crop(sample: Sample, zoom: float, rng: np.random.Generator) -> Sample:
    """Cut a window of 1 / zoom of the image, with the objects that stay visible."""
    height, width = sample.image.shape[:2]
    crop_height = max(1, round(height / zoom))
    crop_width = max(1, round(width / zoom))
    top, left = _draw_offset(height - crop_height, width - crop_width, rng)
    rows = slice(top, top + crop_height)
    columns = slice(left, left + crop_width)
    shift = np.array([left, top, left, top], np.float32)
    limit = np.array([crop_width, crop_height, crop_width, crop_height], np.float32)

    shifted = sample.boxes - shift
    clipped = np.clip(shifted, 0, limit)
    areas = np.maximum(box_areas(shifted), 1e-6)
    sides = clipped[:, 2:] - clipped[:, :2]
    kept = box_areas(clipped) >= MIN_VISIBLE * areas
    kept &= (sides >= 1).all(axis=1)
    inside = _select(replace(sample, boxes=clipped), kept)
    cropped = replace(inside, image=sample.image[rows, columns])
    if sample.masks is not None:
        masks = sample.masks[kept, rows, columns]
        cropped = replace(cropped, masks=masks)
    if sample.ignore is not None:
        regions = np.clip(sample.ignore - shift, 0, limit)
        cropped = replace(cropped, ignore=regions[box_areas(regions) > 0])
    return cropped


def _pad(sample: Sample, zoom: float, rng: np.random.Generator) -> Sample:
    """Put the image on a canvas 1 / zoom as large; all objects stay.

    The canvas has the image's mean color.
    """
    height, width = sample.image.shape[:2]
    canvas_height = round(height / zoom)
    canvas_width = round(width / zoom)
    top, left = _draw_offset(canvas_height - height, canvas_width - width, rng)
    bottom = canvas_height - height - top
    right = canvas_width - width - left
    canvas = np.empty((canvas_height, canvas_width, 3), np.uint8)
    mean = sample.image.mean((0, 1))
    canvas[:] = mean.astype(np.uint8)
    canvas[top : top + height, left : left + width] = sample.image
    shift = np.array([left, top, left, top], np.float32)

    padded = replace(sample, image=canvas, boxes=sample.boxes + shift)
    if sample.masks is not None:
        margins = ((0, 0), (top, bottom), (left, right))
        masks = np.pad(sample.masks, margins)
        padded = replace(padded, masks=masks)
    if sample.ignore is not None:
        padded = replace(padded, ignore=sample.ignore + shift)
    return padded


def _draw_offset(rows: int, columns: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the (top, left) corner of a window with so many rows and columns to spare."""
    top = int(rng.integers(rows + 1))
    left = int(rng.integers(columns + 1))
    return top, left


def _draw_hole(
    size: tuple[int, int],
    rng: np.random.Generator,
    max_share: float,
) -> tuple[int, int, int, int]:
    """Draw a rectangle xyxy of up to `max_share` of an image of `size` (H, W)."""
    height, width = size
    area = rng.uniform(0, max_share) * height * width
    exponent = rng.uniform(-1, 1)
    aspect = math.exp(exponent * math.log(MAX_ASPECT))
    hole_height = min(height, round(math.sqrt(area * aspect)))
    hole_width = min(width, round(math.sqrt(area / aspect)))
    top, left = _draw_offset(height - hole_height, width - hole_width, rng)
    return left, top, left + hole_width, top + hole_height


def _visible_shares(
    boxes: Boxes,
    erased: Flags,
) -> Floats:
    """Return the share [N] of each box outside `erased` [H, W], to whole pixels."""
    shares = np.ones(len(boxes))
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        rows = slice(math.floor(y1), math.ceil(y2))
        columns = slice(math.floor(x1), math.ceil(x2))
        inside = erased[rows, columns]
        if inside.size:
            shares[n] = 1 - inside.mean()
        else:
            shares[n] = 0.0
    return shares


# ---- colors ----


def _shift_colors(
    image: Image,
    rng: np.random.Generator,
    color: float,
) -> Image:
    """Change brightness and contrast, and the gain of each channel half as much."""
    contrast = 1 + color * rng.uniform(-1.0, 1.0)
    brightness = 1 + color * rng.uniform(-1.0, 1.0)
    draws = rng.uniform(-1.0, 1.0, 3)
    tint = 1 + 0.5 * color * draws
    gain = brightness * tint  # [3]
    mean = float(image.mean())
    slope = (contrast * gain).astype(np.float32)
    constant = (1 - contrast) * mean * gain
    shift = constant.astype(np.float32)
    values = np.clip(image * slope + shift, 0, 255)
    shifted: Image = values.astype(np.uint8)
    return shifted


def _gaussian(radius: int, sigma: float) -> Tensor:
    """Return a Gaussian [2 * radius + 1] that sums to one."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    return weights

"""Real images with the regions that are to be painted.

And the windows made of these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from synthaug.generators.base import Edit, Example, Painting, Photo
from synthaug.generators.fill.config import Config
from synthaug.generators.fill.geometry import (
    Box,
    Image,
    Window,
    cut,
    cut_mask,
    inside_box,
    longer_side,
    object_region,
    outline_region,
    pixels_of,
    resized,
    ring_region,
    seam_of,
    soft_ellipse,
)
from synthaug.generators.fill.windows import EXAMPLE_CHANNELS, NUM_AUGMENTATIONS, Windows

KEPT_REACH = 1  # pixels of a window around an object that come into the photo with it
LEAST_MASK = 0.01  # to divide by
AGREES = 0.25  # of pixel values, -1 to 1: how far from its example a painted pixel hardly shows it
LARGE = 1.25  # a window is painted at the larger resolution from this many times the smaller on
NATIVE = (1.25, 3.0)  # sides of a window at native scale, in longer sides of its box


@dataclass(frozen=True)
class Task:
    """One window to be painted, with all that is around its region."""

    window: Window
    resolution: int
    content: Windows  # a batch of one
    kept: Tensor  # [S, S] 1 for what of the painted region comes into the photo
    shows: str  # object | background | seam


def window_around(
    box: Box, config: Config, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[Window, int]:
    """Return the window around a box [4] and the resolution at which it is seen.

    It has the pixels of the image where a window of that many shows enough of what is around the
    box, and not too much: to be resized and back costs what is finest. Other windows are resized.
    """
    window = Window.around(box, config.surroundings * zoom, shift)
    resolution = resolution_of(window, config)
    least, most = NATIVE
    longer = longer_side(box)
    if least * longer <= resolution <= most * longer:
        window = window.with_side(resolution)
    return window, resolution


def resolution_of(window: Window, config: Config) -> int:
    """Return the resolution at which a window is seen.

    The smallest at which little is lost.
    """
    for resolution in config.resolutions:
        if window.side < LARGE * resolution:
            return resolution
    return config.resolutions[-1]


def task_of(edit: Edit, number: int, image: Image, config: Config, num_classes: int) -> Task:
    """Return the window of painting `number` of an edit, in the photo as it is then."""
    photo = edit.seen_by(number, image)
    painting = edit.paintings[number]
    window, resolution = window_around(painting.box, config)
    box_there = window.into(painting.box[None], resolution)[0]
    label = painting.category
    region = object_region(box_there, config.margin, resolution)
    if painting.shows == "background":
        label = num_classes
    if painting.shows == "seam":
        label = num_classes + 1
        region = ring_region(box_there, resolution)
        if painting.mask is not None:
            region = seam_of(cut_mask(painting.mask, window, resolution), box_there)
    windows = content(photo, window, resolution, region, label, painting.box)
    kept = region
    if painting.shows == "object" and painting.example is not None:
        shown = brought_to(painting.example, box_there, resolution)
        if painting.example.mask is not None:
            region = _needed_region(painting, shown[3], window, box_there, region, config)
            kept = _kept_region(painting, shown[3], window, region)
        windows = replace(windows, example=shown[None], region=region[None, None])
    return Task(window, resolution, windows, kept, painting.shows)


def shows_example(painted: Tensor, example: Tensor) -> Tensor:
    """Return how far painted pixels show an example there, [B, S, S] in [0, 1].

    1 where an example [B, EXAMPLE_CHANNELS, S, S] lies and has the color of what was painted
    [B, 3, S, S].
    """
    colors, mask = example[:, :3], example[:, 3:]
    distance = (painted * mask - colors).abs().mean(1)
    likeness = torch.exp(-((distance / AGREES) ** 2))
    return likeness * mask[:, 0]


def with_fine_detail(painted: Tensor, task: Task, painting: Painting) -> Tensor:
    """Return a painted window [3, S, S] with what is finer than its pixels, [3, s, s].

    s is the window's side in the photo. A window is painted at S at most; of a larger object, what
    is lost between S and s is the example's, where it is what was painted. Without an example, or
    where S is not less than s, the window comes back as it is.
    """
    if painting.example is None or task.window.side <= task.resolution:
        return painted
    side = task.window.side
    box_there = task.window.into(painting.box[None], task.resolution)[0]
    in_whole_pixels = np.rint(box_there)  # as the example was shown
    fine_box = in_whole_pixels * (side / task.resolution)
    fine = brought_to(painting.example, fine_box.astype(np.float32), side)
    coarse = resized(resized(fine[None], task.resolution), side)[0]
    # colors over masks: else what ends with the mask would count as detail, a halo around it
    coarse_colors = coarse[:3] / coarse[3:].clamp_min(LEAST_MASK)
    detail = fine[:3] - fine[3:] * coarse_colors
    shown = shows_example(painted[None], task.content.example)
    weight = resized(shown[None], side)[0]
    enlarged = resized(painted[None], side)[0]
    return enlarged + weight * detail


def _needed_region(
    painting: Painting,
    mask: Tensor,
    window: Window,
    box: Box,
    of_box: Tensor,
    config: Config,
) -> Tensor:
    """Return the region [S, S] of an object that will have about a mask [S, S].

    What it leaves free stays as it is, but for an object that has to go.
    """
    region = outline_region(mask, box, config.margin)
    if painting.replaces == -1:
        return region
    if painting.mask is None:
        return of_box
    replaced = cut_mask(painting.mask, window, mask.shape[-1])
    return torch.maximum(region, outline_region(replaced, box, config.margin))


def _kept_region(painting: Painting, mask: Tensor, window: Window, region: Tensor) -> Tensor:
    """Return what of a region comes into the photo, all [S, S].

    The object, which has about the mask, what has to go, and a pixel around both. The network
    paints more, so that it sees where an object ends; there the photo's own pixels are better, and
    objects in front of the painted one are not touched.
    """
    replaced = torch.zeros_like(mask)
    if painting.mask is not None:
        replaced = cut_mask(painting.mask, window, mask.shape[-1])
    elif painting.replaces != -1:
        return region
    changed = torch.maximum((mask > 0.5).float(), replaced)
    if not changed.any():
        return region
    size = 2 * KEPT_REACH + 1
    around = F.max_pool2d(changed[None, None], size, 1, KEPT_REACH)[0, 0]
    return around * region


def content(
    photo: Photo, window: Window, resolution: int, region: Tensor, label: int, box: Box
) -> Windows:
    """Return a batch of one: a window of a photo with a region [S, S] to paint.

    The region is to show a label at a box [4].
    """
    box_there = window.into(box[None], resolution)[0]
    in_window = window.into(photo.boxes, resolution)
    neighbours = paint_boxes(photo.categories, in_window, resolution)
    return Windows(
        pixels=cut(photo.image, window, resolution)[None],
        region=region[None, None],
        box=inside_box(box_there, resolution)[None, None],
        neighbours=neighbours[None],
        labels=torch.tensor([label]),
        sizes=window.sizes(box)[None],
        augmentations=torch.zeros(1, NUM_AUGMENTATIONS),
        example=torch.zeros(1, EXAMPLE_CHANNELS, resolution, resolution),
    )


def brought_to(
    example: Example, box: Box, resolution: int, added: tuple[float, float, float] = (0, 0, 0)
) -> Tensor:
    """Return an example stretched to a box [4] of a window, [EXAMPLE_CHANNELS, S, S].

    `added` changes its colors, in [-1, 1]. What lies outside the window is cut off. Of an object
    without a mask the middle of its box is shown: towards the edges ever more is background, which
    is to be the photo's and not the example's.
    """
    left, top, right, bottom = (round(float(edge)) for edge in box)
    height = max(1, bottom - top)
    width = max(1, right - left)
    planes = _planes_of(example, added)
    size = (height, width)
    # bilinear would blur what is finest even where hardly anything is stretched
    stretched = F.interpolate(planes[None], size, mode="bicubic", antialias=True)[0]
    mask = stretched[3:].clamp(0, 1)
    colors = torch.minimum(torch.maximum(stretched[:3], -mask), mask)
    stretched = torch.cat([colors, mask])

    canvas = torch.zeros(EXAMPLE_CHANNELS, resolution, resolution)
    first_row = max(0, top)
    first_column = max(0, left)
    last_row = max(0, top + height)
    last_column = max(0, left + width)
    place = canvas[:, first_row:last_row, first_column:last_column]  # a view, cut at the far edges
    seen = stretched[:, first_row - top :, first_column - left :]
    rows, columns = place.shape[1:]
    place.copy_(seen[:, :rows, :columns])
    return canvas


def _planes_of(example: Example, added: tuple[float, float, float]) -> Tensor:
    """Return colors in [-1, 1] times the mask, and the mask, [EXAMPLE_CHANNELS, h, w]."""
    known = example.mask
    if known is None:
        known = soft_ellipse(*example.pixels.shape[:2])
    # torch takes no mirrored views
    mask = torch.from_numpy(np.ascontiguousarray(known))[None]  # [1, h, w]
    pixels = torch.from_numpy(np.ascontiguousarray(example.pixels))
    colors = pixels.permute(2, 0, 1).float() / 127.5 - 1
    changed = colors + torch.tensor(added)[:, None, None]
    shown = changed.clamp(-1, 1) * mask
    return torch.cat([shown, mask])


def paint_boxes(categories: NDArray[np.int64], boxes: Box, resolution: int) -> Tensor:
    """Paint the class + 1 of the box in front at every pixel [S, S], else 0.

    Smaller boxes are in front, so that what lies on something large is seen.
    """
    canvas = torch.zeros(resolution, resolution, dtype=torch.int64)
    widths = boxes[:, 2] - boxes[:, 0]
    heights = boxes[:, 3] - boxes[:, 1]
    areas = widths * heights
    for index in np.argsort(-areas, kind="stable"):
        rows, columns = pixels_of(boxes[index], resolution)
        canvas[rows, columns] = int(categories[index]) + 1
    return canvas

"""Real images with the objects that are to be painted into them, and the windows made of these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthaug.generators.base import Photo
from synthaug.generators.fill.config import Config
from synthaug.generators.fill.geometry import Box, Window, cut, inside_box, object_region
from synthaug.generators.fill.windows import NUM_AUGMENTATIONS, Windows

LARGE = 1.25  # a window is painted at the larger resolution from this many times the smaller on


@dataclass(frozen=True)
class Task:
    """One window to be painted: which object of which image, with all that is around it."""

    window: Window
    resolution: int
    content: Windows  # a batch of one


def resolution_of(window: Window, config: Config) -> int:
    """Return the resolution at which a window is seen: the smallest at which little is lost."""
    for resolution in config.resolutions:
        if window.side < LARGE * resolution:
            return resolution
    return config.resolutions[-1]


def insertion(photo: Photo, category: int, box: Box, config: Config) -> Task:
    """Return the window in which an object of a category is to be painted at a box [4]."""
    window = Window.around(box, config.surroundings)
    resolution = resolution_of(window, config)
    box_there = window.into(box[None], resolution)[0]
    region = object_region(box_there, config.margin, resolution)
    return Task(window, resolution, content(photo, window, resolution, region, category, box))


def content(
    photo: Photo, window: Window, resolution: int, region: Tensor, label: int, box: Box
) -> Windows:
    """Return a batch of one: a window of a photo whose region [S, S] is to show a label at a box [4]."""
    box_there = window.into(box[None], resolution)[0]
    neighbours = paint_boxes(photo.categories, window.into(photo.boxes, resolution), resolution)
    return Windows(
        pixels=cut(photo.image, window, resolution)[None],
        region=region[None, None],
        box=inside_box(box_there, resolution)[None, None],
        neighbours=neighbours[None],
        labels=torch.tensor([label]),
        sizes=window.sizes(box)[None],
        augmentations=torch.zeros(1, NUM_AUGMENTATIONS),
    )


def paint_boxes(categories: NDArray[np.int64], boxes: Box, resolution: int) -> Tensor:
    """Return the class + 1 of the box in front at every pixel [S, S], 0 where there is none.

    Smaller boxes are in front, so that what lies on something large is seen.
    """
    canvas = torch.zeros(resolution, resolution, dtype=torch.int64)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for index in np.argsort(-areas, kind="stable"):
        canvas[inside_box(boxes[index], resolution) > 0] = int(categories[index]) + 1
    return canvas

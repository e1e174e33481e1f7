"""Windows to learn from, drawn from photos.

Objects, background, and seams around objects. Learning to paint background where no object is lets
the same noise be filled with and without an object; learning seams lets what was pasted be joined
to its surroundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from synthaug.generators.base import Example, Photo
from synthaug.generators.fill.config import Config, Loop
from synthaug.generators.fill.edits import brought_to, content, window_around
from synthaug.generators.fill.geometry import Box, object_region, outline_region, ring_region
from synthaug.generators.fill.windows import Windows

ZOOM = (-0.15, 0.25)  # of a window: range of the logarithm
SHIFT = 0.08  # of a window's middle, in sides
BACKGROUND_SIDES = (0.06, 0.3)  # of a background box, in shorter sides of the photo
BACKGROUND_OVERLAP = 0.1  # share of a background box that objects may cover
TRIES = 10  # places looked at for a background box
COLOR_SHARE = 0.5  # of the windows whose colors are changed, which the network is told
BRIGHTNESS, TINT = 0.2, 0.1  # largest changes of pixel values in [-1, 1]
# of an example, largest: shift in sides of its box, change of the logarithm of each side, and
# changes of its colors
EXAMPLE_SHIFT, EXAMPLE_ZOOM = 0.02, 0.04
EXAMPLE_BRIGHTNESS, EXAMPLE_TINT = 0.1, 0.05


def draw_windows(
    photos: Sequence[Photo], config: Config, loop: Loop, num_classes: int, seed: int
) -> list[Windows]:
    """Return a window of each photo, those of one resolution together.

    A function of the seed.
    """
    windows_of: dict[int, list[Windows]] = {}
    for row, photo in enumerate(photos):
        rng = np.random.default_rng([seed, row])
        windows = _draw_window(photo, config, loop, num_classes, rng)
        side = windows.pixels.shape[-1]
        windows_of.setdefault(side, []).append(windows)
    return [Windows.concatenate(windows_of[side]) for side in sorted(windows_of)]


def _draw_window(
    photo: Photo, config: Config, loop: Loop, num_classes: int, rng: np.random.Generator
) -> Windows:
    kind = rng.random()
    empty_box = None
    if kind < loop.background or not len(photo.boxes):
        empty_box = _empty_box(photo, rng)
    if empty_box is None and not len(photo.boxes):
        empty_box = _any_box(photo, rng)
    if empty_box is not None:
        windows = _window_at(photo, empty_box, num_classes, False, config, rng)
    else:
        index = _draw_object(photo, rng)
        others = np.arange(len(photo.boxes)) != index
        other_boxes = photo.boxes[others]
        around = Photo(photo.image, photo.categories[others], other_boxes)
        is_ring = loop.background <= kind < loop.background + loop.ring
        label = num_classes + 1 if is_ring else int(photo.categories[index])
        own_box = photo.boxes[index]
        windows = _window_at(around, own_box, label, is_ring, config, rng)
        if config.examples and not is_ring and rng.random() < loop.shown:
            example = own_example(photo, index)
            windows = _after(example, windows, loop, config, rng)
    return _turned(_recolored(windows, rng), loop.turns, rng)


def _draw_object(photo: Photo, rng: np.random.Generator) -> int:
    """Draw a class of those in the photo, then one of its objects, each uniformly.

    The class is the one that the photo was drawn for, where that is known.
    """
    classes = np.unique(photo.categories)
    category = rng.choice(classes)
    if photo.drawn_for in classes:
        category = photo.drawn_for
    of_class = np.flatnonzero(photo.categories == category)
    return int(rng.choice(of_class))


def own_example(photo: Photo, index: int) -> Example:
    """Return an object of a photo as the example of itself."""
    height, width = photo.size
    left, top, right, bottom = (round(float(edge)) for edge in photo.boxes[index])
    first_row, first_column = min(max(0, top), height - 1), min(max(0, left), width - 1)
    rows = slice(first_row, max(first_row + 1, min(bottom, height)))
    columns = slice(first_column, max(first_column + 1, min(right, width)))
    pixels = photo.image[rows, columns]
    mask = None
    if photo.mask_of is not None:
        mask = photo.mask_of(index)
    if mask is None:
        return Example(pixels, None)
    return Example(pixels, mask[rows, columns].astype(np.float32))


def _window_at(
    photo: Photo,
    box: Box,
    label: int,
    is_ring: bool,
    config: Config,
    rng: np.random.Generator,
) -> Windows:
    """Return a window around a box [4], moved and zoomed a little.

    One at native scale is moved alone.
    """
    zoom = float(np.exp(rng.uniform(*ZOOM)))
    shift_x = float(rng.uniform(-SHIFT, SHIFT))
    shift_y = float(rng.uniform(-SHIFT, SHIFT))
    shift = (shift_x, shift_y)
    window, resolution = window_around(box, config, zoom, shift)
    box_there = window.into(box[None], resolution)[0]
    if is_ring:
        region = ring_region(box_there, resolution)
    else:
        region = object_region(box_there, config.margin, resolution)
    return content(photo, window, resolution, region, label, box)


def _after(
    example: Example, windows: Windows, loop: Loop, config: Config, rng: np.random.Generator
) -> Windows:
    """Return a batch of one, to be painted after an example.

    It is brought to the box, but not quite: what is to be painted has to be told from the box and
    the surroundings, too.
    """
    resolution = windows.box.shape[-1]
    rows, columns = torch.nonzero(windows.box[0, 0], as_tuple=True)
    if not len(rows):
        return windows  # a box that no pixel's middle lies in
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    box = torch.stack(corners).numpy().astype(np.float32)
    near = _moved(box, rng)
    brightness = rng.uniform(-EXAMPLE_BRIGHTNESS, EXAMPLE_BRIGHTNESS)
    tint = rng.uniform(-EXAMPLE_TINT, EXAMPLE_TINT, 3)
    red, green, blue = (brightness + tint).tolist()
    shown = brought_to(example, near, resolution, (red, green, blue))
    region = windows.region[0, 0]
    if example.mask is not None and rng.random() < loop.outlines:
        region = outline_region(shown[3], box, config.margin)
    return replace(windows, example=shown[None], region=region[None, None])


def _moved(box: Box, rng: np.random.Generator) -> Box:
    """Return a box [4] moved and stretched a little."""
    sides = box[2:] - box[:2]
    middle = (box[:2] + box[2:]) / 2
    shift = rng.uniform(-EXAMPLE_SHIFT, EXAMPLE_SHIFT, 2)
    middle = middle + shift * sides
    stretch = np.exp(rng.uniform(-EXAMPLE_ZOOM, EXAMPLE_ZOOM, 2))
    half = stretch * sides / 2
    corners = np.concatenate([middle - half, middle + half])
    return corners.astype(np.float32)


def _empty_box(photo: Photo, rng: np.random.Generator) -> Box | None:
    """Return a box that objects hardly cover, None where none was seen."""
    for _ in range(TRIES):
        box = _any_box(photo, rng)
        low = np.maximum(photo.boxes[:, :2], box[:2])
        high = np.minimum(photo.boxes[:, 2:], box[2:])
        meeting = (high - low).clip(0)
        covered = meeting.prod(1).sum()
        area = (box[2:] - box[:2]).prod()
        if covered <= BACKGROUND_OVERLAP * area:
            return box
    return None


def _any_box(photo: Photo, rng: np.random.Generator) -> Box:
    height, width = photo.size
    shares = rng.uniform(*BACKGROUND_SIDES, size=2)
    sides = shares * min(height, width)
    room = np.array([width, height]) - sides
    corner = rng.random(2) * room
    box = np.concatenate([corner, corner + sides])
    return box.astype(np.float32)


def _recolored(windows: Windows, rng: np.random.Generator) -> Windows:
    """Change brightness and tint of some windows, and tell the network.

    Samples ask for none. Karras et al. 2022, appendix F.2: an augmentation that the network is told
    does not leak.
    """
    if rng.random() >= COLOR_SHARE:
        return windows
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS, 1)
    tint = rng.uniform(-TINT, TINT, 3)
    changes = np.concatenate([brightness, tint])
    values = torch.from_numpy(changes.astype(np.float32))[None]  # [1, NUM_AUGMENTATIONS]
    per_channel = values[:, :1] + values[:, 1:]
    added = per_channel[:, :, None, None]
    pixels = (windows.pixels + added).clamp(-1, 1)
    return replace(windows, pixels=pixels, augmentations=values)


def _turned(windows: Windows, turns: bool, rng: np.random.Generator) -> Windows:
    """Turn windows by quarters and mirror half of them, where the photos have no up."""
    if not turns:
        return windows
    mirrored = bool(rng.random() < 0.5)
    quarters = int(rng.integers(4))

    def turn(planes: Tensor) -> Tensor:
        turned = torch.rot90(planes, quarters, (-2, -1))
        return turned.flip(-1) if mirrored else turned

    sizes = windows.sizes
    if quarters % 2:
        sizes = sizes[:, [1, 0, 2]]  # width and height change places
    return replace(
        windows,
        pixels=turn(windows.pixels),
        region=turn(windows.region),
        box=turn(windows.box),
        neighbours=turn(windows.neighbours),
        sizes=sizes,
        example=turn(windows.example),
    )

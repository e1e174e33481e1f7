"""A sheet of pictures like the papers' comparisons of systems: same layouts, a column per system.

LostGAN-V2's Figures 5 and 6, the panoptic paper's Figure 5: what was asked for, the real image of
it, then what each system painted.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import Category, Dataset, Scene

CELL, GAP, HEAD = 160, 6, 18  # pixels: longer side of a picture, space around it, a line of text
PAGE, INK = (255, 255, 255), (29, 33, 38)
FIRST = "~0"  # end of the id of a layout's first sample

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Column:
    """The painted layouts of a system, several samples of each or one."""

    caption: str
    painted: Dataset


def sheet(real: Dataset, columns: Sequence[Column], rows: int) -> Image.Image:
    """Return a page of at most `rows` layouts, evenly spaced among those that all have painted."""
    places = [first_samples(column.painted) for column in columns]
    common = []
    for index in range(len(real)):
        name = real[index].image_id
        if all(name in found for found in places):
            common.append((index, name))
    if not common:
        raise SystemExit("no layout was painted by all; there is nothing to show side by side")
    shown = min(rows, len(common))
    chosen = [common[row * len(common) // shown] for row in range(shown)]
    page = _Page(["layout", "real", *(column.caption for column in columns)], len(chosen))
    for row, (index, name) in enumerate(chosen):
        scene = real[index]
        page.put(row, 0, layout_picture(scene, real.categories))
        page.put(row, 1, decode(scene))
        for place, column in enumerate(columns):
            painted = column.painted[places[place][name]]
            page.put(row, 2 + place, decode(painted))
    return page.image


def first_samples(painted: Dataset) -> dict[str, int]:
    """Return, by the id of a layout's image, the position of its first sample."""
    found = {}
    for index in range(len(painted)):
        scene = painted[index]
        assert scene.provenance is not None, "a painted layout says where it is from"
        if scene.image_id.endswith(FIRST):
            found[scene.provenance.source_image] = index
    return found


def layout_picture(scene: Scene, categories: Sequence[Category]) -> Pixels:
    """Paint what was asked for, small objects over large ones: masks, boxes where it has none."""
    objects = scene.objects
    canvas = np.full((*scene.size, 3), 255, np.uint8)
    order = np.argsort(-objects.area, kind="stable").tolist()
    for row in order:
        color = class_color(int(objects.category[row]), len(categories))
        if objects.rle[row] is not None:
            canvas[decode_all(objects.select([row]), scene.size)[0]] = color
        else:
            left, top, right, bottom = objects.boxes[row].round().astype(int).tolist()
            canvas[top:bottom, left:right] = color
            _outline(canvas[top:bottom, left:right])
    return canvas


def _outline(part: Pixels) -> None:
    """Darken the edge of a part of a picture."""
    for edge in (part[:1], part[-1:], part[:, :1], part[:, -1:]):
        edge[:] = edge // 2


def class_color(category: int, classes: int) -> tuple[int, int, int]:
    """Return the color of a class; the darker half of the circle for every other one."""
    value = 0.95 - 0.25 * (category % 2)
    red, green, blue = colorsys.hsv_to_rgb(category / classes, 0.65, value)
    return round(red * 255), round(green * 255), round(blue * 255)


class _Page:
    """A grid of cells under one line of captions."""

    def __init__(self, captions: Sequence[str], rows: int) -> None:
        width = GAP + len(captions) * (CELL + GAP)
        height = HEAD + rows * (CELL + GAP)
        self.image = Image.new("RGB", (width, height), PAGE)
        draw, font = ImageDraw.Draw(self.image), ImageFont.load_default(12)
        for place, caption in enumerate(captions):
            draw.text((self._left(place), 2), caption, fill=INK, font=font)

    def put(self, row: int, place: int, pixels: Pixels) -> None:
        """Show a picture in a cell, its shape kept, enlarged without smoothing."""
        height, width = pixels.shape[:2]
        factor = CELL / max(height, width)
        new_width = max(1, round(width * factor))
        new_height = max(1, round(height * factor))
        picture = Image.fromarray(pixels)
        enlarged = picture.resize((new_width, new_height), Image.Resampling.NEAREST)
        top = HEAD + row * (CELL + GAP)
        self.image.paste(enlarged, (self._left(place), top))

    @staticmethod
    def _left(place: int) -> int:
        return GAP + place * (CELL + GAP)

"""Drawing layouts, mask maps and rows of images on one canvas.

Numbers in, pixels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Floats32
from synthaug.pipeline.core.boxes import Size

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # xyxy, pixels of a picture

# the report's colors; here an object has the color of its number, so that two of one class can be
# told apart
PALETTE = (
    (255, 159, 28),
    (86, 180, 233),
    (0, 192, 139),
    (245, 224, 74),
    (109, 141, 255),
    (255, 106, 77),
    (240, 146, 200),
)
UNCLAIMED = (28, 30, 34)  # a pixel of a mask map that no object claims
CLAIM = 0.01  # mask value from which an object claims a pixel
PAGE, INK, QUIET, PAPER = (255, 255, 255), (29, 33, 38), (98, 107, 117), (38, 42, 48)
FAINT = (146, 153, 162)  # boxes a row is not about
FILL = 70  # opacity of a box, of 255
CROWD = 8  # objects from which names that are wider than their box give way to a legend
MIN_SIDE, MAX_SIDE = 160, 256  # pixels of a picture's longer side
GAP, LINE, HEAD = 8, 16, 26  # between pictures; of a caption; of the title
TEXT, SMALL_TEXT, TITLE = 13, 11, 15  # font sizes
TAG_PAD, TAG_STEP = (
    5,
    2.0,
)  # pixels: around the words of a tag; by which it is moved out of another's way


@dataclass(frozen=True)
class Mark:
    """One box of a layout picture: xyxy shares of the image."""

    number: int
    label: str
    box: tuple[float, float, float, float]
    faint: bool = False


@dataclass(frozen=True)
class Strip:
    """One row of a sheet: pictures uint8 [H, W, 3] with their captions."""

    caption: str
    pictures: Sequence[tuple[str, Bytes]]


def color(number: int) -> Color:
    """Return the color of an object.

    After the palette's end the same hues lighter, then darker.
    """
    variant = number // len(PALETTE) % 3
    shades = ((0, 0.0), (255, 0.55), (0, 0.3))
    target, share = shades[variant]
    channels = []
    for value in PALETTE[number % len(PALETTE)]:
        channels.append(round(value + (target - value) * share))
    red, green, blue = channels
    return red, green, blue


def picture_size(resolution: int, size: Size | None) -> Size:
    """Return (H, W) of a picture on a sheet.

    In the shape of the layout's image where that is known.
    """
    height, width = size or (1, 1)
    longer = min(max(resolution, MIN_SIDE), MAX_SIDE)
    longest = max(height, width)
    scaled_height = round(longer * height / longest)
    scaled_width = round(longer * width / longest)
    return max(1, scaled_height), max(1, scaled_width)


def mask_map(stack: Floats32, numbers: Sequence[int]) -> Bytes:
    """Color each pixel [S, S, 3] by the object whose mask [O, S, S] is highest.

    Colors follow the objects' numbers.
    """
    used = stack[: len(numbers)]
    of_objects = [color(number) for number in numbers]
    colors = np.array([*of_objects, UNCLAIMED], np.uint8)
    if not len(used):
        return np.broadcast_to(colors[-1], (*stack.shape[1:], 3)).copy()
    unclaimed = len(numbers)
    is_claimed = used.max(0) >= CLAIM
    owner = np.where(is_claimed, used.argmax(0), unclaimed)  # [S, S]
    pixels: Bytes = colors[owner]
    return pixels


def difference(image: Bytes, others: Bytes, contrast: int) -> Bytes:
    """Show the mean distance of images [N, S, S, 3] from one in grey [S, S, 3]."""
    steps = others.astype(np.int16) - image.astype(np.int16)
    distance = np.abs(steps).mean((0, 3))  # [S, S]
    grey = np.clip(distance * contrast, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def layout_picture(marks: Sequence[Mark], size: Size) -> Bytes:
    """Draw boxes with number and class name, larger ones behind: [H, W, 3]."""
    from PIL import Image, ImageDraw

    height, width = size
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image, "RGBA")
    back_to_front = sorted(marks, key=_depth)
    for mark in back_to_front:
        _draw_box(draw, mark, _pixels(mark, size))
    occupied: list[Rectangle] = []
    some_faint = any(mark.faint for mark in marks)
    for mark in reversed(back_to_front):
        # among faint boxes those that the row is about keep their names
        prominent = some_faint and not mark.faint
        shorten = len(marks) > CROWD and not prominent
        occupied.append(_draw_tag(draw, mark, size, occupied, shorten))
    draw.rectangle((0, 0, width - 1, height - 1), outline=(*QUIET, 255))
    return np.asarray(image)


def _depth(mark: Mark) -> tuple[bool, float]:
    """Order marks from back to front.

    Faint ones first, then by area, the largest first.
    """
    x0, y0, x1, y1 = mark.box
    return not mark.faint, -(x1 - x0) * (y1 - y0)


def _pixels(mark: Mark, size: Size) -> Rectangle:
    """Return the box of a mark in pixels of a picture (H, W)."""
    height, width = size
    x0, y0, x1, y1 = mark.box
    right = width - 1
    bottom = height - 1
    return x0 * right, y0 * bottom, x1 * right, y1 * bottom


def _ink(mark: Mark) -> Color:
    if mark.faint:
        return FAINT
    return color(mark.number)


def _draw_box(draw: ImageDraw, mark: Mark, box: Rectangle) -> None:
    x0, y0, x1, y1 = (round(value) for value in box)
    ink = _ink(mark)
    opacity = FILL
    width = 2
    if mark.faint:
        opacity = 0
        width = 1
    corners = (x0, y0, x1, y1)
    draw.rectangle(corners, fill=(*ink, opacity), outline=(*ink, 255), width=width)


def _draw_tag(
    draw: ImageDraw, mark: Mark, size: Size, occupied: Sequence[Rectangle], shorten: bool
) -> Rectangle:
    """Write a box's name at its upper left, lower where another name stands.

    Return its rectangle.

    With `shorten` a name that is wider than its box gives way to the number.
    """
    font = _font(SMALL_TEXT)
    x0, y0, x1, _ = _pixels(mark, size)
    words = f"{mark.number}  {mark.label}"
    if shorten and draw.textlength(words, font) + TAG_PAD > x1 - x0:
        words = str(mark.number)
    width = draw.textlength(words, font) + TAG_PAD
    height = SMALL_TEXT + 3
    x = max(0.0, min(x0, size[1] - width))
    lowest = size[0] - height
    y = first = max(0.0, min(y0, lowest))
    for candidate in np.arange(first, lowest, TAG_STEP).tolist():
        place = (x, candidate, x + width, candidate + height)
        if not _overlaps(place, occupied):
            y = candidate
            break
    text_color = FAINT
    if not mark.faint:
        text_color = INK
        fill = (*_ink(mark), 255)
        draw.rectangle((x, y, x + width, y + height), fill=fill)
    start = (x + 3, y + height / 2)
    draw.text(start, words, (*text_color, 255), font, anchor="lm")
    return x, y, x + width, y + height


def _overlaps(box: Rectangle, others: Sequence[Rectangle]) -> bool:
    """Return whether a rectangle has pixels in common with one of the others."""
    x0, y0, x1, y1 = box
    for left, top, right, bottom in others:
        meets_across = x0 < right and left < x1
        meets_down = y0 < bottom and top < y1
        if meets_across and meets_down:
            return True
    return False


def legend(marks: Sequence[Mark]) -> str:
    """List the numbers of each class: `RBC 0 2-5, WBC 1`.

    For a layout picture that has no room for all names.
    """
    if len(marks) <= CROWD:
        return ""
    runs: dict[str, list[list[int]]] = {}  # class -> runs of consecutive numbers, first and last
    for mark in marks:
        runs_of_class = runs.setdefault(mark.label, [])
        if runs_of_class and runs_of_class[-1][1] == mark.number - 1:
            runs_of_class[-1][1] = mark.number
        else:
            runs_of_class.append([mark.number, mark.number])
    parts = []
    for name, runs_of_class in runs.items():
        spans = []
        for first, last in runs_of_class:
            span = str(first)
            if first != last:
                span = f"{first}-{last}"
            spans.append(span)
        parts.append(f"{name} {' '.join(spans)}")
    return ", ".join(parts)


def fit(pixels: Bytes, size: Size, smooth: bool) -> Bytes:
    """Resize a picture [h, w, 3] to (H, W); maps of owners are not smoothed."""
    from PIL import Image

    resampling = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    height, width = size
    resized = Image.fromarray(pixels).resize((width, height), resampling)
    return np.asarray(resized)


def sheet(title: str, strips: Sequence[Strip]) -> Bytes:
    """Draw all strips under one title, captions over strips and under pictures.

    Shape [H, W, 3].
    """
    from PIL import Image, ImageDraw

    _, pixels = strips[0].pictures[0]
    picture_height, picture_width = pixels.shape[:2]
    columns = max(len(strip.pictures) for strip in strips)
    width = GAP + columns * (picture_width + GAP)
    height = HEAD + GAP
    for strip in strips:
        height += picture_height + LINE + GAP // 2
        if strip.caption:
            height += LINE
    image = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(image)
    words = _shorten(draw, title, TITLE, width - 2 * GAP)
    draw.text((GAP, HEAD / 2), words, INK, _font(TITLE), anchor="lm")
    top = HEAD
    for strip in strips:
        top = _draw_strip(image, draw, strip, top)
    return np.asarray(image)


def _draw_strip(image: Picture, draw: ImageDraw, strip: Strip, top: int) -> int:
    """Put a strip on the canvas; return where the next begins."""
    from PIL import Image

    if strip.caption:
        words = _shorten(draw, strip.caption, TEXT, image.width - 2 * GAP)
        draw.text((GAP, top + LINE / 2), words, INK, _font(TEXT), anchor="lm")
        top += LINE
    _, pixels = strip.pictures[0]
    height, width = pixels.shape[:2]
    for column, (caption, pixels) in enumerate(strip.pictures):
        left = GAP + column * (width + GAP)
        image.paste(Image.fromarray(pixels), (left, top))
        words = _shorten(draw, caption, SMALL_TEXT, width)
        below = (left, top + height + LINE / 2)
        draw.text(below, words, QUIET, _font(SMALL_TEXT), anchor="lm")
    return int(top + height + LINE + GAP // 2)


def _shorten(draw: ImageDraw, words: str, size: int, width: float) -> str:
    """Cut a line of text to a width, with an ellipsis."""
    font = _font(size)
    if draw.textlength(words, font) <= width:
        return words
    while words and draw.textlength(f"{words}...", font) > width:
        words = words[:-1]
    return f"{words}..."


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)

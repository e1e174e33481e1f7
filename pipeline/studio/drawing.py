"""Sheets of pictures: layouts, mask maps and rows of images on one canvas; numbers in, pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw

# the report's colours; here an object has the colour of its number, so that two of one class can be told apart
PALETTE = (
    (255, 159, 28),
    (86, 180, 233),
    (0, 192, 139),
    (245, 224, 74),
    (109, 141, 255),
    (255, 106, 77),
    (240, 146, 200),
)
NOBODY = (28, 30, 34)  # a pixel of a mask map that no object claims
CLAIM = 0.01  # mask value from which an object claims a pixel
PAGE, INK, QUIET, PAPER = (255, 255, 255), (29, 33, 38), (98, 107, 117), (38, 42, 48)
FAINT = (146, 153, 162)  # boxes a row is not about
CROWD = 8  # objects from which names that are wider than their box give way to a legend
SIDE = (160, 256)  # pixels of a picture's longer side: at least, at most
GAP, LINE, HEAD = 8, 16, 26  # between pictures; of a caption; of the title
TEXT, SMALL_TEXT, TITLE = 13, 11, 15  # font sizes


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
    pictures: Sequence[tuple[str, NDArray[np.uint8]]]


def colour(number: int) -> tuple[int, int, int]:
    """The colour of an object; after the palette's end the same hues lighter, then darker."""
    red, green, blue = PALETTE[number % len(PALETTE)]
    target, share = ((0, 0.0), (255, 0.55), (0, 0.3))[number // len(PALETTE) % 3]
    mixed = [round(v + (target - v) * share) for v in (red, green, blue)]
    return mixed[0], mixed[1], mixed[2]


def shown_size(resolution: int, size: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) of a picture on a sheet, in the shape of the layout's image where that is known."""
    height, width = size or (1, 1)
    longer = min(max(resolution, SIDE[0]), SIDE[1])
    return max(1, round(longer * height / max(height, width))), max(
        1, round(longer * width / max(height, width))
    )


def mask_map(stack: NDArray[np.float32], numbers: Sequence[int]) -> NDArray[np.uint8]:
    """Which object's mask is highest at each pixel: [O, S, S] with the objects' numbers -> colours [S, S, 3]."""
    used = stack[: len(numbers)]
    colours = np.array([*(colour(n) for n in numbers), NOBODY], np.uint8)
    if not len(used):
        return np.broadcast_to(colours[-1], (*stack.shape[1:], 3)).copy()
    owner = np.where(used.max(0) >= CLAIM, used.argmax(0), len(numbers))
    picked: NDArray[np.uint8] = colours[owner]
    return picked


def difference(
    image: NDArray[np.uint8], others: NDArray[np.uint8], contrast: int
) -> NDArray[np.uint8]:
    """How far images [N, S, S, 3] are from one [S, S, 3] in the mean, in grey: [S, S, 3]."""
    apart = np.abs(others.astype(np.int16) - image.astype(np.int16)).mean((0, 3))  # [S, S]
    grey = np.clip(apart * contrast, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def layout_picture(marks: Sequence[Mark], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Boxes with number and class name, larger ones behind: [H, W, 3]."""
    from PIL import Image, ImageDraw

    height, width = size
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image, "RGBA")
    edges = np.array([width - 1, height - 1] * 2)
    behind = sorted(
        marks, key=lambda m: (not m.faint, -(m.box[2] - m.box[0]) * (m.box[3] - m.box[1]))
    )
    for mark in behind:
        x0, y0, x1, y1 = (np.array(mark.box) * edges).round().astype(int).tolist()
        ink = (*_ink(mark), 255)
        draw.rectangle(
            (x0, y0, x1, y1),
            fill=(*ink[:3], 0 if mark.faint else 70),
            outline=ink,
            width=1 if mark.faint else 2,
        )
    taken: list[tuple[float, ...]] = []
    faint = any(mark.faint for mark in marks)
    for mark in reversed(behind):
        place = (np.array(mark.box) * edges).tolist()
        taken.append(
            _tag(
                draw,
                mark,
                place,
                size,
                taken,
                len(marks) > CROWD and not (faint and not mark.faint),
            )
        )
    draw.rectangle((0, 0, width - 1, height - 1), outline=(*QUIET, 255))
    return np.asarray(image)


def _ink(mark: Mark) -> tuple[int, int, int]:
    return FAINT if mark.faint else colour(mark.number)


def _tag(
    draw: ImageDraw,
    mark: Mark,
    box: Sequence[float],
    size: tuple[int, int],
    taken: Sequence[tuple[float, ...]],
    crowded: bool,
) -> tuple[float, ...]:
    """Write a box's name at its upper left, lower where another name stands; return the place taken."""
    font, words = _font(SMALL_TEXT), f"{mark.number}  {mark.label}"
    if crowded and draw.textlength(words, font) + 5 > box[2] - box[0]:
        words = str(mark.number)
    wide, high = draw.textlength(words, font) + 5, SMALL_TEXT + 3
    x = max(0.0, min(box[0], size[1] - wide))
    first = max(0.0, min(box[1], size[0] - high))
    free = [
        y
        for y in np.arange(first, size[0] - high, 2.0)
        if not _overlaps((x, y, x + wide, y + high), taken)
    ]
    y = float(free[0]) if free else first
    if not mark.faint:
        draw.rectangle((x, y, x + wide, y + high), fill=(*_ink(mark), 255))
    draw.text(
        (x + 3, y + high / 2), words, (*(FAINT if mark.faint else INK), 255), font, anchor="lm"
    )
    return x, y, x + wide, y + high


def _overlaps(box: tuple[float, ...], taken: Sequence[tuple[float, ...]]) -> bool:
    return any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)


def legend(marks: Sequence[Mark]) -> str:
    """Say which numbers each class has, where a layout picture has no room for all names: `RBC 0 2-5, WBC 1`."""
    if len(marks) <= CROWD:
        return ""
    runs: dict[str, list[list[int]]] = {}
    for mark in marks:
        of = runs.setdefault(mark.label, [])
        if of and of[-1][1] == mark.number - 1:
            of[-1][1] = mark.number
        else:
            of.append([mark.number, mark.number])
    spans = {
        name: " ".join(str(a) if a == b else f"{a}-{b}" for a, b in of) for name, of in runs.items()
    }
    return ", ".join(f"{name} {numbers}" for name, numbers in spans.items())


def fit(pixels: NDArray[np.uint8], size: tuple[int, int], smooth: bool) -> NDArray[np.uint8]:
    """A picture [h, w, 3] at (H, W); maps of owners are not smoothed."""
    from PIL import Image

    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), how))


def sheet(title: str, strips: Sequence[Strip]) -> NDArray[np.uint8]:
    """All strips under one title, captions over strips and under pictures: [H, W, 3]."""
    from PIL import Image, ImageDraw

    high, wide = strips[0].pictures[0][1].shape[:2]
    columns = max(len(strip.pictures) for strip in strips)
    width = GAP + columns * (wide + GAP)
    height = HEAD + sum((LINE if s.caption else 0) + high + LINE + GAP // 2 for s in strips) + GAP
    image = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(image)
    draw.text(
        (GAP, HEAD / 2), _cut(draw, title, TITLE, width - 2 * GAP), INK, _font(TITLE), anchor="lm"
    )
    top = HEAD
    for strip in strips:
        top = _strip(image, draw, strip, top)
    return np.asarray(image)


def _strip(image: Picture, draw: ImageDraw, strip: Strip, top: int) -> int:
    """Put a strip on the canvas; return where the next begins."""
    from PIL import Image

    if strip.caption:
        words = _cut(draw, strip.caption, TEXT, image.width - 2 * GAP)
        draw.text((GAP, top + LINE / 2), words, INK, _font(TEXT), anchor="lm")
        top += LINE
    high, wide, _ = strip.pictures[0][1].shape
    for column, (caption, pixels) in enumerate(strip.pictures):
        left = GAP + column * (wide + GAP)
        image.paste(Image.fromarray(pixels), (left, top))
        words = _cut(draw, caption, SMALL_TEXT, wide)
        draw.text((left, top + high + LINE / 2), words, QUIET, _font(SMALL_TEXT), anchor="lm")
    return int(top + high + LINE + GAP // 2)


def _cut(draw: ImageDraw, words: str, size: int, room: float) -> str:
    """Shorten a line of text to the room there is."""
    if draw.textlength(words, _font(size)) <= room:
        return words
    while words and draw.textlength(f"{words}...", _font(size)) > room:
        words = words[:-1]
    return f"{words}..."


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)

"""A picture of made masks beside the true ones like them (LostGAN-V2, Fig. 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Flags, Floats
from synthaug.pipeline.core.images import encode

CELL = 64  # pixels: a mask,
GAP = 6  # the space around it,
LINE = 16  # a line of text,
NAME = 96  # a name
HEAD = ("made", "most like it")


@dataclass(frozen=True)
class MaskRow:
    """A made mask and the true masks most like it, the nearest first."""

    name: str  # of the class
    mask: Flags  # [P]
    nearest: Flags  # [K, P]
    ious: Floats  # [K]


def mask_sheet(rows: Sequence[MaskRow], side: int) -> bytes:
    """Return a PNG with a line per row; masks are [side * side], white on black."""
    most = max(len(row.nearest) for row in rows)
    width = NAME + (1 + most) * (CELL + GAP)
    height = CELL + LINE + GAP
    shape = (LINE + len(rows) * height, width, 3)
    sheet = np.full(shape, 255, np.uint8)
    _write(sheet, HEAD[0], (NAME, LINE - 4))
    _write(sheet, HEAD[1], (NAME + CELL + GAP, LINE - 4))
    for number, row in enumerate(rows):
        top = LINE + number * height
        _write(sheet, row.name, (GAP, top + CELL // 2))
        _place(sheet, row.mask, side, top, NAME)
        left = NAME
        for mask, iou in zip(row.nearest, row.ious, strict=True):
            left += CELL + GAP
            _place(sheet, mask, side, top, left)
            _write(sheet, f"{iou:.2f}", (left, top + CELL + LINE - 4))
    return encode(sheet, "png")


def _place(sheet: Bytes, mask: Flags, side: int, top: int, left: int) -> None:
    """Draw a mask [side * side] into a cell, each of its pixels as the nearest one."""
    nearest = np.arange(CELL) * side // CELL
    pixels = mask.reshape(side, side)
    square = pixels[np.ix_(nearest, nearest)]
    levels = np.where(square, 255, 0)
    cell = sheet[top : top + CELL, left : left + CELL]
    cell[:] = levels[..., None]
    cell[[0, -1]] = 128
    cell[:, [0, -1]] = 128


def _write(sheet: Bytes, text: str, corner: tuple[int, int]) -> None:
    """Write text into a picture; `corner` is its lower left one (x, y)."""
    import cv2

    color = (40, 40, 40)
    cv2.putText(sheet, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1, cv2.LINE_AA)

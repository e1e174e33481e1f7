"""The sheet of masks: each mask in its cell, the nearest ones beside it."""

from __future__ import annotations

import cv2
import numpy as np

from synthaug.pipeline.scores.segmentation.mask_sheet import (
    CELL,
    GAP,
    LINE,
    NAME,
    MaskRow,
    mask_sheet,
)

SIDE = 8


def mask(rows: slice, columns: slice) -> np.ndarray:
    flags = np.zeros((SIDE, SIDE), bool)
    flags[rows, columns] = True
    return flags.ravel()


TOP, LEFT = mask(slice(0, 4), slice(None)), mask(slice(None), slice(0, 4))


def row(name: str, own: np.ndarray, *nearest: np.ndarray) -> MaskRow:
    ious = np.linspace(0.9, 0.1, len(nearest))
    return MaskRow(name, own, np.array(nearest, bool).reshape(-1, len(own)), ious)


def decoded(sheet: bytes) -> np.ndarray:
    assert sheet.startswith(b"\x89PNG")
    return np.asarray(cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_GRAYSCALE))


def cell(sheet: np.ndarray, number: int, column: int) -> np.ndarray:
    """Return a cell without its border."""
    top = LINE + number * (CELL + LINE + GAP)
    left = NAME + column * (CELL + GAP)
    return sheet[top + 1 : top + CELL - 1, left + 1 : left + CELL - 1]


def test_masks_are_white_where_they_are_and_not_turned() -> None:
    sheet = decoded(mask_sheet([row("cat", TOP, LEFT)], SIDE))
    made, nearest = cell(sheet, 0, 0), cell(sheet, 0, 1)
    half = CELL // 2 - 1
    assert (made[:half] == 255).all() and not made[half:].any()
    assert (nearest[:, :half] == 255).all() and not nearest[:, half:].any()


def test_rows_of_different_lengths_make_one_sheet() -> None:
    rows = [row("cat", TOP, LEFT, TOP, LEFT), row("dog", LEFT), row("emu", TOP)]
    sheet = decoded(mask_sheet(rows, SIDE))
    assert sheet.shape == (LINE + 3 * (CELL + LINE + GAP), NAME + 4 * (CELL + GAP))
    assert (cell(sheet, 0, 3)[:, :10] == 255).all()
    assert (cell(sheet, 1, 3) == 255).all(), "the page is white where no mask is"


def test_names_and_numbers_are_written_beside_their_masks() -> None:
    rows = [row("cat", TOP, LEFT), row("", TOP, LEFT)]
    sheet = decoded(mask_sheet(rows, SIDE))
    height = CELL + LINE + GAP

    def name_cell(number: int) -> np.ndarray:
        top = LINE + number * height
        return sheet[top : top + CELL, :NAME]

    assert (name_cell(0) < 200).any()
    assert (name_cell(1) == 255).all()
    left = NAME + CELL + GAP
    under = sheet[LINE + CELL : LINE + CELL + LINE, left : left + CELL]
    assert (under < 200).any(), "the IoU of the nearest mask"
    assert (sheet[LINE + CELL : LINE + CELL + LINE, NAME : NAME + CELL] == 255).all()


def test_any_side_fills_the_cell() -> None:
    whole = np.ones(25, bool)
    sheet = decoded(mask_sheet([row("cat", whole, whole)], 5))
    assert (cell(sheet, 0, 0) == 255).all()

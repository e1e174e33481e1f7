"""A picture sheet of synthetic images and the training images nearest to them.

To see what may be copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthaug.pipeline.core.arrays import Bytes
from synthaug.pipeline.core.images import decode, encode, resize
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.scores.features.neighbours import ImagePair

CELL, GAP, HEAD = 144, 8, 22  # pixels: a picture, the space around it, a line of text
COLUMNS = ("synthetic", "nearest by features", "nearest by layout")


def picture_sheet(pairs: Sequence[ImagePair], synthetic: Dataset, train: Dataset) -> bytes | None:
    """Return a JPEG with a row per pair; None without pairs.

    Image, nearest by features, nearest by layout.
    """
    if not pairs:
        return None
    rows = [_heading()]
    for pair in pairs:
        row = [
            _cell(synthetic[pair.synthetic_index], ""),
            _cell(train[pair.train_index], f"{pair.similarity:.3f}"),
            _cell(train[pair.layout_train_index], f"{pair.layout_similarity:.3f}"),
        ]
        rows.append(np.concatenate(row, axis=1))
    return encode(np.concatenate(rows), "jpeg")


def _heading() -> Bytes:
    cells = []
    for text in COLUMNS:
        cell = np.full((HEAD, CELL + GAP, 3), 255, np.uint8)
        _write(cell, text, (GAP, HEAD - 7))
        cells.append(cell)
    return np.concatenate(cells, axis=1)


def _cell(scene: Scene, text: str) -> Bytes:
    """Fit an image into a square, its shape kept, and write a number under it."""
    factor = CELL / max(scene.size)
    height = max(1, round(scene.height * factor))
    width = max(1, round(scene.width * factor))
    cell = np.full((CELL + HEAD, CELL + GAP, 3), 255, np.uint8)
    top = CELL - height
    left = GAP + (CELL - width) // 2
    cell[top : top + height, left : left + width] = resize(decode(scene), (height, width))
    _write(cell, text, (GAP, CELL + HEAD - 8))
    return cell


def _write(cell: Bytes, text: str, corner: tuple[int, int]) -> None:
    """Write text into a picture; `corner` is its lower left one (x, y)."""
    import cv2

    color = (40, 40, 40)
    cv2.putText(cell, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1, cv2.LINE_AA)

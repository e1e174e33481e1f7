"""A picture sheet of synthetic images beside the training images nearest to them, for a look at what may be copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.images import decode, encode, resize
from synthaug.pipeline.core.scene import Dataset, Scene
from synthaug.pipeline.scores.features.neighbours import Pair

CELL, GAP, HEAD = 144, 8, 22  # pixels: a picture, the space around it, a line of text
COLUMNS = ("synthetic", "nearest by features", "nearest by layout")


def sheet(pairs: Sequence[Pair], synthetic: Dataset, train: Dataset) -> bytes | None:
    """Return a JPEG, a row per pair, the nearest first: image, nearest by features and by layout; None without pairs."""
    if not pairs:
        return None
    rows = [_heading()]
    for pair in pairs:
        scenes = (
            synthetic[pair.synthetic_index],
            train[pair.train_index],
            train[pair.layout_train_index],
        )
        texts = "", f"{pair.similarity:.3f}", f"{pair.layout_similarity:.3f}"
        rows.append(
            np.concatenate(
                [_cell(scene, text) for scene, text in zip(scenes, texts, strict=True)], axis=1
            )
        )
    return encode(np.concatenate(rows), "jpeg")


def _heading() -> NDArray[np.uint8]:
    cells = [np.full((HEAD, CELL + GAP, 3), 255, np.uint8) for _ in COLUMNS]
    for cell, text in zip(cells, COLUMNS, strict=True):
        _write(cell, text, (GAP, HEAD - 7))
    return np.concatenate(cells, axis=1)


def _cell(scene: Scene, text: str) -> NDArray[np.uint8]:
    """Fit an image into a square, its shape kept, and write a number under it."""
    factor = CELL / max(scene.height, scene.width)
    height, width = max(1, round(scene.height * factor)), max(1, round(scene.width * factor))
    cell = np.full((CELL + HEAD, CELL + GAP, 3), 255, np.uint8)
    top, left = CELL - height, GAP + (CELL - width) // 2
    cell[top : top + height, left : left + width] = resize(decode(scene), (height, width))
    _write(cell, text, (GAP, CELL + HEAD - 8))
    return cell


def _write(cell: NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    import cv2

    cv2.putText(cell, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)

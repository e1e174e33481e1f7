"""The sheet of edited images: which rows it has and what stands beside what."""

from __future__ import annotations

import cv2
import numpy as np

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import (
    Category,
    ImageRef,
    Objects,
    Provenance,
    Scene,
    SceneList,
)
from synthaug.pipeline.scores.objects import edit_sheet as module
from synthaug.pipeline.scores.objects.edit_sheet import GAP, edit_sheet

H, W = 30, 60
CATEGORIES = (Category(1, "x"),)


def photo(seed: int, height: int = H, width: int = W) -> np.ndarray:
    """Return coarse noise, so that JPEG keeps it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST))


def scene(name: str, image: np.ndarray, of: str = "", source: str = "synthetic") -> Scene:
    origin = Provenance(1, "fill", "", of, "x") if of else None
    objects = Objects.build([0], [(5, 5, 20, 20)], source=[source])
    data = encode(image, "png")
    return Scene(name, *image.shape[:2], ImageRef(data), objects, None, origin)


def tables(*made: Scene) -> tuple[SceneList, SceneList]:
    real = [scene(f"r{k}", photo(k), source="human") for k in range(3)]
    return SceneList(CATEGORIES, list(made)), SceneList(CATEGORIES, real)


def cells(sheet: bytes | None, rows: int) -> list[list[np.ndarray]]:
    """Return the three pictures of each row of a sheet, at their old size."""
    assert sheet is not None
    image = cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    height, width = module.HEIGHT, module.HEIGHT * W // H
    assert image.shape[0] == rows * (height + 2 * GAP)
    found = []
    for row in range(rows):
        top = row * (height + 2 * GAP) + GAP
        pictures = []
        for column in range(3):
            left = column * (width + 2 * GAP) + GAP
            whole = image[top : top + height, left : left + width]
            pictures.append(cv2.resize(whole, (W, H), interpolation=cv2.INTER_AREA))
        found.append(pictures)
    return found


def differ(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def test_a_row_is_the_photo_the_edit_and_the_edit_with_boxes() -> None:
    edited = photo(1)
    edited[5:20, 5:20] = 0
    (row,) = cells(edit_sheet(*tables(scene("m", edited, "r1")), 5), 1)
    assert differ(row[0], photo(1)) < 6
    assert differ(row[1], edited) < 6
    red = row[2][5, 6:19]
    assert red[:, 0].mean() > 150 and red[:, 1].mean() < 90


def test_the_photo_is_mirrored_where_the_edit_is() -> None:
    (row,) = cells(edit_sheet(*tables(scene("m", photo(1)[:, ::-1], "r1")), 5), 1)
    assert differ(row[0], photo(1)[:, ::-1]) < 6


def test_images_without_made_objects_or_of_another_size_have_no_row() -> None:
    made = [
        scene("whole", photo(0), "", "synthetic"),
        scene("bare", photo(0), "r0", "human"),
        scene("unknown", photo(0), "elsewhere"),
        scene("small", photo(0, 15, 30), "r0"),
    ]
    assert edit_sheet(*tables(*made), 5) is None
    assert 1 == len(cells(edit_sheet(*tables(*made, scene("m", photo(2), "r2")), 5), 1))


def test_no_more_rows_than_asked_for() -> None:
    made = [scene(f"m{k}", photo(k), f"r{k}") for k in range(3)]
    cells(edit_sheet(*tables(*made), 2), 2)


def test_only_some_images_are_looked_at_for_rows(monkeypatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 2)
    made = [scene("a", photo(0), "none"), scene("b", photo(0), "none"), scene("c", photo(0), "r0")]
    assert edit_sheet(*tables(*made), 5) is None

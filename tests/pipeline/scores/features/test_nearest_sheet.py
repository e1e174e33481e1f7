"""The picture sheet: a row per pair, in the order of the columns' headings."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene
from synthaug.pipeline.scores.features.nearest_sheet import CELL, GAP, HEAD, picture_sheet
from synthaug.pipeline.scores.features.neighbours import ImagePair
from tests.feature_scenes import table


def plain(name: str, color: tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> Scene:
    pixels = np.full((*size, 3), color, np.uint8)
    return Scene(name, *size, ImageRef(encode(pixels, "png")), Objects.build([], []))


def drawn(picture: bytes | None) -> NDArray[np.int64]:
    assert picture
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "JPEG"
        return np.asarray(image).astype(np.int64)


RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)


def test_a_row_shows_the_image_its_nearest_by_features_and_its_nearest_by_layout() -> None:
    synthetic = table([plain("other", (0, 0, 0)), plain("s", RED)])
    train = table([plain("a", BLUE), plain("b", (0, 0, 0)), plain("c", GREEN)])
    pair = ImagePair("s", 1, "c", 2, 0.9, "a", 0, 0.7)
    pixels = drawn(picture_sheet([pair], synthetic, train))
    assert pixels.shape == (HEAD + CELL + HEAD, 3 * (CELL + GAP), 3)
    for column, color in enumerate((RED, GREEN, BLUE)):
        center = pixels[HEAD + CELL // 2, column * (CELL + GAP) + GAP + CELL // 2]
        assert np.abs(center - color).max() < 12


def test_a_wide_image_keeps_its_shape() -> None:
    wide = table([plain("w", RED, (10, 40))])
    pixels = drawn(picture_sheet([ImagePair("w", 0, "w", 0, 1, "w", 0, 1)], wide, wide))
    column = pixels[HEAD : HEAD + CELL, GAP + CELL // 2]
    red = np.flatnonzero(np.abs(column - RED).max(1) < 12)
    assert abs(len(red) - CELL // 4) <= 4, "a quarter as high as wide"
    assert red[-1] >= CELL - 4, "it stands on the line of its number"


def test_every_pair_has_a_row_and_no_pair_has_no_sheet() -> None:
    one = table([plain("x", GREEN)])
    pairs = [ImagePair("x", 0, "x", 0, 1, "x", 0, 1)] * 3
    assert drawn(picture_sheet(pairs, one, one)).shape[0] == HEAD + 3 * (CELL + HEAD)
    assert picture_sheet([], one, one) is None

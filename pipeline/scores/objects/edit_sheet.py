"""A picture sheet of edited images beside the real images they were made of.

Made objects are in red boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.images import decode, encode, resize
from synthaug.pipeline.core.scene import Dataset, Scene

HEIGHT, GAP = 240, 6  # pixels: of a picture, and around it
RED = (220, 20, 30)
LOOKED_AT = 400  # scenes, at most, for some that show made objects

Image = NDArray[np.uint8]


def edit_sheet(synthetic: Dataset, real: Dataset, most: int) -> bytes | None:
    """Return a JPEG with a row per edited image: before, after.

    None where no edited image has its real one.
    """
    rows = []
    for after, before in _pairs(synthetic, real, most):
        images = [before, after[0], after[1]]
        row = np.concatenate([_framed(image) for image in images], axis=1)
        rows.append(row)
    if not rows:
        return None
    width = max(row.shape[1] for row in rows)
    filled = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return encode(np.concatenate(filled), "jpeg")


def _pairs(
    synthetic: Dataset, real: Dataset, most: int
) -> Iterator[tuple[tuple[Image, Image], Image]]:
    """Yield edited images, bare and with boxes, and the real ones they were made of."""
    index_of: dict[str, int] = {}
    if most:
        index_of = {scene.image_id: index for index, scene in enumerate(real)}
    count = 0
    for number, scene in enumerate(synthetic):
        if count == most or number == LOOKED_AT:
            return
        made = [source == "synthetic" for source in scene.objects.source]
        if scene.provenance is None or not any(made):
            continue
        index = index_of.get(scene.provenance.source_image)
        if index is None or real[index].size != scene.size:
            continue
        image = decode(scene)
        before = decode(real[index])
        mirrored = before[:, ::-1]
        if _difference(image, mirrored) < _difference(image, before):
            before = mirrored
        count += 1
        yield (image, with_boxes(image, scene, np.array(made))), before


def _difference(first: Image, second: Image) -> float:
    steps = first.astype(np.int16) - second
    return float(np.abs(steps).mean())


def with_boxes(image: Image, scene: Scene, chosen: Flags) -> Image:
    """Return an image with red boxes around the chosen objects of its scene."""
    import cv2

    drawn = image.copy()
    for box in scene.objects.boxes[chosen]:
        x0, y0, x1, y1 = np.rint(box).astype(int).tolist()
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), RED, 1)
    return drawn


def _framed(image: Image) -> Image:
    """Bring an image to the height of the sheet, with white around it."""
    height, original_width = image.shape[:2]
    width = max(1, round(original_width * HEIGHT / height))
    shown = resize(np.ascontiguousarray(image), (HEIGHT, width))
    border = ((GAP, GAP), (GAP, GAP), (0, 0))
    return np.pad(shown, border, constant_values=255)

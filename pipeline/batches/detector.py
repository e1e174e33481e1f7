"""Tables of scenes to batches of detector samples.

Every batch is a pure function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.pixels import Pixels
from synthaug.pipeline.core.arrays import Bytes, Floats32
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import Dataset, Objects, Scene

if TYPE_CHECKING:
    from synthaug.detectors.base import Sample


def detector_batches(
    table: Dataset, draw: Draw, rank: int = 0, world: int = 1, masks: bool = False
) -> Callable[[int], list[Sample]]:
    """Return step -> samples for a detector.

    Process `rank` of `world` gets every world-th.

    With `masks` an image whose objects all have masks brings them along; with one missing it brings
    none.
    """
    pixels = Pixels([table])

    def batch(step: int) -> list[Sample]:
        indices = draw(step)[rank::world]
        return [sample_of(*pixels[index], masks) for index in indices]

    return batch


def sample_of(scene: Scene, image: Bytes, masks: bool = False) -> Sample:
    """Return a scene with its pixels [H, W, 3] as a sample.

    Crowds are no objects to learn but regions to ignore.
    """
    from synthaug.detectors.base import Sample

    objects = scene.objects.without_crowds()
    stack = None
    if masks and None not in objects.rle:
        stack = decode_all(objects, scene.size)
    labels = objects.category.astype(np.int64)
    return Sample(image, objects.boxes, labels, stack, crowds(scene.objects))


def crowds(objects: Objects) -> Floats32 | None:
    """Return the boxes [K, 4] of crowds, None where there is none.

    A detector must learn them neither as objects nor as background.
    """
    if not objects.iscrowd.any():
        return None
    return objects.boxes[objects.iscrowd]

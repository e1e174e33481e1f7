"""The table that Simple Copy-Paste (Ghiasi et al. 2021) trains a detector on: pictures made of two real images each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from synthaug.generators.copy_paste import Config, Frame
from synthaug.pipeline.batches.pixels import Pixels, ScenePixels
from synthaug.pipeline.core.datasets import View
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Dataset, ImageRef, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.synthesis.object_bank import extent_of, pasteable, piece_of
from synthaug.pipeline.synthesis.pasting import Canvas, Labels, paste


class CopyPasteTable(View):
    """Backgrounds of a table with objects of other scenes of it, drawn from (seed, index) whenever they are read.

    Background and source are zoomed and mirrored at random, and a part of the source's objects is pasted.
    """

    def __init__(self, table: Dataset, config: Config, seed: int, size: int) -> None:
        super().__init__(table, f"{config}:{seed}:{size}")
        self.skipped = Counter()
        self.config = config
        self.seed = seed
        self._size = size
        self._pixels = Pixels([table])

    def __len__(self) -> int:
        return self._size

    def entry(self, index: int) -> ScenePixels:
        """Return scene `index` without encoded pixels, and its pixels [H, W, 3]."""
        config, count = self.config, len(self.table)
        rng = rng_for(self.seed, "paste", index)
        epoch, position = divmod(index, count)
        shuffle = seed_for(self.seed, "background", epoch)
        scene, image = self._pixels[permuted(position, count, shuffle)]
        source, source_image = self._pixels[int(rng.integers(count))]
        size = scene.size
        canvas = Canvas.of(scene, image, Frame.draw(size, size, config, rng))
        frame = Frame.draw(source.size, size, config, rng)

        numbers = random_part(pasteable(source.objects), config.part, rng)
        extents = [extent_of(source, number) for number in numbers]
        boxes = np.array([box for box, _ in extents], np.float32).reshape(-1, 4)
        boxes = frame.boxes(boxes)
        pieces = []
        for extent, box in zip(extents, boxes, strict=True):
            pieces.append(piece_of(source_image, extent, box, frame.mirror, config))

        ids = np.arange(1, len(canvas.objects) + len(pieces) + 1)
        category = source.objects.category[numbers].astype(np.int64)
        labels = Labels(ids, boxes, category, min_area=1.0)
        picture = paste(canvas, pieces, labels, config, self.categories)
        image_id = f"copy-paste-{index:08d}"
        return Scene(image_id, *size, ImageRef(None, None), picture.objects), picture.image

    def __getitem__(self, index: int) -> Scene:
        scene, image = self.entry(index)
        return replace(scene, image=ImageRef(encode(image, "png"), None))


def random_part(numbers: list[int], part: float, rng: np.random.Generator) -> list[int]:
    """Return each number with probability `part`, in their order; at least one, where there is one."""
    points = rng.random(len(numbers))
    chosen = [number for number, point in zip(numbers, points, strict=True) if point < part]
    if chosen or not numbers:
        return chosen
    return [numbers[int(rng.integers(len(numbers)))]]

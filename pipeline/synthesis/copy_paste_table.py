"""The table that the copy-paste arm of a trial learns from.

Real images with a few objects of other real images.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from synthaug.generators.copy_paste import Config, Frame
from synthaug.pipeline.batches.pixels import ScenePixels
from synthaug.pipeline.core.datasets import View
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Dataset, ImageRef, Objects, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for
from synthaug.pipeline.planning.targets import chosen_classes
from synthaug.pipeline.synthesis.object_bank import Bank
from synthaug.pipeline.synthesis.pasting import Arrangement, Canvas, Labels, paste

NO_PLACE = "found no place"  # reason under which an object is counted that is not pasted


class CopyPasteTable(View):
    """Images of a table with 1 to `config.most` objects of others.

    Drawn from (seed, index) whenever they are read. Classes are drawn by the square roots of their
    objects: rarer ones come more often than they do, though not as often as others. All objects of
    these images are ones that a person labelled.
    """

    def __init__(
        self, table: Dataset, config: Config, seed: int, size: int, bare: Dataset | None = None
    ) -> None:
        """Take a table of real images, and the same one without pixels.

        The latter where there is one. Raises JobError for a class of `config.classes` that the
        table has not.
        """
        super().__init__(table, f"{config}:{seed}:{size}")
        self.skipped = Counter()
        self.config = config
        self.seed = seed
        self._size = size
        self._bank = Bank.of(table, bare or table, config)
        num_classes = len(table.categories)
        counts = np.bincount(self._bank.category, minlength=num_classes)  # [C]
        chosen = chosen_classes(
            config.classes, counts, table.categories, "trial.copy_paste.classes"
        )
        weights = np.sqrt(counts) * chosen
        self._shares = weights / max(1e-9, weights.sum())  # [C]

    def __len__(self) -> int:
        return self._size

    def entry(self, index: int) -> ScenePixels:
        """Return scene `index` without encoded pixels, and its pixels [H, W, 3]."""
        bank = self._bank
        count = len(self.table)
        rng = rng_for(self.seed, "paste", index)
        epoch, position = divmod(index, count)
        shuffle = seed_for(self.seed, "background", epoch)
        scene, image = bank.pixels[permuted(position, count, shuffle)]
        frame = Frame.still(scene.size)
        canvas = Canvas.of(scene, image, frame)
        arrangement = Arrangement.on(canvas, bank)
        pasted = []
        for category in self._draw(rng):
            cutout = bank.draw(category, rng)
            assert cutout is not None
            if arrangement.lay(category, cutout, rng):
                pasted.append(category)
            else:
                self.skipped[NO_PLACE] += 1
        total = len(canvas.objects) + len(pasted)
        ids = np.arange(1, total + 1)
        categories = np.array(pasted, np.int64)
        labels = Labels(ids, arrangement.label_boxes(), categories, min_area=1.0)
        picture = paste(canvas, arrangement.pieces, labels, self.config, self.categories)
        image_id = f"copy-paste-{index:08d}"
        objects = _by_a_person(picture.objects)
        no_file = ImageRef(None, None)
        return Scene(image_id, *scene.size, no_file, objects), picture.image

    def __getitem__(self, index: int) -> Scene:
        scene, image = self.entry(index)
        encoded = ImageRef(encode(image, "png"), None)
        return replace(scene, image=encoded)

    def _draw(self, rng: np.random.Generator) -> list[int]:
        """Draw the classes of the objects that an image receives.

        None where none can be pasted.
        """
        most = self.config.most
        number = int(rng.integers(1, most + 1))
        if not self._shares.any():
            return []
        shares = self._shares
        drawn: list[int] = rng.choice(len(shares), number, p=shares).tolist()
        return drawn


def _by_a_person(objects: Objects) -> Objects:
    """Return the objects as labelled by a person.

    A pasted one has its annotator's box.
    """
    sources = []
    for source in objects.source:
        if source == "synthetic":
            source = "human"
        sources.append(source)
    return replace(objects, source=tuple(sources))

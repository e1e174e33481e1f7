"""The images of batch `step`, a pure function of (seed, step).

So there is no loader state to save or restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.pipeline.core.arrays import Flags, Floats, Ints
from synthaug.pipeline.core.scene import Dataset, Objects, Scene
from synthaug.pipeline.core.seeding import permuted, rng_for, seed_for


@dataclass(frozen=True)
class Draw:
    """Indices of the images of batch `step`.

    Uniform epochs, drawn with weights, or drawn by class.
    """

    size: int  # images there are
    batch: int
    seed: int
    weights: Floats | None = None  # [size]
    images_of_class: tuple[Ints, ...] = ()  # per class that is there
    classes: tuple[int, ...] = ()  # these classes

    def __call__(self, step: int) -> list[int]:
        """Return `batch` image indices."""
        if self.images_of_class:
            return self._by_class(step)
        if self.weights is not None:
            return self._weighted(step)
        return self._uniform(step)

    def _uniform(self, step: int) -> list[int]:
        """Return the next images of a permutation, another one each epoch."""
        first = step * self.batch
        indices = []
        for number in range(first, first + self.batch):
            epoch, position = divmod(number, self.size)
            key = seed_for(self.seed, "epoch", epoch)
            indices.append(permuted(position, self.size, key))
        return indices

    def _weighted(self, step: int) -> list[int]:
        """Draw images with their weights."""
        assert self.weights is not None
        edges = np.cumsum(self.weights)
        rng = rng_for(self.seed, "batch", step)
        points = rng.random(self.batch) * edges[-1]
        indices = np.searchsorted(edges, points, side="right")
        indices = indices.clip(0, self.size - 1)
        return [int(index) for index in indices]

    def _by_class(self, step: int) -> list[int]:
        """Draw a class, then one of its images, each uniformly."""
        indices = []
        for class_point, image_point in self._points(step):
            images = self.images_of_class[int(class_point * len(self.images_of_class))]
            position = int(image_point * len(images))
            indices.append(int(images[position]))
        return indices

    def drawn_for(self, step: int) -> list[int]:
        """Return the class that each image [batch] was drawn for; -1 = for none."""
        if not self.images_of_class:
            return [-1] * self.batch
        points = self._points(step)
        return [self.classes[int(point * len(self.classes))] for point, _ in points]

    def _points(self, step: int) -> list[list[float]]:
        """Return random numbers in [0, 1), one for the class and one for the image."""
        rng = rng_for(self.seed, "batch", step)
        points: list[list[float]] = rng.random((self.batch, 2)).tolist()
        return points

    def mirrored(self, step: int, flip: bool) -> Flags:
        """Draw which images [batch] of a batch are mirrored.

        Half of them, or none without `flip`.
        """
        rng = rng_for(self.seed, "flip", step)
        points = rng.random(self.batch)
        probability = 0.5 if flip else 0.0
        return points < probability


def repeat_factors(present: Flags, threshold: float) -> Floats:
    """Compute how often each image is drawn relative to the others.

    LVIS, Gupta et al. 2019, section 4.3.

    present [N, C] says which classes an image holds; factor = max over its classes of max(1,
    sqrt(threshold / frequency)).
    """
    frequency = present.mean(0).clip(1e-9)
    per_class = np.maximum(1.0, np.sqrt(threshold / frequency))  # [C]
    of_present = np.where(present, per_class, 1.0)
    factors: Floats = of_present.max(1, initial=1.0)
    return factors


def draw_for(
    tables: Sequence[Dataset],
    batch: int,
    seed: int,
    sampling: str,
    threshold: float,
    select: Callable[[Scene], Objects] | None = None,
) -> Draw:
    """Return the draw a job asks for.

    `uniform`: every image once an epoch; `repeat_factor`: see `repeat_factors`; `class_balanced`: a
    class of those present uniformly, then one of its images uniformly (class-aware sampling, Shen
    et al. 2016), so images without objects never come. Crowds do not count as present, nor do
    objects of a scene that `select` leaves out.
    """
    size = sum(len(table) for table in tables)
    if sampling == "uniform":
        return Draw(size, batch, seed)
    num_classes = len(tables[0].categories)
    present = np.zeros((size, num_classes), bool)
    for row, scene in zip(present, _scenes(tables), strict=True):
        objects = scene.objects if select is None else select(scene)
        row[objects.category[~objects.iscrowd]] = True
    if sampling == "class_balanced" and present.any():
        classes = tuple(np.flatnonzero(present.any(0)).tolist())
        images_of_class = tuple(np.flatnonzero(present[:, label]) for label in classes)
        return Draw(size, batch, seed, images_of_class=images_of_class, classes=classes)
    return Draw(size, batch, seed, repeat_factors(present, threshold))


def _scenes(tables: Sequence[Dataset]) -> Iterator[Scene]:
    """Yield the scenes of tables laid end to end."""
    for table in tables:
        yield from table

"""The interface of what paints sketches, and what is common to all that do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from synthaug.pipeline.core.arrays import Bytes, Flags
from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.masks import encode_with_boxes
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene
from synthaug.pipeline.studio.sketch import Sketch


@dataclass(frozen=True)
class Abilities:
    """What a generator can be asked for; each of the page's tools needs one of them."""

    kind: str  # layout | map | photo: what its images depend on
    object_styles: bool  # an object's style can be changed and all others stay
    image_style: bool  # so can the image's
    interpolates: bool  # styles can be mixed
    erases: bool  # objects of a photo can be taken out of it


@dataclass(frozen=True)
class Painted:
    """The image of a sketch of N objects."""

    image: Bytes  # RGB [H, W, 3]
    masks: Flags  # [N, H, W] what is seen of each object


class Painter(Protocol):
    """Paints sketches; an image depends on its own sketch only."""

    abilities: Abilities

    def check(self, sketch: Sketch) -> None:
        """Raise ValueError, in one sentence, for a sketch that cannot be painted."""
        ...

    def paint(self, sketches: Sequence[Sketch], draft: bool = False) -> list[Painted]:
        """Return the images of sketches that were checked.

        A draft may be rougher where that is quicker.
        """
        ...


def labels_of(categories: Sequence[Category]) -> Mapping[str, int]:
    """Return the index of each class by its name."""
    return {category.name: index for index, category in enumerate(categories)}


def scene_of(sketch: Sketch, painted: Painted, categories: Sequence[Category]) -> Scene:
    """Return the scene of a painted sketch, its objects as they are seen.

    The ids of the objects are their numbers + 1; those of which nothing is seen are left out.
    """
    label_of = labels_of(categories)
    labels = np.array([label_of[item.label] for item in sketch.items], np.int64)
    rles, tight = encode_with_boxes(painted.masks)
    seen = np.flatnonzero(painted.masks.any((1, 2))).tolist()
    layout_boxes = np.array([item.box for item in sketch.items], np.float32).reshape(-1, 4)
    sources = ["human" if item.real else "synthetic" for item in sketch.items]
    objects = Objects.build(
        labels,
        tight,
        id=[item.number + 1 for item in sketch.items],
        rle=tuple(rles),
        area=painted.masks.sum((1, 2)),
        isthing=[categories[label].isthing for label in labels.tolist()],
        source=sources,
        layout_boxes=layout_boxes,
    )
    height, width = sketch.size
    image = ImageRef(encode(painted.image, "png"), "studio.png")
    return Scene("studio", height, width, image, objects.select(seen))

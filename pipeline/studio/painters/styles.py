"""LostGAN: a code for the image and one for each object, all changed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthaug.pipeline.core.images import resize, resize_maps
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.studio.painters.base import Abilities, Painted, labels_of
from synthaug.pipeline.studio.sketch import Sketch, Style
from synthaug.pipeline.synthesis.masks_from_levels import resolve

if TYPE_CHECKING:
    from synthaug.generators.lostgan.control import Controlled, Studio


class StylePainter:
    """Paints by codes; of one seed throughout, the image is that of mass production."""

    abilities = Abilities(
        "layout", object_styles=True, image_style=True, interpolates=True, erases=False
    )

    def __init__(self, studio: Studio, categories: Sequence[Category]) -> None:
        self._studio = studio
        self._label_of = labels_of(categories)
        self._categories = categories

    def check(self, sketch: Sketch) -> None:
        """Refuse classes that the checkpoint does not know."""
        for item in sketch.items:
            self._studio.codebook.label(item.label)

    def paint(self, sketches: Sequence[Sketch], draft: bool = False) -> list[Painted]:
        """Return the images of the codes, at the size of each sketch."""
        controlled = [self._controlled(sketch) for sketch in sketches]
        rendered = self._studio.render(controlled)
        painted = []
        for place, sketch in enumerate(sketches):
            image = resize(rendered.images[place], sketch.size)
            count = len(sketch.items)
            soft = resize_maps(rendered.masks[place, :count], sketch.size)
            boxes = np.array([item.box for item in sketch.items], np.float32).reshape(-1, 4)
            labels = [self._label_of[item.label] for item in sketch.items]
            things = [self._categories[label].isthing for label in labels]
            masks = resolve(soft, boxes, np.array(things, bool))
            painted.append(Painted(image, masks))
        return painted

    def _controlled(self, sketch: Sketch) -> Controlled:
        height, width = sketch.size
        objects: list[dict[str, Any]] = []
        for item in sketch.items:
            x0, y0, x1, y1 = item.box
            objects.append(
                {
                    "number": item.number,
                    "class": item.label,
                    "box": (x0 / width, y0 / height, x1 / width, y1 / height),
                    "style": _pairs(item.style),
                }
            )
        style = _pairs(sketch.style)
        return self._studio.restore(
            {
                "seed": sketch.seed,
                "image": style,
                "background": style,
                "born": sketch.born,
                "objects": objects,
            }
        )


def _pairs(style: Style) -> list[list[float]]:
    return [[seed, weight] for seed, weight in style]

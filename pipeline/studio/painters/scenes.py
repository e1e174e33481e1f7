"""Systems with one seed for the whole image, driven by boxes or by maps.

They paint what a plan would ask of them, by the synthesizer of mass production.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthaug.pipeline.core.arrays import Flags
from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import decode as decode_mask
from synthaug.pipeline.core.masks import panoptic_png
from synthaug.pipeline.core.panoptic_maps import objects_of, segments_of
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.planning.planner import ADDED
from synthaug.pipeline.studio.map_layers import segments, visible_masks
from synthaug.pipeline.studio.painters.base import Abilities, Painted, labels_of
from synthaug.pipeline.studio.sketch import Sketch, seed_of
from synthaug.pipeline.synthesis.base import Synthesizer


class ScenePainter:
    """Paints the planned scenes that sketches are."""

    def __init__(
        self, synthesizer: Synthesizer, categories: Sequence[Category], by_maps: bool
    ) -> None:
        kind = "map" if by_maps else "layout"
        self.abilities = Abilities(
            kind, object_styles=False, image_style=True, interpolates=False, erases=False
        )
        self._synthesizer = synthesizer
        self._categories = tuple(categories)
        self._label_of = labels_of(categories)
        self._by_maps = by_maps

    def check(self, sketch: Sketch) -> None:
        """Refuse classes that the data has not."""
        for item in sketch.items:
            if item.label not in self._label_of:
                raise ValueError(f"the data has no class '{item.label}'")

    def paint(self, sketches: Sequence[Sketch], draft: bool = False) -> list[Painted]:
        """Return the images of the planned scenes."""
        planned = [self._planned(sketch) for sketch in sketches]
        finished = self._synthesizer(planned, self._categories, "")
        painted = []
        for sketch, result in zip(sketches, finished, strict=True):
            image = decode(result.scene)
            if self._by_maps:
                masks = visible_masks(sketch)
            else:
                masks = _masks_by_id(result.scene, len(sketch.items), sketch.size)
            painted.append(Painted(image, masks))
        return painted

    def _planned(self, sketch: Sketch) -> Scene:
        if self._by_maps:
            return map_scene(sketch, self._categories, seed_of(sketch.style))
        return layout_scene(sketch, self._categories, seed_of(sketch.style))


def layout_scene(sketch: Sketch, categories: Sequence[Category], seed: int) -> Scene:
    """Return the planned scene of a layout; ids are positions + 1."""
    label_of = labels_of(categories)
    labels = [label_of[item.label] for item in sketch.items]
    things = [categories[label].isthing for label in labels]
    boxes = np.array([item.box for item in sketch.items], np.float32).reshape(-1, 4)
    sources = (ADDED,) * len(labels)
    objects = Objects.build(labels, boxes, isthing=np.array(things, bool), source=sources)
    return _scene(sketch, objects, seed)


def map_scene(sketch: Sketch, categories: Sequence[Category], seed: int) -> Scene:
    """Return the planned scene of a map."""
    ids, classes = segments(sketch, labels_of(categories), len(categories))
    found = segments_of(ids)
    labels = classes[found.ids]
    things = [categories[label].isthing for label in labels.tolist()]
    sources = (ADDED,) * len(labels)
    objects = objects_of(found, 0, labels, isthing=np.array(things, bool), source=sources)
    return _scene(sketch, objects, seed, panoptic_png(ids))


def _scene(sketch: Sketch, objects: Objects, seed: int, panoptic: bytes = b"") -> Scene:
    height, width = sketch.size
    provenance = Provenance(seed, "", "", "", "studio")
    drawn = ImageRef(panoptic) if panoptic else None
    return Scene("studio", height, width, ImageRef(None, None), objects, drawn, provenance)


def _masks_by_id(scene: Scene, count: int, size: tuple[int, int]) -> Flags:
    """Return the masks [N, H, W] of objects whose ids are positions + 1."""
    shown = np.zeros((count, *size), bool)
    for identity, rle in zip(scene.objects.id.tolist(), scene.objects.rle, strict=True):
        if rle is not None:
            shown[identity - 1] = decode_mask(rle, scene.size)
    return shown

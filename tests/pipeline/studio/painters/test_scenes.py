"""Systems with one seed for the image: planned scenes go to the synthesizer of production."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.masks import encode as encode_masks
from synthaug.pipeline.core.panoptic_maps import maps_of
from synthaug.pipeline.core.scene import Category, ImageRef, Scene
from synthaug.pipeline.studio.map_layers import of_map, visible_masks
from synthaug.pipeline.studio.painters.scenes import ScenePainter
from synthaug.pipeline.studio.sketch import of_objects
from synthaug.pipeline.synthesis.base import Finished
from tests.studio_room import toy_table

TABLE = toy_table()


class Told:
    """A synthesizer that keeps what it was asked for.

    Its images show the seed; of each scene it drops the first object.
    """

    def __init__(self) -> None:
        self.planned: list[Scene] = []

    def __call__(
        self, planned: Sequence[Scene], categories: Sequence[Category], checkpoint: str
    ) -> list[Finished]:
        self.planned += planned
        return [Finished(self._finished(scene), Counter()) for scene in planned]

    def _finished(self, scene: Scene) -> Scene:
        assert scene.provenance is not None
        image = np.full((*scene.size, 3), scene.provenance.seed, np.uint8)
        objects = scene.objects.select(range(1, len(scene.objects)))
        masks = np.zeros((len(objects), *scene.size), bool)
        masks[:, 2:4, 3:6] = True
        objects = replace(objects, rle=tuple(encode_masks(masks)))
        return replace(scene, image=ImageRef(encode(image, "png")), objects=objects)


def test_a_layout_is_asked_for_with_the_seed_of_the_image() -> None:
    told = Told()
    painter = ScenePainter(told, TABLE.categories, by_maps=False)
    names = [category.name for category in TABLE.categories]
    pairs = [(names[0], (1, 2, 9, 9)), (names[1], (5, 5, 30, 20))]
    sketch = of_objects((40, 60), pairs, seed=3).restyle_image(77)
    (painted,) = painter.paint([sketch])
    (planned,) = told.planned
    assert planned.provenance is not None
    assert (77, (40, 60)) == (planned.provenance.seed, planned.size)
    assert [[1, 2, 9, 9], [5, 5, 30, 20]] == planned.objects.boxes.tolist()
    assert [0, 1] == planned.objects.category.tolist()
    assert (painted.image == 77).all()
    assert not painted.masks[0].any()  # it was dropped
    assert 6 == painted.masks[1].sum()


def test_a_map_is_asked_for_as_it_was_drawn() -> None:
    told = Told()
    painter = ScenePainter(told, TABLE.categories, by_maps=True)
    sketch = of_map(TABLE[0], TABLE.categories, 9)
    (painted,) = painter.paint([sketch])
    num_classes = len(TABLE.categories)
    wanted = maps_of(TABLE[0], num_classes)
    assert (wanted.labels == maps_of(told.planned[0], num_classes).labels).all()
    assert (visible_masks(sketch) == painted.masks).all()


def test_unknown_classes_are_named() -> None:
    painter = ScenePainter(Told(), TABLE.categories, by_maps=False)
    with pytest.raises(ValueError, match="no class 'unicorn'"):
        painter.check(of_objects((40, 60), [("unicorn", (0, 0, 9, 9))], 0))

"""The scene of a painted sketch: what is seen, by the numbers of its objects."""

from __future__ import annotations

import numpy as np

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import decode_all
from synthaug.pipeline.core.scene import Category
from synthaug.pipeline.studio.painters.base import Painted, scene_of
from synthaug.pipeline.studio.sketch import of_objects

CATEGORIES = (Category(5, "sky", isthing=False), Category(9, "cow"))


def test_a_scene_has_what_is_seen() -> None:
    sketch = of_objects(
        (20, 30),
        [("cow", (0, 0, 9, 9)), ("sky", (0, 0, 30, 10)), ("cow", (10, 10, 20, 20))],
        seed=0,
    )
    sketch = sketch.remove(0).add("cow", (1, 1, 5, 5))
    masks = np.zeros((3, 20, 30), bool)
    masks[0, :10] = True
    masks[1, 12:18, 11:19] = True  # of the last one nothing is seen
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    scene = scene_of(sketch, Painted(image, masks), CATEGORIES)
    objects = scene.objects
    assert [2, 3] == objects.id.tolist()
    assert [0, 1] == objects.category.tolist()
    assert [False, True] == objects.isthing.tolist()
    assert [[0, 0, 30, 10], [11, 12, 19, 18]] == objects.boxes.tolist()
    assert [10, 10, 20, 20] == objects.layout_boxes[1].tolist()
    assert (masks[:2] == decode_all(objects, (20, 30))).all()
    assert (image == decode(scene)).all()

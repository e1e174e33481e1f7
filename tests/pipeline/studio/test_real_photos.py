"""Real images by their names, and outlines of real things."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.core.images import decode
from synthaug.pipeline.core.masks import decode as decode_mask
from synthaug.pipeline.core.scene import SceneList
from synthaug.pipeline.studio.map_layers import ellipse
from synthaug.pipeline.studio.real_photos import REMEMBERED, Outlines
from tests.studio_room import photos_of, toy_table


def test_a_photo_is_found_by_the_name_it_is_given() -> None:
    table = toy_table()
    photos = photos_of(table)
    name = photos.name_at("validation", 2)
    scene, image = photos(name)
    assert table[2].image_id == scene.image_id
    assert (decode(table[2]) == image).all()
    for unknown in ("validation/none", "labelled/toy-val-00000002", "", "validation"):
        with pytest.raises(ValueError, match="no image"):
            photos(unknown)


def test_few_photos_are_kept_decoded() -> None:
    table = toy_table(count=4)
    many = [table[k % 4] for k in range(REMEMBERED + 20)]
    named = [type(s)(f"id{k}", s.height, s.width, s.image, s.objects) for k, s in enumerate(many)]
    photos = photos_of(SceneList(table.categories, named))
    for k in range(len(named)):
        photos(f"validation/id{k}")
    assert REMEMBERED == len(photos._decoded)


def test_an_outline_is_that_of_a_real_thing() -> None:
    table = toy_table()
    label = next(
        table.categories[int(c)].name
        for c, isthing in zip(table[0].objects.category, table[0].objects.isthing, strict=True)
        if isthing
    )
    shapes = []
    for scene in table:
        for c, rle in zip(scene.objects.category, scene.objects.rle, strict=True):
            if table.categories[int(c)].name == label and rle is not None:
                mask = decode_mask(rle, scene.size)
                rows, columns = np.nonzero(mask)
                shapes.append(mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    shape = Outlines(table).draw(label, 5)
    own = decode_mask(shape.rle, shape.size)
    assert any(own.shape == other.shape and (own == other).all() for other in shapes)
    assert shape == Outlines(table).draw(label, 5)


def test_a_class_without_outlines_gets_an_ellipse() -> None:
    assert ellipse() == Outlines(toy_table()).draw("nothing of the kind", 0)

"""Scenes at the size at which papers measure: everything in them moves together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synthaug.pipeline.core import masks, panoptic_maps
from synthaug.pipeline.core.images import decode, encode, resize
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.scoring.sizes import scene_at_size, table_at_size

WIDE = (20, 80)  # H, W: another aspect than the toy's


def halves() -> Scene:
    """An image [8, 16] whose left half is white, with the mask and the map of it."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    mask = np.zeros((1, 8, 16), bool)
    mask[:, :, :8] = True
    ids = np.where(mask[0], 1, 0)
    rles, boxes = masks.encode_with_boxes(mask)
    objects = Objects.build([0], boxes, rle=rles, area=[64], layout_boxes=[[0, 0, 4, 8]])
    png = ImageRef(masks.panoptic_png(ids))
    return Scene("a", 8, 16, ImageRef(encode(pixels, "png")), objects, png)


def test_image_boxes_mask_and_map_of_a_scene_stay_together() -> None:
    scene = scene_at_size(halves(), (4, 32))
    assert (4, 32) == scene.size == decode(scene).shape[:2]
    assert [[0, 0, 16, 4]] == scene.objects.boxes.tolist()
    assert [[0, 0, 8, 4]] == scene.objects.layout_boxes.tolist()
    (rle,) = scene.objects.rle
    assert rle is not None
    mask = masks.decode(rle, (4, 32))
    assert mask[:, :16].all() and not mask[:, 16:].any() and [64] == scene.objects.area.tolist()
    np.testing.assert_array_equal(panoptic_maps.map_of(scene) == 1, mask)
    assert 255 == decode(scene)[:, :15].min() and 0 == decode(scene)[:, 17:].max()


def test_the_area_of_a_mask_is_that_of_its_pixels_at_the_new_size() -> None:
    scene = scene_at_size(halves(), (3, 5))
    (rle,) = scene.objects.rle
    assert rle is not None
    assert scene.objects.area.tolist() == [masks.area(rle)] == [3 * round(5 / 2)]


def test_a_scene_of_the_size_is_the_same_and_pixels_are_resized_as_for_training() -> None:
    scene = halves()
    assert scene_at_size(scene, (8, 16)) is scene
    (real,) = toy.ToyDataset(toy.Config("val", 1))
    np.testing.assert_array_equal(decode(scene_at_size(real, WIDE)), resize(decode(real), WIDE))


def test_a_table_without_pixels_is_never_decoded() -> None:
    blind = replace(halves(), image=ImageRef(None, "a.png"), panoptic=ImageRef(None, "a_map.png"))
    table = table_at_size(SceneList((Category(1, "x"),), [blind]), (4, 4), pixels=False)
    assert (4, 4) == table[0].size and table[0].panoptic is not None
    other = table_at_size(SceneList((Category(1, "x"),), [blind]), (8, 8), pixels=False)
    assert table.fingerprint() != other.fingerprint()

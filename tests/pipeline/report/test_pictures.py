"""Pictures.

Pixels of the asked size, shapes where the objects are, outlines that cover their masks.
"""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Provenance, Scene
from synthaug.pipeline.formats.toy import dataset as toy
from synthaug.pipeline.report.pictures import (
    COLORS,
    Resolution,
    describe,
    embed,
    full_picture,
    layout_picture,
    object_picture,
    outline,
)


def decoded(src):
    """Return the pixels [H, W, 3] of a data URI."""
    data = base64.b64decode(src.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_dropped_things_are_marked():
    planned = Objects.build([0, 1], [[2, 2, 10, 10], [20, 20, 30, 30]], id=[7, 8])
    scene = Scene(
        "a", 32, 64, ImageRef(), planned.select([0]), None, Provenance(1, "", "", "b", "")
    )
    picture = full_picture(scene, np.zeros((32, 64, 3), np.uint8), toy.CATEGORIES, 128, planned)
    assert (128, 64) == (picture.width, picture.height)
    assert [("thing", "tree"), ("asked", "tree"), ("dropped", "car")] == [
        (s.kind, s.name) for s in picture.shapes
    ]
    assert (40, 40, 20, 20) == tuple(
        getattr(picture.shapes[2], k) for k in ("x", "y", "width", "height")
    )


@pytest.mark.parametrize("hole", [False, True])
def test_outline_covers_the_mask(hole):
    """Filled again with the even-odd rule the path gives the enlarged mask back, holes and all."""
    import cv2

    mask = np.zeros((24, 32), bool)
    mask[4:20, 6:30] = True
    mask[8:14, 12:20] = not hole
    path = outline(mask, (96, 128))
    steps = [re.findall(r"-?\d+", ring) for ring in re.findall(r"M([-\dl ]+)z", path)]
    rings = [np.array(ring, int).reshape(-1, 2).cumsum(0).astype(np.int32) for ring in steps]
    canvas = np.zeros((96, 128), np.uint8)
    cv2.fillPoly(canvas, rings, 1)
    wanted = np.kron(mask, np.ones((4, 4), bool))
    assert 1 + hole == len(rings)
    assert (canvas.astype(bool) != wanted).mean() < 0.02


def test_crowds_are_not_outlined():
    crowd = Objects.build(
        [0], [[0, 0, 8, 8]], iscrowd=[True], rle=masks.encode(np.ones((1, 16, 16), bool))
    )
    picture = full_picture(
        Scene("a", 16, 16, ImageRef(), crowd), np.zeros((16, 16, 3), np.uint8), toy.CATEGORIES, 64
    )
    assert () == picture.shapes


def test_crop_stays_inside_the_image():
    objects = Objects.build([0], [[50, 2, 62, 60]])
    scene = Scene("a", 64, 64, ImageRef(), objects)
    picture = object_picture(
        scene, np.zeros((64, 64, 3), np.uint8), toy.CATEGORIES, 192, 0, crop=True
    )
    assert (192, 192) == (picture.width, picture.height)
    shape = picture.shapes[0]
    assert 0 <= shape.x < shape.x + shape.width <= 192


def test_an_image_is_embedded_in_the_asked_size_and_way_round():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10, :, 0] = 255
    small = decoded(embed(pixels, (10, 20)))
    assert small.shape == (10, 20, 3)
    assert small[1, :, 0].min() > 200 > 60 > small[-2, :, 0].max()


def test_no_more_pixels_are_stored_than_the_image_has():
    scene = Scene("a", 30, 60, ImageRef(), Objects.build([], []))
    pixels = np.zeros((30, 60, 3), np.uint8)
    large = full_picture(scene, pixels, toy.CATEGORIES, 384)
    assert (large.width, large.height) == (384, 192), "the units of the shapes"
    assert decoded(large.src).shape == (30, 60, 3)
    coarse = full_picture(scene, pixels, toy.CATEGORIES, 384, resolution=Resolution(20))
    assert decoded(coarse.src).shape == (10, 20, 3)


def test_shapes_are_where_the_objects_are_in_units_of_the_picture():
    objects = Objects.build([1], [[10, 5, 30, 25]], id=[4])
    scene = Scene("a", 50, 100, ImageRef(), objects)
    picture = full_picture(scene, np.zeros((50, 100, 3), np.uint8), toy.CATEGORIES, 200)
    (shape,) = picture.shapes
    assert (shape.x, shape.y, shape.width, shape.height) == (20, 10, 40, 40)
    assert (shape.id, shape.category, shape.color) == (4, 1, 1)
    assert shape.name == toy.CATEGORIES[1].name


def test_boxes_at_the_border_stay_inside_the_picture():
    objects = Objects.build([0], [[-5, 0, 64, 64]])
    scene = Scene("a", 64, 64, ImageRef(), objects)
    (shape,) = layout_picture(scene, toy.CATEGORIES, 64).shapes
    assert shape.x > 0 and shape.y > 0
    assert shape.x + shape.width < 64 and shape.y + shape.height < 64


def test_a_layout_has_no_pixels():
    scene = Scene("a", 64, 32, ImageRef(), Objects.build([0], [[1, 1, 9, 9]]))
    picture = layout_picture(scene, toy.CATEGORIES, 64)
    assert picture.src == ""
    assert (picture.width, picture.height) == (32, 64)
    assert picture.alt == f"Layout a: 1 {toy.CATEGORIES[0].name}"


def test_stuff_lies_below_things():
    categories = (Category(1, "car"), Category(2, "sky", isthing=False))
    objects = Objects.build([0, 1], [[1, 1, 9, 9], [0, 0, 32, 32]], isthing=[True, False])
    scene = Scene("a", 32, 32, ImageRef(), objects)
    kinds = [shape.kind for shape in layout_picture(scene, categories, 32).shapes]
    assert kinds == ["stuff", "thing"]


def test_a_color_comes_again_after_the_palette():
    categories = tuple(Category(k + 1, f"c{k}") for k in range(COLORS + 1))
    objects = Objects.build([COLORS], [[1, 1, 9, 9]])
    scene = Scene("a", 32, 32, ImageRef(), objects)
    (shape,) = layout_picture(scene, categories, 32).shapes
    assert shape.color == 0
    assert shape.category == COLORS


def test_scores_are_shown_of_verdicts_and_of_pseudo_labels_alone():
    boxes = [[1, 1, 9, 9]] * 3
    objects = Objects.build(
        [0, 0, 0],
        boxes,
        source=["human", "pseudo", "synthetic"],
        score=[1.0, 0.4567, 1.0],
        verdict=[None, None, "kept"],
        verdict_score=[np.nan, np.nan, 0.9876],
    )
    scene = Scene("a", 32, 32, ImageRef(), objects)
    shapes = layout_picture(scene, toy.CATEGORIES, 32).shapes
    assert [shape.score for shape in shapes] == [None, 0.457, 0.988]
    assert [shape.verdict for shape in shapes] == ["", "", "kept"]


def test_a_crop_shows_the_object_and_its_surroundings():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[40:60, 40:60, 1] = 255
    scene = Scene("a", 100, 100, ImageRef(), Objects.build([0], [[40, 40, 60, 60]]))
    picture = object_picture(scene, pixels, toy.CATEGORIES, 76, 0, crop=True)
    (shape,) = picture.shapes
    assert (shape.x, shape.y, shape.width, shape.height) == (18, 18, 40, 40)
    shown = decoded(picture.src)
    assert shown.shape == (38, 38, 3), "the square has 1.9 times the side"
    assert shown[19, 19, 1] > 200
    assert shown[2, 2, 1] < 60


def test_an_image_is_described_by_its_objects():
    categories = (Category(1, "tree"), Category(2, "car"))
    assert describe(Objects.build([0, 1, 0], [[0, 0, 1, 1]] * 3), categories) == "2 tree, 1 car"
    assert describe(Objects.build([], []), categories) == "no objects"

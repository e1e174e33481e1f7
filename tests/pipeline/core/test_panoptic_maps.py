"""Panoptic maps against counting pixel by pixel, and against Pillow and pycocotools."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from synthaug.pipeline.core import masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene

MAPS = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 1, 2, 300, 2**24 - 1]),
)


def scene_of(ids: np.ndarray, number: int = 0, **columns) -> Scene:
    found = panoptic.segments_of(ids)
    n = len(found.ids)
    objects = panoptic.objects_of(
        found, number, columns.pop("category", np.arange(n) % 3), **columns
    )
    return Scene("a", *ids.shape, ImageRef(), objects, ImageRef(masks.panoptic_png(ids)))


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_segments_are_what_counting_gives(ids):
    found = panoptic.segments_of(ids)
    expected = [i for i in np.unique(ids).tolist() if i]
    stack = np.array([ids == i for i in expected], bool).reshape(len(expected), *ids.shape)
    assert expected == found.ids.tolist()
    assert stack.sum((1, 2)).tolist() == found.area.tolist()
    assert masks.encode(stack) == list(found.rle)
    assert np.array_equal(masks.tight_boxes(stack), found.boxes)


@settings(max_examples=60, deadline=None)
@given(MAPS, st.integers(0, 2**20), st.data())
def test_maps_say_of_each_pixel_whose_it_is(ids, number, data):
    n = len(panoptic.segments_of(ids).ids)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    scene = scene_of(ids, number, isthing=data.draw(flags), iscrowd=data.draw(flags))
    order = data.draw(st.permutations(range(n)))
    scene = scene.with_objects(scene.objects.select(list(order)))
    maps, objects = panoptic.maps_of(scene, 3), scene.objects
    assert np.array_equal(ids, panoptic.map_of(scene))
    known = panoptic.segment_ids(objects).tolist()
    for y, x in np.ndindex(*ids.shape):
        k = known.index(ids[y, x]) if ids[y, x] else None
        label = 3 if k is None else objects.category[k]
        alone = k is not None and objects.isthing[k] and not objects.iscrowd[k]
        assert (label, 4 + k if alone else label) == (maps.labels[y, x], maps.instances[y, x])


@settings(max_examples=60, deadline=None)
@given(MAPS, st.data())
def test_picked_segments_come_in_the_order_that_is_asked_for(ids, data):
    found = panoptic.segments_of(ids)
    order = data.draw(st.permutations(range(len(found.ids))))
    chosen = panoptic.pick(found, found.ids[list(order)].tolist())
    assert found.ids[list(order)].tolist() == chosen.ids.tolist()
    assert [found.rle[k] for k in order] == list(chosen.rle)
    assert found.area[list(order)].tolist() == chosen.area.tolist()
    assert np.array_equal(found.boxes[list(order)], chosen.boxes)


@settings(max_examples=60, deadline=None)
@given(MAPS, st.permutations([1, 2, 300]), st.lists(st.integers(-5, 5), min_size=3, max_size=3))
def test_ids_are_replaced_one_by_one_and_all_others_alike(ids, known, values):
    replaced = panoptic.replace_ids(ids, np.array(known), np.array(values), 99)
    table = dict(zip(known, values, strict=True))
    for y, x in np.ndindex(*ids.shape):
        assert table.get(ids[y, x], 99) == replaced[y, x]


def test_without_known_ids_all_pixels_are_alike():
    none = np.zeros(0, np.int64)
    assert [[7, 7]] == panoptic.replace_ids(np.array([[0, 5]]), none, none, 7).tolist()


def test_objects_of_a_map_take_boxes_areas_and_masks_of_its_segments():
    ids = np.array([[5, 5, 0], [9, 5, 0]])
    objects = panoptic.objects_of(panoptic.segments_of(ids), 2, [1, 0], score=[0.5, 1.0])
    assert [(2 << 24) + 5, (2 << 24) + 9] == objects.id.tolist()
    assert [[0, 0, 2, 2], [0, 1, 1, 2]] == objects.boxes.tolist()
    assert [3.0, 1.0] == objects.area.tolist()
    assert np.array_equal(ids == 5, masks.decode(objects.rle[0], (2, 3)))
    assert ([1, 0], [0.5, 1.0]) == (objects.category.tolist(), objects.score.tolist())


def test_a_resized_map_takes_height_and_width_each_by_its_own_ratio():
    scene = scene_of(np.array([[1, 2]]), category=[0, 1])
    maps = panoptic.maps_of(scene, 3, (2, 4))
    assert [[0, 0, 1, 1]] * 2 == maps.labels.tolist()
    assert [[4, 4, 5, 5]] * 2 == maps.instances.tolist()


def png_of(pixels, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", **options)
    return ImageRef(out.getvalue())


def test_integers_of_any_width_are_read_from_a_png():
    grey = np.array([[0, 200, 255]], np.uint8)
    wide = np.array([[0, 200, 65535]], np.uint16)
    assert grey.tolist() == panoptic.pixels_of(png_of(grey), (1, 3), "x").tolist()
    assert wide.tolist() == panoptic.pixels_of(png_of(wide), (1, 3), "x").tolist()
    palette = Image.fromarray(grey, "P")
    palette.putpalette(list(range(256)) * 3)
    out = io.BytesIO()
    palette.save(out, "PNG")
    indexed = panoptic.pixels_of(ImageRef(out.getvalue()), (1, 3), "x")
    assert grey.tolist() == indexed.tolist()  # the index, not the color


def test_a_map_with_alpha_or_without_colors_is_refused():
    alpha = png_of(np.zeros((1, 3, 4), np.uint8))
    with pytest.raises(DatasetError, match="x: a map of mode RGBA; write it as grey or 8-bit RGB"):
        panoptic.pixels_of(alpha, (1, 3), "x")
    grey = png_of(np.zeros((1, 3), np.uint8))
    with pytest.raises(DatasetError, match="x: a panoptic map is an RGB PNG, this one is grey"):
        panoptic.ids_of(grey, (1, 3), "x")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 40), st.integers(1, 40))
def test_resizing_takes_pillows_samples(height, width, new_height, new_width):
    values = np.arange(height * width, dtype=np.int32).reshape(height, width)
    expected = np.asarray(
        Image.fromarray(values).resize((new_width, new_height), Image.Resampling.NEAREST)
    )
    assert np.array_equal(
        expected, panoptic.resize_map(values.astype(np.int64), (new_height, new_width))
    )


def test_the_centre_sample_is_taken_not_the_corner():
    assert [4 * i + 2 for i in range(512)] == panoptic.nearest(2048, 512).tolist()


def test_ids_of_two_images_differ_and_keep_what_the_map_says():
    ids = np.array([[7, 0], [7, 2**24 - 1]])
    first, second = scene_of(ids, 0).objects, scene_of(ids, 1).objects
    assert not set(first.id.tolist()) & set(second.id.tolist())
    assert (
        [7, 2**24 - 1]
        == panoptic.segment_ids(first).tolist()
        == panoptic.segment_ids(second).tolist()
    )


def test_bad_maps_are_one_line():
    scene = scene_of(np.array([[1, 2], [2, 2]]))
    grey = ImageRef(masks.panoptic_png(np.ones((2, 3), np.int64)), "wide.png")
    for bad, words in [
        (replace(scene, panoptic=None), "has no panoptic map"),
        (replace(scene, panoptic=grey), "wide.png: the map is 3x2 pixels, its image 2x2"),
        (replace(scene, panoptic=ImageRef(b"no")), "cannot be decoded"),
        (replace(scene, panoptic=ImageRef(None, "gone.png")), "gone.png: the map is missing"),
        (scene.with_objects(scene.objects.select([0])), "pixels of id 2 belong to no object"),
        (scene.with_objects(Objects.build([], [])), "pixels of id 1 belong to no object"),
    ]:
        with pytest.raises(DatasetError, match=words) as error:
            panoptic.maps_of(bad, 3)
        assert "\n" not in str(error.value)


def shrunk_png(image: Image.Image) -> ImageRef:
    out = io.BytesIO()
    image.save(out, "PNG")
    return ImageRef(out.getvalue())


def test_a_map_that_was_shrunk_to_a_palette_is_the_same_map() -> None:
    """Of greys the values count; of colours the index, in a panoptic map the colour."""
    ids = np.array([[7, 7, 300], [300, 70001, 70001]])
    values, index = np.unique(ids, return_inverse=True)
    colors = np.dstack([values % 256, values // 256 % 256, values // 65536])[0].astype(np.uint8)
    shrunk = Image.fromarray(index.reshape(2, 3).astype(np.uint8), "P")
    shrunk.putpalette(colors.ravel().tolist())
    assert np.array_equal(panoptic.ids_of(shrunk_png(shrunk), (2, 3), "x"), ids)
    assert np.array_equal(panoptic.pixels_of(shrunk_png(shrunk), (2, 3), "x"), index.reshape(2, 3))
    greys = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    greys.putpalette([26] * 3 + [7] * 3 + [255] * 3)
    assert panoptic.pixels_of(shrunk_png(greys), (1, 3), "x").tolist() == [[26, 7, 255]]
    two = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert panoptic.pixels_of(shrunk_png(two), (1, 2), "x").tolist() == [[0, 255]]

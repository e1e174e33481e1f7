"""Panoptic maps against counting pixel by pixel, and against Pillow and pycocotools."""

from __future__ import annotations

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

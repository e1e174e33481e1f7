"""Layout batches: objects that count, in [0, 1], mirrored with their images; a pure function of the step."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import (
    LayoutFilter,
    collate_layouts,
    layout_arrays,
    layout_batches,
)
from synthaug.pipeline.core.images import decode, resize
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene
from synthaug.pipeline.formats.toy import dataset as toy

TABLE = toy.ToyDataset(toy.Config("train", count=6, size=48))
ALL = LayoutFilter(min_area=0.0, min_objects=0, max_objects=99)


def scene_of(sides: list[float], iscrowd: list[bool] | None = None) -> Scene:
    """A scene of 100 x 50 pixels with square objects."""
    boxes = [[10, 5, 10 + side, 5 + side] for side in sides]
    objects = Objects.build(range(len(sides)), boxes, iscrowd=iscrowd or [False] * len(sides))
    return Scene("a", 50, 100, ImageRef(), objects)


def test_small_objects_and_crowds_do_not_count():
    layout_filter = LayoutFilter(min_area=0.02, min_objects=1, max_objects=2)
    scene = scene_of([10, 11, 40, 40], [False, False, False, True])  # 10 x 10 is exactly 2 %
    assert [1, 2] == layout_filter.select(scene).category.tolist()
    assert layout_filter.accepts(scene)


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (1, True), (3, True), (4, False)])
def test_images_need_as_many_objects_as_are_asked_for(count, accepted):
    assert accepted == LayoutFilter(min_objects=1, max_objects=3).accepts(scene_of([20] * count))


def test_boxes_are_shares_of_width_and_height_and_labels_begin_at_one():
    labels, boxes, scores = layout_arrays(scene_of([20, 40]).objects, (50, 100))
    assert [1, 2] == labels.tolist() and [1, 1] == scores.tolist()
    np.testing.assert_allclose(boxes, [[0.1, 0.1, 0.3, 0.5], [0.1, 0.1, 0.5, 0.9]], rtol=1e-6)
    assert (np.int64, np.float32) == (labels.dtype, boxes.dtype)
    _, mirrored, _ = layout_arrays(scene_of([20, 40]).objects, (50, 100), flip=True)
    np.testing.assert_allclose(mirrored, [[0.7, 0.1, 0.9, 0.5], [0.5, 0.1, 0.9, 0.9]], rtol=1e-6)


def test_an_image_without_objects_is_padding_alone():
    layouts = collate_layouts([scene_of([]), scene_of([20])])
    assert [[0], [1]] == layouts.labels.tolist()


def test_images_and_boxes_are_mirrored_together():
    draw = Draw(6, 4, seed=3)
    read = layout_batches([TABLE], draw, (24, 24), ALL, flip=True)
    mirrored = set()
    for step in range(3):
        batch = read(step)
        for row, index in enumerate(draw(step)):
            scene = TABLE[index]
            image = resize(decode(scene), (24, 24)).astype(np.float64).transpose(2, 0, 1)
            image = image / 127.5 - 1
            flip = not np.allclose(image, batch.images[row], atol=1e-6)
            if flip:
                np.testing.assert_allclose(image[..., ::-1], batch.images[row], atol=1e-6)
            labels, boxes, _ = layout_arrays(ALL.select(scene), scene.size, flip)
            count = len(labels)
            assert labels.tolist() == batch.layouts.labels[row, :count].tolist()
            assert not batch.layouts.labels[row, count:].any()
            np.testing.assert_allclose(boxes, batch.layouts.boxes[row, :count], rtol=1e-6)
            mirrored.add(flip)
    assert {False, True} == mirrored


def test_a_batch_depends_on_the_step_alone_and_processes_share_it():
    draw = Draw(6, 5, seed=3)
    whole = layout_batches([TABLE], draw, (24, 24), ALL, True)
    again = layout_batches([TABLE], draw, (24, 24), ALL, True)
    parts = [layout_batches([TABLE], draw, (24, 24), ALL, True, rank, 2) for rank in range(2)]
    for step in (7, 2):
        batch = whole(step)
        assert np.array_equal(batch.images, again(step).images)
        for rank, part in enumerate(parts):
            assert np.array_equal(batch.images[rank::2], part(step).images)
            labels = part(step).layouts.labels
            assert np.array_equal(batch.layouts.labels[rank::2, : labels.shape[1]], labels)
    assert not np.array_equal(whole(2).images, whole(7).images)

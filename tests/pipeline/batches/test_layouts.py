"""Layout batches: objects that count, in [0, 1], mirrored with their images.

A pure function of the step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.layouts import (
    LayoutFilter,
    box_masks,
    collate_layouts,
    layout_arrays,
    layout_batches,
    relation_rows,
)
from synthaug.pipeline.core.images import decode, encode, resize
from synthaug.pipeline.core.masks import encode as encode_masks
from synthaug.pipeline.core.scene import ImageRef, Objects, Relation, Scene, SceneList
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


# ---- Where the picture shows an object, its box must be ----

WIDE = (50, 100)  # height and width of the images
TARGET = (20, 60)  # height and width of the batch: neither side has the ratio of the other
RECTANGLES = [(10, 5, 40, 15), (60, 30, 90, 45)]  # xyxy, of classes 0 and 1


def painted(name: str, chosen: list[int], score: float = 1.0) -> Scene:
    """A black image of WIDE with some rectangles: class 0 in red, class 1 in green."""
    pixels = np.zeros((*WIDE, 3), np.uint8)
    for label in chosen:
        left, top, right, bottom = RECTANGLES[label]
        pixels[top:bottom, left:right, label] = 255
    boxes = [RECTANGLES[label] for label in chosen]
    objects = Objects.build(chosen, boxes, score=[score] * len(chosen))
    return Scene(name, *WIDE, ImageRef(encode(pixels, "png")), objects)


PAINTED = SceneList(
    toy.CATEGORIES[:2],
    [painted("both", [0, 1]), painted("red", [0], 0.25), painted("turned", [1, 0])],
)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_lie_on_what_the_resized_and_mirrored_image_shows(flip):
    read = layout_batches([PAINTED], Draw(3, 3, seed=1), TARGET, ALL, flip)
    height, width = TARGET
    for step in range(4):
        batch = read(step)
        assert (3, 3, *TARGET) == tuple(batch.images.shape)
        for image, labels, boxes in zip(
            batch.images, batch.layouts.labels, batch.layouts.boxes, strict=True
        ):
            for label, box in zip(labels.tolist(), boxes.tolist(), strict=True):
                if label == 0:
                    continue
                shown = np.argwhere(image[label - 1].numpy() > 0)  # rows and columns
                top, left = shown.min(0)
                bottom, right = shown.max(0) + 1
                expected = [left / width, top / height, right / width, bottom / height]
                np.testing.assert_allclose(box, expected, atol=1.01 / height)


def test_scores_stay_with_the_objects_they_belong_to():
    draw = Draw(3, 3, seed=1)
    batch = layout_batches([PAINTED], draw, TARGET, ALL, flip=False)(0)
    for row, index in enumerate(draw(0)):
        expected = PAINTED[index].objects.score.tolist()
        assert expected == batch.layouts.scores[row, : len(expected)].tolist()


def test_objects_that_the_filter_leaves_out_come_into_no_batch():
    scene = painted("both", [0, 1])
    boxes = np.array([[10, 5, 40, 15], [0, 0, 2, 2]], np.float32)
    small = scene.with_objects(Objects.build([0, 1], boxes))
    table = SceneList(PAINTED.categories, [small])
    strict = LayoutFilter(min_area=0.02)
    batch = layout_batches([table], Draw(1, 2, seed=0), TARGET, strict, flip=False)(0)
    assert [[1], [1]] == batch.layouts.labels.tolist()


def test_black_is_minus_one_and_full_color_is_one():
    batch = layout_batches([PAINTED], Draw(3, 3, seed=1), WIDE, ALL, flip=False)(0)
    assert -1 == batch.images.min() and 1 == batch.images.max()
    blue = batch.images[:, 2]
    assert (blue == -1).all()


def test_the_second_table_follows_the_first():
    first = SceneList(PAINTED.categories, PAINTED.scenes[:1])
    second = SceneList(PAINTED.categories, PAINTED.scenes[1:])
    draw = Draw(3, 3, seed=2)
    joined = layout_batches([first, second], draw, TARGET, ALL, flip=True)(5)
    whole = layout_batches([PAINTED], draw, TARGET, ALL, flip=True)(5)
    assert np.array_equal(joined.images, whole.images)
    assert np.array_equal(joined.layouts.boxes, whole.layouts.boxes)


def test_layouts_of_scenes_of_different_sizes_are_shares_each_of_its_own():
    wide = painted("both", [0])
    tall = Scene("tall", 100, 50, ImageRef(), Objects.build([1], [[10, 20, 40, 80]]))
    layouts = collate_layouts([wide, tall])
    np.testing.assert_allclose(layouts.boxes[0, 0], [0.1, 0.1, 0.4, 0.3], rtol=1e-6)
    np.testing.assert_allclose(layouts.boxes[1, 0], [0.2, 0.2, 0.8, 0.8], rtol=1e-6)
    assert [[1], [2]] == layouts.labels.tolist()


def test_masks_are_what_objects_fill_of_their_boxes_and_unknown_without_one():
    flags = np.zeros((1, 50, 100), bool)
    flags[0, 5:15, 10:20] = True  # the left half of the first object's box
    (rle,) = encode_masks(flags)
    boxes = [[10, 5, 30, 15], [40, 5, 60, 25]]
    objects = Objects.build([0, 1], boxes, rle=(rle, None))
    masks = box_masks(objects, (50, 100), 4)
    assert masks[0].tolist() == [[1, 1, 0, 0]] * 4
    assert np.isnan(masks[1]).all()
    assert box_masks(objects, (50, 100), 4, flip=True)[0].tolist() == [[0, 0, 1, 1]] * 4
    scene = Scene("a", 50, 100, ImageRef(), objects)
    layouts = collate_layouts([scene, scene_of([])], mask_side=4)
    assert layouts.masks is not None and layouts.masks.shape == (2, 2, 4, 4)
    np.testing.assert_array_equal(layouts.masks[0], masks)
    assert collate_layouts([scene]).masks is None


def test_batches_come_with_masks_where_a_side_is_given():
    draw = Draw(6, 2, seed=3)
    layouts = layout_batches([TABLE], draw, (32, 32), ALL, flip=True, mask_side=8)(0).layouts
    assert layouts.masks is not None and layouts.masks.shape == (*layouts.labels.shape, 8, 8)
    known = layouts.masks[layouts.labels > 0]
    assert set(known.unique().tolist()) == {0.0, 1.0}
    parts = layout_batches([TABLE], draw, (32, 32), ALL, flip=True, mask_side=8)(0).parts(2)
    assert parts[1].layouts.masks is not None
    np.testing.assert_array_equal(parts[1].layouts.masks[0], layouts.masks[1])


def test_relations_follow_their_objects_through_the_filter() -> None:
    boxes = [[0, 0, 4, 4], [0, 0, 20, 20], [2, 2, 20, 20]]
    objects = Objects.build([0, 0, 0], boxes, id=[5, 8, 3])
    relations = (Relation(3, "on", 8), Relation(5, "on", 8), Relation(8, "unheard of", 3))
    scene = replace(scene_of([]), objects=objects, relations=relations)
    names = ("__in_image__", "under", "on")
    assert relation_rows(scene, objects, names).tolist() == [[2, 2, 1], [0, 2, 1]]
    large = objects.select(np.array([False, True, True]))
    assert relation_rows(scene, large, names).tolist() == [[1, 2, 0]]
    named = replace(scene, relations=(Relation(3, "__in_image__", 8),))
    assert relation_rows(named, objects, names).shape == (0, 3)
    both = collate_layouts([scene, scene_of([])], names=names).relations
    assert both is not None
    assert both.tolist() == [[[2, 2, 1], [0, 2, 1]], [[0, 0, 0], [0, 0, 0]]]
    assert collate_layouts([scene]).relations is None


def test_batches_bring_relations_where_names_are_given() -> None:
    objects = Objects.build([0, 0], [[0, 0, 10, 10], [4, 4, 20, 20]], id=[2, 1])
    scenes = []
    for index in range(len(TABLE)):
        scenes.append(replace(TABLE[index], objects=objects, relations=(Relation(1, "on", 2),)))
    table = SceneList(TABLE.categories, scenes)
    draw = Draw(len(scenes), 2, seed=1)
    batch = layout_batches([table], draw, (16, 16), ALL, flip=False, names=("", "on"))(0)
    assert batch.layouts.relations is not None
    assert batch.layouts.relations.tolist() == [[[1, 1, 0]]] * 2
    assert batch.parts(2)[1].layouts.relations is not None
    assert layout_batches([table], draw, (16, 16), ALL, flip=False)(0).layouts.relations is None

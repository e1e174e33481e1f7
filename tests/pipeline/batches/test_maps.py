"""Map batches: pure functions of the step, with image and maps cut and mirrored alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from synthaug.pipeline.batches.draw import Draw
from synthaug.pipeline.batches.maps import (
    Entries,
    View,
    entry_of,
    map_batches,
    single_maps,
    stretch,
)
from synthaug.pipeline.core import images, masks
from synthaug.pipeline.core import panoptic_maps as panoptic
from synthaug.pipeline.core.errors import DatasetError
from synthaug.pipeline.core.scene import ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.toy import dataset as toy

C = len(toy.CATEGORIES)
TABLE = toy.ToyDataset(toy.Config("train", count=5, size=48))


def batches(view: View, flip: bool = True, rank: int = 0, world: int = 1, tables=(TABLE,)):
    return map_batches(
        list(tables), Draw(sum(map(len, tables)), 4, seed=3), view, flip, rank, world
    )


@pytest.mark.parametrize("view", [View((32, 40)), View((32, 40), "resize_and_crop", (36, 50))])
def test_every_batch_is_a_cut_and_perhaps_mirrored_stretched_scene(view):
    """The image and both maps of each row are found at one and the same place of one scene,
    mirrored alike.
    """
    draw, make = Draw(5, 4, seed=3), batches(view)
    offsets, mirrors = set(), set()
    for step in range(3):
        batch = make(step)
        assert (4, 3, 32, 40) == batch.images.shape and (
            4,
            32,
            40,
        ) == batch.labels.shape == batch.instances.shape
        assert (np.float32, np.int64, np.int64) == (
            batch.images.dtype,
            batch.labels.dtype,
            batch.instances.dtype,
        )
        for row, index in enumerate(draw(step)):
            whole = view.stretched()
            maps = panoptic.maps_of(TABLE[index], C, whole)
            pixels = Image.fromarray(images.decode(TABLE[index])).resize(
                whole[::-1], Image.Resampling.BICUBIC
            )
            image = np.asarray(pixels, np.float64).transpose(2, 0, 1) / 127.5 - 1
            places = [
                (top, left, mirrored)
                for top in range(whole[0] - 31)
                for left in range(whole[1] - 39)
                for mirrored in (False, True)
                if np.allclose(cut(image, top, left, mirrored), batch.images[row], atol=1e-6)
            ]
            assert 1 == len(places)
            assert np.array_equal(cut(maps.labels, *places[0]), batch.labels[row])
            assert np.array_equal(cut(maps.instances, *places[0]), batch.instances[row])
            offsets.add(places[0][:2])
            mirrors.add(places[0][2])
    assert {False, True} == mirrors
    assert (len(offsets) > 6) == (view.mode == "resize_and_crop")


def cut(values, top, left, mirrored):
    part = values[..., top : top + 32, left : left + 40]
    return part[..., ::-1] if mirrored else part


def test_a_batch_depends_on_the_step_alone_and_workers_share_it():
    view = View((32, 32), "resize_and_crop")
    make, again = batches(view), batches(view)
    for step in (7, 2):
        whole = make(step)
        parts = [batches(view, rank=rank, world=2)(step) for rank in range(2)]
        for name in ("images", "labels", "instances"):
            assert np.array_equal(getattr(whole, name), getattr(again(step), name))
            for rank in range(2):
                assert np.array_equal(getattr(whole, name)[rank::2], getattr(parts[rank], name))
    assert not np.array_equal(make(2).images, make(7).images)


def test_the_budget_changes_nothing_but_memory_and_tables_lie_end_to_end():
    other = toy.ToyDataset(toy.Config("val", count=2, size=48))
    kept, bare = (Entries([TABLE, other], (20, 20), budget) for budget in (10**9, 0))
    for index in (6, 0, 6):
        assert all(
            np.array_equal(a, b)
            for a, b in zip(vars(kept[index]).values(), vars(bare[index]).values(), strict=True)
        )
    expected = stretch(images.decode(other[1]), (20, 20))
    assert np.array_equal(expected, kept[6].image)


def test_the_papers_sizes_and_bad_ones():
    assert (286, 286) == View((256, 256), "resize_and_crop").stretched()
    assert (256, 256) == View((256, 256), "resize_and_crop").stretched(training=False)
    assert (256, 512) == View((256, 512)).stretched()
    with pytest.raises(ValueError, match="mode is 'crop'; use one of"):
        View((2, 2), "crop")
    with pytest.raises(ValueError, match="smaller than the crop"):
        View((2, 4), "resize_and_crop", (4, 2))
    bare = toy.ToyDataset(toy.Config("train", count=4, size=48, labels=False))
    with pytest.raises(DatasetError, match="has no panoptic map"):
        batches(View((32, 32)), tables=(bare,))(0)


# ---- Weights of labels, and the order of axes ----


def segmented(height: int = 12, width: int = 20) -> Scene:
    """A scene with two segments.

    Id 1 of class 0 at the left top, id 2 of class 2 at the right bottom.
    """
    ids = np.zeros((height, width), np.int64)
    ids[0:4, 0:6] = 1
    ids[6:12, 10:20] = 2
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[ids == 1, 0] = 255
    pixels[ids == 2, 1] = 255
    objects = Objects.build(
        [0, 2],
        [[0, 0, 6, 4], [10, 6, 20, 12]],
        id=[1, 2],
        score=[0.25, 0.75],
        source=["pseudo"] * 2,
    )
    image = ImageRef(images.encode(pixels, "png"))
    return Scene("a", height, width, image, objects, ImageRef(masks.panoptic_png(ids)))


def batch_of(scene: Scene, view: View, flip: bool = False):
    table = SceneList(toy.CATEGORIES, [scene])
    return map_batches([table], Draw(1, 4, seed=3), view, flip)(0)


def test_a_pixel_weighs_as_much_as_the_score_of_its_object_and_unlabelled_ones_weigh_one():
    batch = batch_of(segmented(), View((12, 20)))
    expected = np.ones((12, 20), np.float32)
    expected[0:4, 0:6] = 0.25
    expected[6:12, 10:20] = 0.75
    for weights in batch.weights:
        np.testing.assert_array_equal(expected, weights)


def test_weights_labels_and_colors_are_mirrored_and_cut_together():
    batch = batch_of(segmented(), View((10, 16), "resize_and_crop", (12, 20)), flip=True)
    assert (4, 3, 10, 16) == batch.images.shape
    red, green = batch.images[:, 0] == 1, batch.images[:, 1] == 1
    np.testing.assert_array_equal(red, batch.labels == 0)
    np.testing.assert_array_equal(green, batch.labels == 2)
    np.testing.assert_array_equal(red, batch.weights == 0.25)
    np.testing.assert_array_equal(green, batch.weights == 0.75)
    assert red.any() and green.any()


def test_two_objects_have_two_instances():
    batch = batch_of(segmented(), View((12, 20)))
    first = set(batch.instances[batch.labels == 0].tolist())
    second = set(batch.instances[batch.labels == 2].tolist())
    assert 1 == len(first) == len(second)
    assert first != second


def test_labels_that_are_all_sure_have_no_weights():
    scene = segmented()
    sure = scene.with_objects(replace(scene.objects, score=np.ones(2, np.float32)))
    batch = batch_of(sure, View((12, 20)))
    assert batch.weights is None
    assert batch.tensors(len(toy.CATEGORIES)).weights is None


def test_tensors_are_the_arrays():
    batch = batch_of(segmented(), View((12, 20)))
    tensors = batch.tensors(len(toy.CATEGORIES))
    np.testing.assert_array_equal(batch.images, tensors.images)
    np.testing.assert_array_equal(batch.labels, tensors.maps.labels)
    np.testing.assert_array_equal(batch.instances, tensors.maps.instances)
    np.testing.assert_array_equal(batch.weights, tensors.weights)


def test_a_crop_starts_at_its_row_and_column_and_is_mirrored_after():
    entry = entry_of(segmented(), len(toy.CATEGORIES), (12, 20))
    part = entry.crop(5, 8, (6, 9), mirror=False)
    np.testing.assert_array_equal(entry.image[5:11, 8:17], part.image)
    np.testing.assert_array_equal(entry.weights[5:11, 8:17], part.weights)
    mirrored = entry.crop(5, 8, (6, 9), mirror=True)
    np.testing.assert_array_equal(part.labels[:, ::-1], mirrored.labels)
    np.testing.assert_array_equal(part.image[:, ::-1], mirrored.image)


def test_memory_counts_weights_only_where_they_differ():
    unsure = entry_of(segmented(), len(toy.CATEGORIES), (12, 20))
    scene = segmented()
    objects = replace(scene.objects, score=np.ones(2, np.float32))
    sure = entry_of(scene.with_objects(objects), len(toy.CATEGORIES), (12, 20))
    assert 4 * 12 * 20 == unsure.nbytes - sure.nbytes
    assert 12 * 20 * (3 + 4 + 4) == sure.nbytes


def test_crops_of_a_step_differ_between_images_and_reach_both_edges():
    view = View((46, 46), "resize_and_crop", (48, 48))
    red = images.encode(np.arange(48 * 48, dtype=np.uint8).reshape(48, 48), "png")
    ids = masks.panoptic_png(np.ones((48, 48), np.int64))
    objects = Objects.build([0], [[0, 0, 48, 48]])
    scene = Scene("a", 48, 48, ImageRef(red), objects, ImageRef(ids))
    table = SceneList(toy.CATEGORIES, [scene])
    make = map_batches([table], Draw(1, 8, seed=3), view, flip=False)
    whole = images.decode(scene)[:, :, 0].astype(np.float64) / 127.5 - 1
    corners = set()
    for step in range(8):
        for image in make(step).images[:, 0]:
            for top in range(3):
                for left in range(3):
                    part = whole[top : top + 46, left : left + 46]
                    if np.allclose(part, image, atol=1e-6):
                        corners.add((top, left))
    assert 9 == len(corners)


def test_a_batch_says_which_images_of_the_tables_it_holds() -> None:
    draw = Draw(2 * len(TABLE), 4, seed=3)
    make = map_batches([TABLE, TABLE], draw, View((32, 40)), True)
    assert [tuple(draw(step)) for step in range(3)] == [make(step).sources for step in range(3)]
    tensors = make(0).tensors(C)
    assert tensors.sources is not None
    assert draw(0) == tensors.sources.tolist()
    parts = [part.sources for part in tensors.parts(2)]
    assert draw(0) == torch.cat([part for part in parts if part is not None]).tolist()


def test_single_maps_are_all_images_in_order() -> None:
    singles = list(single_maps(TABLE, (32, 40)))
    assert [(number,) for number in range(len(TABLE))] == [single.sources for single in singles]
    for scene, single in zip(TABLE, singles, strict=True):
        np.testing.assert_array_equal(single.labels[0], panoptic.maps_of(scene, C, (32, 40)).labels)

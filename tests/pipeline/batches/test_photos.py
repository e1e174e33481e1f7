"""Batches of photos.

A function of the step, parts of workers, and photos that nothing is learned from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.pipeline.batches.draw import Draw, draw_for
from synthaug.pipeline.batches.photos import HeldOut, held_out_indices, photo_batches
from synthaug.pipeline.core.images import decode, encode
from synthaug.pipeline.core.masks import decode_all, encode_with_boxes
from synthaug.pipeline.core.scene import Category, Dataset, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.formats.reference import open_dataset

HELD_OUT = HeldOut(share=0.25, every=3)


@pytest.fixture(scope="module")
def table() -> Dataset:
    toy = open_dataset("toy:train?count=12", Path(), key="data.labelled")
    return SceneList(toy.categories, [wide(scene) for scene in toy])


def wide(scene: Scene) -> Scene:
    """Return the upper part of a scene: what is right on squares alone is seen."""
    height = scene.width // 2
    image = ImageRef(encode(decode(scene)[:height], "png"))
    masks = decode_all(scene.objects, scene.size)[:, :height]
    rles, boxes = encode_with_boxes(masks)
    shown = masks.any((1, 2))
    objects = replace(scene.objects, boxes=boxes, rle=tuple(rles)).select(shown)
    return replace(scene, height=height, image=image, objects=objects, panoptic=None)


def numbers(table: Dataset, images: list[np.ndarray]) -> list[int]:
    """Return which scenes of the table these pixels are."""
    known = [decode(scene) for scene in table]
    return [
        next(i for i, own in enumerate(known) if np.array_equal(own, image)) for image in images
    ]


def test_photos_have_their_own_things_and_no_crowds(table: Dataset) -> None:
    batch = photo_batches([table], draw_for([table], 4, 5, "uniform", 0.0), HELD_OUT, False)(1)
    for number, photo in zip(
        numbers(table, [p.image for p in batch.photos]), batch.photos, strict=True
    ):
        objects = table[number].objects
        expected = objects.select(objects.isthing & ~objects.iscrowd)
        assert photo.categories.tolist() == expected.category.tolist()
        assert np.array_equal(photo.boxes, expected.boxes)


def test_nothing_is_learned_from_held_out_photos(table: Dataset) -> None:
    batches = photo_batches([table], draw_for([table], 4, 5, "uniform", 0.0), HELD_OUT, False)
    apart = numbers(table, [photo.image for photo in batches(0).held_out])
    assert len(apart) == 3
    for step in range(12):
        learned = numbers(table, [photo.image for photo in batches(step).photos])
        assert not set(learned) & set(apart)


def test_all_other_photos_are_learned_from(table: Dataset) -> None:
    batches = photo_batches([table], draw_for([table], 4, 5, "uniform", 0.0), HELD_OUT, False)
    seen = set()
    for step in range(6):
        seen |= set(numbers(table, [photo.image for photo in batches(step).photos]))
    assert len(seen) == 12 - 3


def test_held_out_photos_come_now_and_then_and_are_the_same(table: Dataset) -> None:
    batches = photo_batches([table], draw_for([table], 4, 5, "uniform", 0.0), HELD_OUT, False)
    counts = [len(batches(step).held_out) for step in range(7)]
    assert counts == [3, 0, 0, 3, 0, 0, 3]
    first, later = batches(0).held_out, batches(6).held_out
    for one, other in zip(first, later, strict=True):
        assert np.array_equal(one.image, other.image)


def test_workers_share_a_batch_without_overlap(table: Dataset) -> None:
    draw = draw_for([table], 4, 5, "uniform", 0.0)
    whole = photo_batches([table], draw, HELD_OUT, False)(2).photos
    parts = [photo_batches([table], draw, HELD_OUT, False, rank, 2)(2).photos for rank in (0, 1)]
    together = [photo for pair in zip(*parts, strict=True) for photo in pair]
    for one, other in zip(whole, together, strict=True):
        assert np.array_equal(one.image, other.image)


def test_mirrored_photos_have_mirrored_boxes(table: Dataset) -> None:
    draw = draw_for([table], 8, 5, "uniform", 0.0)
    plain = photo_batches([table], draw, HELD_OUT, False)(1).photos
    flipped = photo_batches([table], draw, HELD_OUT, True)(1).photos
    turned = 0
    for one, other in zip(plain, flipped, strict=True):
        if np.array_equal(one.image, other.image):
            assert np.array_equal(one.boxes, other.boxes)
            continue
        turned += 1
        assert np.array_equal(one.image[:, ::-1], other.image)
        width = one.image.shape[1]
        np.testing.assert_allclose(one.boxes[:, 0] + other.boxes[:, 2], width, atol=1e-4)
        assert np.array_equal(one.boxes[:, [1, 3]], other.boxes[:, [1, 3]])
    assert 0 < turned < 8


def test_few_photos_are_all_learned_from() -> None:
    assert held_out_indices(3, HELD_OUT, seed=1) == []


def test_which_photos_are_held_out_depends_on_the_seed_alone() -> None:
    assert held_out_indices(40, HELD_OUT, 1) == held_out_indices(40, HELD_OUT, 1)
    assert held_out_indices(40, HELD_OUT, 1) != held_out_indices(40, HELD_OUT, 2)
    assert len(set(held_out_indices(40, HELD_OUT, 1))) == 10
    assert len(held_out_indices(10_000, HELD_OUT, 1)) == HELD_OUT.most


def test_a_draw_of_one_photo_works_beside_held_out_ones(table: Dataset) -> None:
    """The last photos of the table may be held out: then the first that is not comes next."""
    weights = np.zeros(12)
    last = max(held_out_indices(12, HELD_OUT, 5))
    weights[last] = 1.0
    batch = photo_batches([table], Draw(12, 2, 5, weights), HELD_OUT, False)(1)
    assert len(batch.photos) == 2


def test_a_balanced_photo_knows_the_class_that_it_was_drawn_for(table: Dataset) -> None:
    draw = draw_for([table], 16, 5, "class_balanced", 0.0)
    photos = photo_batches([table], draw, HeldOut(share=0.0), False)(1).photos
    things = {label for label, category in enumerate(table.categories) if category.isthing}
    for photo, label in zip(photos, draw.drawn_for(1), strict=True):
        assert photo.drawn_for == label
        assert label in photo.categories or label not in things
    uniform = draw_for([table], 16, 5, "uniform", 0.0)
    assert uniform.drawn_for(1) == [-1] * 16


def test_masks_are_those_of_the_objects_mirrored_with_the_photo(table: Dataset) -> None:
    draw = draw_for([table], 4, 5, "uniform", 0.0)
    for flip in (False, True):
        batches = photo_batches([table], draw, HELD_OUT, flip)
        photos = [photo for step in range(3) for photo in batches(step).photos]
        for photo in photos:
            assert photo.mask_of is not None
            masks = [photo.mask_of(number) for number in range(len(photo.boxes))]
            there = [mask for mask in masks if mask is not None]
            assert len(there) == len(photo.boxes)  # the toy knows all masks
            for mask, box in zip(there, photo.boxes, strict=True):
                rows, columns = np.nonzero(mask)
                tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.allclose(tight, box, atol=1.0)


@pytest.mark.parametrize("flip", [False, True])
def test_an_object_without_a_mask_has_that_of_its_color_mirrored_with_the_photo(flip: bool) -> None:
    rows, columns = np.mgrid[:40, :60] + 0.5
    disc = (rows - 20) ** 2 + (columns - 18) ** 2 <= 81
    pixels = np.where(disc[..., None], 60, 200).astype(np.uint8).repeat(3, 2)
    boxes = [[9, 11, 27, 29], [40, 5, 52, 17]]  # around the disc, and around nothing
    objects = Objects.build([0, 0], boxes)
    image = ImageRef(encode(pixels, "png"))
    scenes = [Scene(f"disc-{k}", 40, 60, image, objects) for k in range(8)]
    batches = photo_batches(
        [SceneList((Category(1, "disc"),), scenes)], Draw(8, 8, 5), HeldOut(share=0.0), flip
    )
    photos = batches(1).photos
    for photo in photos:
        assert photo.mask_of is not None
        mask = photo.mask_of(0)
        is_dark = photo.image[..., 0] == 60
        assert mask is not None and np.array_equal(mask, is_dark)
        assert photo.mask_of(1) is None
    mirrored = sum(bool(photo.boxes[0, 0] > 30) for photo in photos)
    assert 0 < mirrored < 8 if flip else mirrored == 0


def test_which_photos_are_held_out_is_decided_by_the_seed_of_the_draw(table: Dataset) -> None:
    found = []
    for seed in (5, 6):
        batches = photo_batches(
            [table], draw_for([table], 4, seed, "uniform", 0.0), HELD_OUT, False
        )
        apart = numbers(table, [photo.image for photo in batches(0).held_out])
        assert apart == held_out_indices(12, HELD_OUT, seed)
        found.append(apart)
    assert found[0] != found[1]

"""The toy format: exact annotation, a long tail, and scenes that depend on their identity alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from synthaug.pipeline.core.scene import ImageRef, Scene
from synthaug.pipeline.formats.toy.dataset import SPLITS, Config, ToyDataset, read
from synthaug.pipeline.formats.toy.world import STUFF, THINGS


def toy(**options: Any) -> ToyDataset:
    return read(Config(**options), Path())


def pixels(ref: ImageRef | None) -> NDArray[np.uint8]:
    assert ref is not None
    assert ref.data is not None
    return np.asarray(Image.open(io.BytesIO(ref.data)).convert("RGB"))


def masks(scene: Scene) -> NDArray[np.bool_]:
    """Decoded masks [N, H, W]."""
    size = [scene.height, scene.width]
    return np.stack(
        [
            coco_mask.decode({"size": size, "counts": code}).astype(bool)
            for code in scene.objects.rle
        ]
    )


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    dataset = toy()
    return [dataset[i] for i in range(60)]


def test_same_index_gives_the_same_bytes_in_another_dataset_object(scenes: list[Scene]) -> None:
    again = toy(count=9)[7]
    assert scenes[7].image == again.image
    assert scenes[7].panoptic == again.panoptic
    assert scenes[7].objects.rle == again.objects.rle


def test_indices_splits_and_seeds_show_different_scenes() -> None:
    shown = {toy(path=split)[i].image.data for split in SPLITS for i in range(20)}
    shown |= {toy(seed=1)[i].image.data for i in range(20)}
    assert len(shown) == 100


def test_length_is_the_count_or_the_default_of_the_split() -> None:
    assert len(toy()) == 1600
    assert len(toy(path="val")) == 300
    assert len(toy(count=17)) == 17
    with pytest.raises(IndexError):
        toy(count=17)[17]


def test_scene_names_its_split_and_index() -> None:
    scene = toy(path="val", size=80)[12]
    assert scene.image_id == "toy-val-00000012"
    assert scene.image.path == "toy-val-00000012.png"
    assert (80, 80, 3) == (scene.height, scene.width, 3) == pixels(scene.image).shape


@pytest.mark.parametrize("size", [48, 64, 150])
def test_panoptic_agrees_with_the_masks_and_covers_the_image(size: int) -> None:
    for index in range(8):
        scene = toy(size=size)[index]
        ids = pixels(scene.panoptic).astype(np.int64) @ (1, 256, 65536)
        decoded = masks(scene)
        assert (decoded.sum(0) == 1).all()
        np.testing.assert_array_equal(scene.objects.id[decoded.argmax(0)], ids)


def test_ids_survive_the_encoding_far_into_the_table() -> None:
    scene = toy(count=1_000_000)[999_999]
    ids = pixels(scene.panoptic).astype(np.int64) @ (1, 256, 65536)
    assert set(scene.objects.id.tolist()) == set(ids.ravel().tolist())
    assert ids.min() > 65536


def test_boxes_and_areas_are_those_of_the_masks(scenes: list[Scene]) -> None:
    for scene in scenes:
        for mask, box, area in zip(
            masks(scene), scene.objects.boxes, scene.objects.area, strict=True
        ):
            y, x = np.nonzero(mask)
            assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == box.tolist()
            assert len(x) == area


def test_ids_are_positive_and_unique_in_the_table(scenes: list[Scene]) -> None:
    ids = np.concatenate([scene.objects.id for scene in scenes])
    assert len(ids) == len(np.unique(ids))
    assert ids.min() == 1


def test_categories_say_what_is_thing_and_what_is_stuff(scenes: list[Scene]) -> None:
    categories = toy().categories
    assert len(THINGS) == sum(category.isthing for category in categories) >= 8
    assert [*THINGS, *STUFF] == [category.name for category in categories]
    for scene in scenes:
        isthing = [categories[k].isthing for k in scene.objects.category]
        assert isthing == scene.objects.isthing.tolist()
        stuff = [categories[k].name for k in scene.objects.category if not categories[k].isthing]
        assert {"sky", "grass"} <= set(stuff)
        assert len(stuff) == len(set(stuff))


def test_every_thing_is_big_enough_to_be_seen(scenes: list[Scene]) -> None:
    things = [scene.objects.select(scene.objects.isthing) for scene in scenes]
    boxes = np.concatenate([thing.boxes for thing in things])
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 7
    assert min(thing.area.min() for thing in things) > 0.005 * 64 * 64


def test_things_have_a_long_tail() -> None:
    dataset = toy()
    worlds = [dataset.world(index) for index in range(1500)]
    count = np.bincount(
        [thing.category for world in worlds for thing in world.things], minlength=len(THINGS)
    )
    assert 30 <= count[0] / count[-1] <= 80
    assert (np.diff(count) < 0).all()
    assert count[-1] * 1600 / 1500 >= 40
    assert 3 <= count.sum() / len(worlds) <= 4
    assert {1, 7} == {
        min(len(world.things) for world in worlds),
        max(len(world.things) for world in worlds),
    }


def test_number_of_things_can_be_chosen() -> None:
    dataset = toy(min_objects=2, max_objects=3)
    assert {2, 3} == {len(dataset.world(index).things) for index in range(60)}


def test_size_changes_the_resolution_only() -> None:
    small, large = toy(size=64)[5], toy(size=256)[5]
    assert small.objects.category.tolist() == large.objects.category.tolist()
    np.testing.assert_allclose(4 * small.objects.boxes, large.objects.boxes, atol=7)
    reduced = np.asarray(
        Image.fromarray(pixels(large.image)).resize((64, 64), Image.Resampling.BOX), float
    )
    assert np.abs(reduced - pixels(small.image)).mean() < 6


def test_masks_lie_on_the_pixels_they_name() -> None:
    """A shift of the masks by a few pixels must fit the image worse.

    Inside and outside differ most in place.
    """
    dataset = toy()
    gaps: dict[int, list[float]] = {0: [], 6: []}
    for index in range(200):
        if not any(THINGS[thing.category] == "balloon" for thing in dataset.world(index).things):
            continue
        scene = dataset[index]
        image = pixels(scene.image).astype(float)
        for mask, category in zip(masks(scene), scene.objects.category, strict=True):
            if category == THINGS.index("balloon"):
                for shift, found in gaps.items():
                    moved = np.roll(mask, shift, axis=1)
                    near = np.roll(moved, 14, axis=1) | np.roll(moved, -14, axis=1)
                    found.append(np.abs(image[moved].mean(0) - image[near & ~mask].mean(0)).sum())
    assert len(gaps[0]) >= 5
    assert np.mean(gaps[0]) > 80
    assert np.mean(gaps[0]) > 1.2 * np.mean(gaps[6])


def test_without_labels_the_picture_stays_and_the_objects_go() -> None:
    bare, full = toy(path="unlabelled", labels=False)[3], toy(path="unlabelled")[3]
    assert len(bare.objects) == 0
    assert bare.panoptic is None
    assert full.image == bare.image
    assert len(full.objects) > 0


def test_fingerprint_changes_with_what_changes_the_content() -> None:
    same = toy(count=1600).fingerprint()
    assert same == toy().fingerprint()
    others = [
        toy(seed=1),
        toy(size=65),
        toy(path="unlabelled"),
        toy(labels=False),
        toy(count=9),
        toy(max_objects=3),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == 7


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"path": "trian"}, "trian"),
        ({"size": 47}, "size"),
        ({"size": 513}, "size"),
        ({"count": -1}, "count"),
        ({"count": 1_000_001}, "count"),
        ({"min_objects": 0}, "min_objects"),
        ({"min_objects": 4, "max_objects": 3}, "max_objects"),
        ({"max_objects": 8}, "max_objects"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        toy(**options)

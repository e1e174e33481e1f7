"""Crops for prototypes: which images, which boxes, and that they hold what they are said to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from synthaug.pipeline.core.images import encode
from synthaug.pipeline.core.scene import Category, ImageRef, Objects, Scene, SceneList
from synthaug.pipeline.scores.detection.evaluator import overlaps
from synthaug.pipeline.verification import crops as module
from synthaug.pipeline.verification.crops import Crop, features_of, labelled_crops
from synthaug.pipeline.verification.prototypes import BACKGROUND, PART

CATEGORIES = (Category(1, "cat"), Category(2, "dog"), Category(3, "sky", isthing=False))
THINGS = np.array([True, True, False])
CAT, DOG, SKY = range(3)
SIZE = 100


def scene(number: int, labels: Sequence[int], crowds: Sequence[int] = ()) -> Scene:
    """Return an image with boxes 10 wide in a row along its upper border."""
    boxes = [(11 * k, 0, 11 * k + 10, 10) for k in range(len(labels))]
    crowd = [k in crowds for k in range(len(labels))]
    objects = Objects.build(list(labels), boxes, iscrowd=crowd)
    pixels = np.full((SIZE, SIZE, 3), number % 256, np.uint8)
    return Scene(f"{number}", SIZE, SIZE, ImageRef(encode(pixels, "png")), objects)


def table(*labels: Sequence[int]) -> SceneList:
    return SceneList(CATEGORIES, [scene(number, own) for number, own in enumerate(labels)])


def kinds(crops: dict[int, list[Crop]]) -> Counter[int]:
    return Counter(crop.kind for own in crops.values() for crop in own)


def test_things_parts_of_judged_ones_and_background_are_cut() -> None:
    found = kinds(labelled_crops(table([CAT, DOG, SKY]), [CAT], THINGS, seed=0))
    assert 1 == found[CAT] == found[DOG] == found[PART - CAT]
    assert 2 == found[BACKGROUND]
    assert 0 == found[SKY], "stuff is no thing"
    assert 0 == found[PART - DOG], "a class that nobody judges needs no parts"


def test_parts_of_each_judged_class_are_a_kind_of_their_own() -> None:
    found = kinds(labelled_crops(table([CAT, DOG, DOG]), [CAT, DOG], THINGS, seed=0))
    assert (1, 2) == (found[PART - CAT], found[PART - DOG])


def test_a_part_overlaps_its_object_and_background_no_thing() -> None:
    scenes = table(*[[CAT, DOG]] * 20)
    for index, own in labelled_crops(scenes, [CAT], THINGS, seed=1).items():
        boxes = scenes[index].objects.boxes
        for crop in own:
            iou = overlaps(crop.box[None], boxes, np.zeros(len(boxes), bool))[0]
            if crop.kind == BACKGROUND:
                assert iou.max() < 0.05
            elif crop.kind == PART - CAT:
                assert 0.1 < iou[0] < 0.41
            else:
                assert 1 == iou[crop.kind]
            assert crop.box.dtype == np.float32


def test_crowds_are_no_objects() -> None:
    scenes = SceneList(CATEGORIES, [scene(0, [CAT, DOG], crowds=[0])])
    found = kinds(labelled_crops(scenes, [CAT], THINGS, seed=0))
    assert (0, 1) == (found[CAT], found[DOG])
    alone = SceneList(CATEGORIES, [scene(0, [CAT], crowds=[0])])
    assert {} == labelled_crops(alone, [CAT], THINGS, seed=0)


def test_images_of_a_rare_class_are_all_taken_of_the_others_some() -> None:
    rare = [7, 333, 640]
    scenes = table(*([DOG if k in rare else CAT] for k in range(700)))
    chosen = labelled_crops(scenes, [DOG], THINGS, seed=0)
    assert set(rare) <= set(chosen)
    assert module.OTHER_IMAGES <= len(chosen) <= module.OTHER_IMAGES + len(rare)
    indices = sorted(chosen)
    assert max(np.diff(indices)) <= 7, "evenly spaced"


def test_of_a_frequent_class_only_so_many_images_are_taken() -> None:
    scenes = table(*[[CAT]] * 500)
    judged = labelled_crops(scenes, [CAT], THINGS, seed=0)
    assert len(judged) <= module.IMAGES_PER_CLASS + module.OTHER_IMAGES


def test_objects_of_judged_classes_come_first_where_an_image_has_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OBJECTS", 2)
    found = kinds(labelled_crops(table([DOG, DOG, CAT, DOG]), [CAT], THINGS, seed=0))
    assert (1, 1) == (found[CAT], found[DOG])


def test_an_image_that_is_full_has_no_background() -> None:
    full = Objects.build([CAT], [(0, 0, SIZE, SIZE)])
    scenes = SceneList(CATEGORIES, [Scene("a", SIZE, SIZE, ImageRef(None, None), full)])
    assert 0 == kinds(labelled_crops(scenes, [CAT], THINGS, seed=0))[BACKGROUND]


def test_crops_are_a_function_of_the_seed() -> None:
    def cut(seed: int) -> list[tuple[int, list[float]]]:
        own = labelled_crops(table([CAT, DOG]), [CAT, DOG], THINGS, seed)[0]
        return [(crop.kind, crop.box.tolist()) for crop in own]

    assert cut(3) == cut(3)
    assert cut(3) != cut(4)


class Brightness:
    """Its features of a box are the mean color of the image and the box's left edge."""

    def __init__(self) -> None:
        self.images = 0

    def box_features(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        self.images += len(images)
        (image,), (own,) = images, boxes
        color = np.full(len(own), image.mean(), np.float32)
        return [np.stack([color, own[:, 0]], 1)]


def test_features_belong_to_the_boxes_of_their_own_image() -> None:
    scenes = table([CAT], [DOG], [CAT])
    detector = Brightness()
    wanted = {2: [np.array([5, 0, 9, 9], np.float32), np.array([1, 0, 9, 9])], 0: [np.arange(4.0)]}
    found = features_of(detector, scenes, wanted)
    assert [0, 2] == list(found)
    assert [[2, 5], [2, 1]] == found[2].tolist()
    assert [[0, 0]] == found[0].tolist()
    assert 2 == detector.images, "image 1 is not read"
